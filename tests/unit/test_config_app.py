"""Settings of GitHub Apps, keys, proxies and every kind of address: what is accepted, and what is said otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from slurm_gha.config.addresses import parse_scope_url
from slurm_gha.config.loading import examine, examine_text, load_with_tokens
from slurm_gha.config.mistakes import ConfigError
from slurm_gha.domain.scope import ScopeKind
from slurm_gha.testing.github.apps import new_key

PRIVATE, PUBLIC = new_key()
SECRET_LINE = PRIVATE.splitlines()[3]


def text(*lines: str, more: str = "") -> str:
    """A configuration whose scope has these lines."""
    scope = "\n".join(lines)
    return f"""
[service]
installation = "lab1"
node_url = "https://head:8480"
[slurm]
output_dir = "/shared/out"
[[scope]]
name = "one"
url = "https://github.com/octo"
{scope}
{more}
[[pool]]
name = "small"
labels = ["small"]
runner_dir = "/opt/runner"
slurm = {{ cpus = 1, time = "30m" }}
"""


def complaints(*lines: str, more: str = "") -> list[str]:
    return [str(mistake) for mistake in examine_text(text(*lines, more=more), "c.toml").mistakes]


def with_key(place: Path, content: str | bytes, mode: int = 0o600) -> Path:
    key = place / "app.pem"
    key.touch(mode=mode)
    key.write_bytes(content if isinstance(content, bytes) else content.encode())
    path = place / "c.toml"
    path.write_text(text("app_id = 4711", f'private_key_file = "{key}"'))
    return path


@pytest.mark.parametrize(("written", "read"), [("4711", "4711"), ('"4711"', "4711"), ('"Iv23liAbC.9"', "Iv23liAbC.9")])
def test_an_app_and_its_key(tmp_path: Path, written: str, read: str) -> None:
    path = with_key(tmp_path, PRIVATE)
    path.write_text(path.read_text().replace("4711", written, 1))
    settings, secrets = load_with_tokens(path)
    assert settings.scope_tables[0].app_id == read
    assert secrets["one"].reveal() == PRIVATE
    assert SECRET_LINE not in repr(settings) + repr(secrets)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["app_id = 1"], "scope[one].app_id: needs private_key_file as well"),
        (['private_key_file = "/k"'], "scope[one].private_key_file: needs app_id as well"),
        (['token_env = "T"', "installation_id = 5"], "scope[one].installation_id: needs app_id as well"),
        (
            ["app_id = 1", 'private_key_file = "/k"', 'token_env = "T"'],
            "app_id: is too much beside token_env; keep one",
        ),
        (['token_env = "T"', 'token_file = "/t"'], "token_env: is too much beside token_file; keep one of the two"),
        (["app_id = 0", 'private_key_file = "/k"'], "app_id: must be the App's number, or its client ID such as"),
        (["app_id = true", 'private_key_file = "/k"'], "app_id: must be the App's number"),
        (['app_id = "a b"', 'private_key_file = "/k"'], "app_id: must be the App's number"),
        (["app_id = 1", 'private_key_file = "/k"', "installation_id = 0"], "installation_id: must be at least 1"),
        ([], "scope[one]: needs a token: token_file (path of a private file) or token_env (name of a variable); or a "),
        (
            ["app_id = 1", 'private_key = "x"'],
            "private_key: a secret must not stand in this file: put the App's private",
        ),
        (['token_env = "T"', 'proxy = "proxy:3128"'], "proxy: must be a URL such as"),
        (['token_env = "T"', 'proxy = "socks5://p:1"'], "proxy: must be a URL such as"),
        (['token_env = "T"', 'proxy = "http://p:1/path"'], "proxy: must be the URL of a proxy"),
    ],
)
def test_mistakes_are_told(lines: list[str], says: str) -> None:
    found = complaints(*lines)
    assert any(says in line for line in found), found


def test_a_proxy_s_password_and_a_pasted_key_are_not_repeated() -> None:
    (line,) = complaints('token_env = "T"', 'proxy = "http://user:hunter2@proxy.example:3128"')
    assert "must not hold a user name, password or token; it would show: put a proxy with a password into" in line
    assert "hunter2" not in line
    pasted = complaints("app_id = 1", f'private_key_file = """{PRIVATE}"""')
    assert any("private_key_file: must be an absolute path" in line for line in pasted)
    assert "BEGIN" not in "".join(pasted)


def test_one_account_has_one_installation() -> None:
    second = '[[scope]]\nname = "two"\nurl = "https://github.com/{0}/app"\napp_id = 1\nprivate_key_file = "/k"\n'
    first = ["app_id = 1", 'private_key_file = "/k"', "installation_id = 5", 'repositories = ["lib"]']
    same, other = second.format("octo") + "installation_id = ", second.format("cat") + "installation_id = "
    assert complaints(*first, more=f"{same}5") == []
    assert complaints(*first, more=f"{other}6") == []
    (line,) = complaints(*first, more=f"{same}6")
    assert "scope[two].installation_id: differs from that of another scope of the same account and App" in line


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    how = serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_keys_that_are_none_are_refused_and_not_shown(tmp_path: Path) -> None:
    small = pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    encrypted = pem(serialization.load_pem_private_key(PRIVATE.encode(), None), b"secret")  # type: ignore[arg-type]
    cases: list[tuple[str | bytes, int, str]] = [
        (PRIVATE, 0o644, "is open to every user (mode 0644)"),
        (PRIVATE, 0o660, "is open to its group"),
        ("", 0o600, "must hold the App's private key, the PEM file as GitHub hands it out"),
        (PUBLIC, 0o600, "must hold the App's private key"),
        (PRIVATE[:400], 0o600, "must hold the App's private key"),
        (b"\xff\xfe", 0o600, "must hold the App's private key"),
        (encrypted, 0o600, "is encrypted; it must hold the key as GitHub hands it out, without a passphrase"),
        (small, 0o600, "must hold an RSA key of at least 2048 bits"),
        (pem(ec.generate_private_key(ec.SECP256R1())), 0o600, "must hold an RSA key"),
    ]
    for content, mode, says in cases:
        path = with_key(tmp_path, content, mode)
        (tmp_path / "app.pem").chmod(mode)
        examined = examine(path, os.environ)
        (mistake,) = examined.mistakes
        assert mistake.key == "scope[one].private_key_file"
        assert says in mistake.text, mistake.text
        assert SECRET_LINE not in mistake.text
        assert examined.settings is not None
    (tmp_path / "app.pem").unlink()
    with pytest.raises(ConfigError, match="No such file"):
        load_with_tokens(path)


@pytest.mark.parametrize(
    ("url", "kind", "path", "api"),
    [
        ("https://github.com/o/r", ScopeKind.REPOSITORY, "o/r", "https://api.github.com"),
        ("https://www.github.com/o/", ScopeKind.ORGANISATION, "o", "https://api.github.com"),
        ("https://github.com/enterprises/e", ScopeKind.ENTERPRISE, "enterprises/e", "https://api.github.com"),
        ("https://github.com/Enterprises/e", ScopeKind.ENTERPRISE, "enterprises/e", "https://api.github.com"),
        ("https://octo.ghe.com/o/r", ScopeKind.REPOSITORY, "o/r", "https://api.octo.ghe.com"),
        ("https://OCTO.GHE.COM/o", ScopeKind.ORGANISATION, "o", "https://api.octo.ghe.com"),
        ("https://octo.ghe.com/enterprises/octo", ScopeKind.ENTERPRISE, "enterprises/octo", "https://api.octo.ghe.com"),
        ("https://git.lab.example/o/r", ScopeKind.REPOSITORY, "o/r", "https://git.lab.example/api/v3"),
        ("https://git.lab.example:8443/o", ScopeKind.ORGANISATION, "o", "https://git.lab.example:8443/api/v3"),
        ("https://git/enterprises/e", ScopeKind.ENTERPRISE, "enterprises/e", "https://git/api/v3"),
        ("https://notghe.com/o", ScopeKind.ORGANISATION, "o", "https://notghe.com/api/v3"),
        ("https://github.com.example/o", ScopeKind.ORGANISATION, "o", "https://github.com.example/api/v3"),
    ],
)
def test_every_kind_of_address(url: str, kind: ScopeKind, path: str, api: str) -> None:
    assert parse_scope_url(url) == (kind, path, api)
