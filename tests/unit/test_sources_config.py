"""A scope's sources in the configuration: what goes with what, and where the webhook's secret comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_gha.config.loading import examine, examine_text, load_webhook_secrets
from slurm_gha.config.mistakes import ConfigError
from slurm_gha.domain.scope import Scope, ScopeKind, Source

FILE = """
[service]
installation = "lab1"
node_url = "http://head:8480"
[slurm]
output_dir = "/tmp/output"
[[scope]]
name = "lab"
url = "https://github.com/lab"
token_env = "TOKEN"
{keys}
[[pool]]
name = "small"
labels = ["small"]
runner_dir = "/opt/runner"
slurm = {{ cpus = 1, time = "10m" }}
"""
SECRET = "correct horse battery staple"


def mistakes(keys: str) -> str:
    return "\n".join(str(mistake) for mistake in examine_text(FILE.format(keys=keys), "file").mistakes)


def scope_of(keys: str) -> Scope:
    settings = examine_text(FILE.format(keys=keys), "file").settings
    assert settings is not None
    return settings.scopes[0]


def test_polling_alone_is_the_default() -> None:
    scope = scope_of("")
    assert scope.sources == {Source.POLL}
    assert not scope.pushed


@pytest.mark.parametrize("listed", ['"webhook"', '"poll", "webhook"', '"webhook", "scaleset"'])
def test_a_webhook_goes_with_anything(listed: str) -> None:
    scope = scope_of(f'sources = [{listed}]\nwebhook_secret_env = "HOOK"')
    assert scope.sources == {Source(word.strip(' "')) for word in listed.split(",")}
    assert scope.pushed


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("sources = []", "must not be empty"),
        ('sources = ["push"]', 'must be one of "poll", "webhook" or "scaleset"'),
        ('sources = ["poll", "poll"]', '"poll" is there twice'),
        ('sources = ["webhook"]', "needs the webhook's secret"),
        ('webhook_secret_env = "HOOK"', 'is of no use without "webhook" in sources'),
        ("webhook_id = 7", 'is of no use without "webhook" in sources'),
        ('sources = ["webhook"]\nwebhook_secret_env = "A"\nwebhook_secret_file = "/a"', "keep one of the two"),
        ('sources = ["webhook"]\nwebhook_secret_env = "A"\nwebhook_id = 0', "at least 1"),
        (f'sources = ["webhook"]\nwebhook_secret = "{SECRET}"', "a secret must not stand in this file"),
        (f'sources = ["webhook"]\nwebhook_secret_file = "{SECRET}"', "absolute path"),
    ],
)
def test_what_does_not_go_together_is_told(keys: str, words: str) -> None:
    said = mistakes(keys)
    assert words in said
    assert SECRET not in said


def config(directory: Path, keys: str) -> Path:
    path = directory / "config.toml"
    path.write_text(FILE.format(keys=keys))
    return path


def test_the_secret_comes_from_a_private_file_and_blanks_in_it_count(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    path = config(tmp_path, f'sources = ["webhook"]\nwebhook_secret_file = "{file}"')
    assert load_webhook_secrets(path, {"TOKEN": "t"})["lab"].reveal() == SECRET
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="open to every user") as caught:
        load_webhook_secrets(path, {"TOKEN": "t"})
    assert SECRET not in str(caught.value)
    assert "webhook_secret_file" in str(caught.value)


@pytest.mark.parametrize(("given", "words"), [(None, "is not set"), ("", "is empty"), ("a\nb", "one secret")])
def test_a_secret_that_is_none_is_told(tmp_path: Path, given: str | None, words: str) -> None:
    path = config(tmp_path, 'sources = ["webhook"]\nwebhook_secret_env = "HOOK"')
    environ = {"TOKEN": "t"} | ({} if given is None else {"HOOK": given})
    (mistake,) = examine(path, environ).mistakes
    assert words in str(mistake)
    assert mistake.line > 0


def test_a_secret_from_the_environment(tmp_path: Path) -> None:
    path = config(tmp_path, 'sources = ["webhook"]\nwebhook_secret_env = "HOOK"')
    assert load_webhook_secrets(path, {"TOKEN": "t", "HOOK": SECRET})["lab"].reveal() == SECRET


def test_a_scope_is_pushed_to_by_anything_but_the_poll() -> None:
    for words, pushed in ((["poll"], False), (["poll", "scaleset"], True), (["webhook"], True)):
        sources = frozenset(Source(word) for word in words)
        assert Scope("a", "u", "a", ScopeKind.ORGANISATION, "lab", sources=sources).pushed is pushed
