"""Tokens, private keys and webhook secrets: read from a private file or an environment variable, nowhere else."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from slurm_gha.config.mistakes import shown
from slurm_gha.domain.secret import Secret

_TOKEN = re.compile(r"[!-~]{1,4096}")
_LARGEST = 16_384
_LONGEST_SECRET = 4096


def token_of(text: str, source: str) -> Secret:
    """The token in ``text``; raises ValueError, which names ``source`` and never repeats the text."""
    token = text.strip()
    if not token:
        raise ValueError(f"{source} is empty; it must hold the token")
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(f"{source} must hold one token and nothing else: one line of visible ASCII characters")
    return Secret(token)


def webhook_secret_of(text: str, source: str) -> Secret:
    """The secret in ``text``: one line, in which blanks count; raises ValueError, which never repeats the text."""
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret.strip():
        raise ValueError(f"{source} is empty; it must hold the webhook's secret")
    if not secret.isprintable() or len(secret) > _LONGEST_SECRET:
        raise ValueError(f"{source} must hold one secret and nothing else: one line of printable characters")
    return Secret(secret)


def read_token_file(path: Path, *, uid: int | None = None) -> Secret:
    """The token in a file that is closed to others; see :func:`read_private`."""
    called = shown(path, longest=300)
    try:
        text = read_private(path, uid=uid).decode("ascii")
    except UnicodeDecodeError:
        text = "\0"
    return token_of(text, called)


def read_key_file(path: Path, *, uid: int | None = None) -> Secret:
    """The RSA private key (PEM) in a file that is closed to others; see :func:`read_private`."""
    from cryptography.exceptions import (
        UnsupportedAlgorithm,
    )  # here, for they take long to load, and only Apps need them
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    called = shown(path, longest=300)
    content = read_private(path, uid=uid)
    try:
        key = load_pem_private_key(content, password=None)
        text = content.decode("ascii")
    except TypeError:
        raise ValueError(
            f"{called} is encrypted; it must hold the key as GitHub hands it out, without a passphrase"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            f"{called} must hold the App's private key, the PEM file as GitHub hands it out "
            "(-----BEGIN RSA PRIVATE KEY-----)"
        ) from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < 2048:
        raise ValueError(f"{called} must hold an RSA key of at least 2048 bits, the PEM file as GitHub hands it out")
    return Secret(text)


def read_private(path: Path, *, uid: int | None = None) -> bytes:
    """The content of a file that is closed to others; ValueError says what to do, and shows nothing of it.

    Anybody's reading or writing is refused, and the group's writing. The group may read a file that belongs to
    somebody else: that is how a service reads root's file of mode 0640 (and what systemd's credentials look like).
    ``uid``: the user on whose behalf it is read, this process's by default.
    """
    called = shown(path, longest=300)
    try:
        # Not to hang on a pipe, and to ask the file that was opened, not one put in its place.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"{called} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{called} is not a file")
        mode = stat.S_IMODE(state.st_mode)
        if mode & 0o007:
            raise ValueError(f"{called} is open to every user (mode {mode:04o}); make it private: chmod 600 {called}")
        if mode & 0o030 or (mode & 0o040 and state.st_uid == (os.getuid() if uid is None else uid) != 0):
            raise ValueError(f"{called} is open to its group (mode {mode:04o}); make it private: chmod 600 {called}")
        try:
            return file.read(_LARGEST)
        except OSError as error:
            raise ValueError(f"{called} cannot be read: {error.strerror}") from None


def read_webhook_secret_file(path: Path) -> Secret:
    """The webhook's secret in a file that is closed to others; see :func:`read_private`."""
    try:
        text = read_private(path).decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    return webhook_secret_of(text, shown(path, longest=300))


def read_token_variable(name: str, environ: Mapping[str, str]) -> Secret:
    """The token in an environment variable."""
    return token_of(*_variable(name, environ, "the token"))


def read_webhook_secret_variable(name: str, environ: Mapping[str, str]) -> Secret:
    """The webhook's secret in an environment variable."""
    return webhook_secret_of(*_variable(name, environ, "the webhook's secret"))


def _variable(name: str, environ: Mapping[str, str], what: str) -> tuple[str, str]:
    called = f"the environment variable {shown(name)}"  # in case it is the secret, not its variable's name
    if name not in environ:
        raise ValueError(f"{called} is not set; it must hold {what}")
    return environ[name], called
