"""Strings that must not be printed by accident."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn, SupportsIndex


class Secret:
    """A string that shows as ``***`` wherever it is formatted; :meth:`reveal` is the only way out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for an Authorization header, a file of mode 0600, and nothing else."""
        return self._text

    def digest(self) -> str:
        """SHA-256 in hexadecimal: what may be stored in place of the text."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def matches(self, digest: str) -> bool:
        """Whether ``digest`` is this secret's, compared in constant time."""
        return hmac.compare_digest(self.digest(), digest)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._bytes(), other._bytes())

    def __hash__(self) -> int:
        return hash(self.digest())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: its text would be written out")

    def _bytes(self) -> bytes:
        # What comes out of JSON may hold half a surrogate pair; the encoder's error would show the text.
        return self._text.encode("utf-8", "surrogatepass")
