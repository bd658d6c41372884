"""JIT configurations as GitHub hands them out: base64 of a JSON object of base64 files, with a real RSA key."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

KEY_BITS = 2048


class Keys:
    """RSA keys for runners. One pair serves all unless ``own`` is set: making one takes some 50 ms."""

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self._shared: tuple[rsa.RSAPublicKey, str] | None = None

    def key(self) -> tuple[rsa.RSAPublicKey, str]:
        """A public key, and the private one as the text of ``.credentials_rsaparams``."""
        if self._shared is None or self._own:
            private = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
            self._shared = (private.public_key(), json.dumps(_parameters(private)))
        return self._shared


def _parameters(private: rsa.RSAPrivateKey) -> Mapping[str, str]:
    numbers = private.private_numbers()
    half, whole = KEY_BITS // 16, KEY_BITS // 8

    def text(number: int, size: int) -> str:
        return base64.b64encode(number.to_bytes(size, "big")).decode()

    return {
        "d": text(numbers.d, whole),
        "dp": text(numbers.dmp1, half),
        "dq": text(numbers.dmq1, half),
        "exponent": base64.b64encode((65537).to_bytes(3, "big")).decode(),
        "inverseQ": text(numbers.iqmp, half),
        "modulus": text(numbers.public_numbers.n, whole),
        "p": text(numbers.p, half),
        "q": text(numbers.q, half),
    }


def encode(runner: Mapping[str, Any], credentials: Mapping[str, Any], rsa_parameters: str) -> str:
    """The text that ``run.sh --jitconfig`` takes."""
    files = {
        ".runner": json.dumps(runner),
        ".credentials": json.dumps(credentials),
        ".credentials_rsaparams": rsa_parameters,
    }
    packed = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return base64.b64encode(json.dumps(packed).encode()).decode()
