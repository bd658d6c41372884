"""A file becomes Settings, or every mistake in it at once, each with its line."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gha.config.loading import examine, examine_text, load, load_with_tokens
from slurm_gha.config.mistakes import ConfigError
from slurm_gha.domain.pool import Handover
from slurm_gha.domain.scope import ScopeKind

VALID = """\
[service]
installation = "lab1"
node_url = "http://head:8480"
[slurm]
output_dir = "/shared/out"
[[scope]]
name = "one"
url = "https://github.com/Org/Repo"
token_env = "TOKEN"
[[pool]]
name = "small"
labels = ["Self-Hosted", "small"]
runner_dir = "/opt/runner"
[pool.slurm]
cpus = 2
mem_per_cpu = "2G"
time = "30m"
gres = "gpu:1,tmpdisk:4096"
extra = ["--nice=100", "--exclusive"]
"""
TOKEN = "ghp_" + "Zx9" * 12


def complaints(text: str) -> list[str]:
    return [str(mistake) for mistake in examine_text(text, "c.toml").mistakes]


def changed(old: str, new: str) -> str:
    assert old in VALID
    return VALID.replace(old, new)


def test_a_valid_file_in_the_domain_s_words() -> None:
    loaded = examine_text(VALID, "c.toml")
    assert loaded.mistakes == ()
    assert loaded.settings is not None
    policy, (scope,) = loaded.settings.policy(), loaded.settings.scopes
    pool = policy.pools_by_name["small"]
    assert pool.labels == {"self-hosted", "small"}
    assert pool.scopes == {"one"}
    assert pool.handover is Handover.CLAIM
    assert (pool.request.cpus, pool.request.memory_mb, pool.request.time_seconds) == (2, 4096, 1800)
    assert pool.request.gres == ("gpu:1", "tmpdisk:4096")
    assert pool.request.extra == (("nice", "100"), ("exclusive", None))
    assert (scope.kind, scope.path, scope.api_url) == (ScopeKind.REPOSITORY, "Org/Repo", "https://api.github.com")
    assert policy.installation == "lab1"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("node_url", "node_ulr", 'c.toml:3: service.node_ulr: is not a known key; did you mean "node_url"? Allowed'),
        ('"lab1"', '"Lab 1"', "c.toml:2: service.installation: must be 2 to 16 small letters and digits"),
        ('"/shared/out"', '"out"', "c.toml:5: slurm.output_dir: must be an absolute path"),
        ('"/shared/out"', '"/out/%u"', "c.toml:5: slurm.output_dir: must not hold %"),
        ('output_dir = "/shared/out"', "", "c.toml:4: slurm.output_dir: is missing; it is required"),
        (
            "[slurm]",
            '[slurm]\nnode_dir = "/a-very-long-directory/for/rather/short/sockets"',
            "c.toml:5: slurm.node_dir: must be at",
        ),
        ("[slurm]", "[slurm]\ninterval = 5", "c.toml:5: slurm.interval: must be a duration with its unit"),
        ("[slurm]", '[slurm]\ninterval = "0s"', 'c.toml:5: slurm.interval: must be at least "1s", not "0s"'),
        ("[slurm]", '[poll]\nbusy_interval = "1m"\n[slurm]', "c.toml:5: poll.busy_interval: idle_interval (30s) must"),
        ('url = "https://github.com/Org/Repo"', 'url = "github.com/Org"', "c.toml:8: scope[one].url: must be a URL"),
        ("https://github.com/Org", "http://github.com/Org", "c.toml:8: scope[one].url: must begin with https://"),
        ("/Org/Repo", "/Org/Repo/tree", "c.toml:8: scope[one].url: must be the URL of a repository"),
        ("/Org/Repo", "/enterprises/big", "c.toml:6: scope[one]: needs repositories"),
        ('token_env = "TOKEN"', "", "c.toml:6: scope[one]: needs a token: token_file"),
        ('"TOKEN"', '"TOKEN"\ntoken_file = "/t"', "c.toml:9: scope[one].token_env: is too much beside token_file"),
        ('"TOKEN"', '"TOKEN"\nrepositories = ["Org/x"]', "c.toml:10: scope[one].repositories: is only for organ"),
        (
            "/Repo",
            '"\nrepositories = ["x", "Else/y"]#',
            "c.toml:9: scope[one].repositories[2]: must be a repository of",
        ),
        (
            "[[pool]]",
            '[[scope]]\nname = "one"\nurl="https://github.com/b/c"\ntoken_env="T"\n[[pool]]',
            'c.toml:11: scope[one].name: there is another scope named "one"',
        ),
        (
            "[[pool]]",
            '[[scope]]\nname = "two"\nurl="https://github.com/oRg"\ntoken_env="T"\n[[pool]]',
            'c.toml:12: scope[two].url: covers jobs that scope "one" covers too',
        ),
        ('"small"]', '"SELF-HOSTED"]', 'c.toml:12: pool[small].labels[2]: "SELF-HOSTED" is there twice'),
        ('"small"]', '"a,b"]', "c.toml:12: pool[small].labels[2]: must be a label"),
        ('["Self-Hosted", "small"]', "[]", "c.toml:12: pool[small].labels: must not be empty"),
        ('["Self-Hosted", "small"]', '"small"', "c.toml:12: pool[small].labels: must be a list in square brackets"),
        (
            "runner_dir",
            'scopes = ["oen"]\nrunner_dir',
            'c.toml:13: pool[small].scopes[1]: there is no scope "oen"; there is: "one"',
        ),
        ("runner_dir", 'scopes = ["oen"]\nrunner_dir', 'c.toml:7: scope[one].name: no pool serves the scope "one"'),
        ("runner_dir", "max_runners = 0\nrunner_dir", "c.toml:13: pool[small].max_runners: must be at least 1, not 0"),
        ("runner_dir", 'launcher = "ssh"\nrunner_dir', 'c.toml:13: pool[small].launcher: must be one of "host"'),
        ("runner_dir", 'handover = "stdin"\nrunner_dir', "c.toml:4: slurm: needs handover_dir"),
        (
            "runner_dir",
            'environment = { SLURM_X = "1" }\nrunner_dir',
            "c.toml:13: pool[small].environment.SLURM_X: must be the",
        ),
        ('node_url = "http://head:8480"', "", "c.toml:1: service: needs node_url"),
        (
            "http://head:8480",
            "http://0.0.0.0:8480",
            "c.toml:3: service.node_url: must name a host that nodes can reach",
        ),
        ("[slurm]", 'tls_key = "/k"\n[slurm]', "c.toml:4: service.tls_key: needs tls_certificate as well"),
        (
            "[slurm]",
            'tls_key = "/k"\ntls_certificate = "/c"\n[slurm]',
            "c.toml:3: service.node_url: must begin with https",
        ),
        (
            "cpus = 2",
            'cpus = "2"',
            'c.toml:15: pool[small].slurm.cpus: must be a whole number, without quotes, not "2"',
        ),
        ("cpus = 2", "cpus = true", "c.toml:15: pool[small].slurm.cpus: must be a whole number"),
        ("cpus = 2", 'cpus = 2\nmem = "4G"', "c.toml:17: pool[small].slurm.mem_per_cpu: is too much beside mem"),
        ('"30m"', '"1m"', "c.toml:17: pool[small].slurm.time: must be longer than signal_before_end"),
        ('"30m"', '"30"', "c.toml:17: pool[small].slurm.time: must be a time limit"),
        ("gpu:1,", "gpu;1,", "c.toml:18: pool[small].slurm.gres[1]: must be generic resources"),
        ('"--exclusive"', '"--uid=0"', "c.toml:19: pool[small].slurm.extra[2]: --uid is not allowed; allowed are"),
        ('"--exclusive"', '"--nice"', "c.toml:19: pool[small].slurm.extra[2]: --nice is there twice"),
        ("[[pool]]", "[pool]", "c.toml:10: pool: must be [[double brackets]]"),
        ("installation =", "installation", "c.toml:2: is not valid TOML: "),
        ("[pool.slurm]", "[pool.slurm", "c.toml:14: is not valid TOML: "),
        ('["--nice=100", "--exclusive"]', "[", "c.toml:19: is not valid TOML: "),
    ],
)
def test_one_mistake(old: str, new: str, expected: str) -> None:
    found = complaints(changed(old, new))
    assert any(line.startswith(expected) for line in found), found


def test_an_empty_file_names_all_that_is_needed() -> None:
    assert [line.split(": ")[1] for line in complaints("")] == ["service", "slurm", "scope", "pool"]


def test_all_mistakes_at_once_in_the_file_s_order() -> None:
    text = VALID.replace('"lab1"', '"LAB"').replace('"/shared/out"', '"x"').replace("cpus = 2", "cpus = 0")
    lines = [int(line.split(":")[1]) for line in complaints(text.replace("--exclusive", "--wait"))]
    assert lines == [2, 5, 15, 19]


@pytest.mark.parametrize(
    "text",
    [
        f'token = "{TOKEN}"\n' + VALID,
        changed('token_env = "TOKEN"', f'token = "{TOKEN}"'),
        changed('"TOKEN"', f'"{TOKEN}"'),
        changed('"TOKEN"', f'"{TOKEN}!"'),
        changed('token_env = "TOKEN"', f'token_file = "{TOKEN}"'),
        changed("https://github.com", f"https://{TOKEN}@github.com"),
        changed("https://github.com", f"https://x:{TOKEN}@github.com"),
        changed("Org/Repo", f"Org/Repo?token={TOKEN}"),
        changed('"lab1"', f'"{TOKEN}"'),
        changed("installation", TOKEN),
        changed("[service]", f'[service]\n"{TOKEN}" = 1'),
        changed("[slurm]", f"[{TOKEN}]\n[slurm]"),
        changed('["Self-Hosted", "small"]', f'["a,{TOKEN}"]'),
        changed("[pool.slurm]", f'environment = {{ "1" = "{TOKEN}" }}\n[pool.slurm]'),
        changed('"lab1"', f'"lab1" {TOKEN}'),
        f"a = 1\n[{TOKEN}]\n[{TOKEN}]\n",
    ],
)
def test_a_token_in_the_wrong_place_is_never_repeated(text: str) -> None:
    examined = examine_text(text, "c.toml", {})
    assert examined.mistakes
    assert TOKEN[8:] not in "\n".join(map(str, examined.mistakes))
    assert TOKEN[8:] not in repr(examined)


def test_an_inline_token_is_told_where_tokens_belong() -> None:
    (line,) = complaints(changed('token_env = "TOKEN"', f'token_env = "TOKEN"\ntoken = "{TOKEN}"'))
    assert line.startswith("c.toml:10: scope[one].token: a secret must not stand in this file")
    assert "token_file" in line


def test_missing_and_unreadable_files_get_one_sentence(tmp_path: Path) -> None:
    for path, says in [
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (Path("/a\0b"), "path is not valid"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert len(caught.value.mistakes) == 1
        assert says in str(caught.value)
    (tmp_path / "latin.toml").write_bytes(b"# fine\n# \xe9\n")
    with pytest.raises(ConfigError, match=r"latin.toml:2: is not UTF-8 text"):
        load(tmp_path / "latin.toml")


def with_token_file(tmp_path: Path, content: bytes, mode: int) -> tuple[Path, Path]:
    token = tmp_path / "token"
    token.write_bytes(content)
    token.chmod(mode)
    config = tmp_path / "c.toml"
    config.write_text(changed('token_env = "TOKEN"', f'token_file = "{token}"'))
    return config, token


def test_tokens_are_read_from_private_files_and_variables(tmp_path: Path) -> None:
    config, _ = with_token_file(tmp_path, TOKEN.encode() + b"\n", 0o600)
    settings_, tokens = load_with_tokens(config)
    assert tokens["one"].reveal() == TOKEN
    assert TOKEN not in repr(tokens) + repr(settings_)
    config.write_text(VALID)
    _, tokens = load_with_tokens(config, {"TOKEN": TOKEN})
    assert tokens["one"].reveal() == TOKEN
    with pytest.raises(
        ConfigError, match=r"c.toml:9: scope\[one\].token_env: the environment variable TOKEN is not set"
    ):
        load_with_tokens(config, {})


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (TOKEN.encode(), 0o644, "is open to every user (mode 0644)"),
        (TOKEN.encode(), 0o602, "is open to every user"),
        (TOKEN.encode(), 0o620, "is open to its group"),
        (b" \n", 0o600, "is empty"),
        (b"two words", 0o600, "must hold one token and nothing else"),
        (TOKEN.encode() + b"\n" + TOKEN.encode(), 0o600, "must hold one token and nothing else"),
        ("töken".encode(), 0o600, "must hold one token and nothing else"),
        (b"x" * 10_000, 0o600, "must hold one token and nothing else"),
    ],
)
def test_refused_token_files(tmp_path: Path, content: bytes, mode: int, says: str) -> None:
    config, _ = with_token_file(tmp_path, content, mode)
    examined = examine(config, os.environ)
    (mistake,) = examined.mistakes
    assert (mistake.line, mistake.key) == (9, "scope[one].token_file")
    assert says in mistake.text
    assert TOKEN not in str(mistake)
    assert examined.settings is not None, "what is wrong with a token does not hide the rest"
    with pytest.raises(ConfigError):
        load_with_tokens(config)


def test_a_token_file_that_is_none(tmp_path: Path) -> None:
    config, token = with_token_file(tmp_path, b"", 0o600)
    token.unlink()
    assert "No such file" in str(examine(config, {}).mistakes[0])
    os.mkfifo(token, 0o600)
    assert "is not a file" in str(examine(config, {}).mistakes[0])


SAMPLE = (Path(__file__).parents[2] / "src/slurm_gha/config/sample.toml").read_text(encoding="utf-8")
PIECES = [
    "[",
    "]",
    "[[",
    "]]",
    '"',
    "'",
    "=",
    "\n",
    "#",
    "{",
    "}",
    ",",
    "\\",
    '"""',
    "\x00",
    "\r",
    "0",
    "-1",
    "true",
    "é",
]
PIECES += ["1e400", "9" * 5000, "nan", "[" * 3000, '""', "scope", "pool", "1979-05-27", "\u2028", "=[]", "={}", '="x"']


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([VALID, SAMPLE]), st.integers(1, 4))
def test_any_mutation_is_met_with_sentences_about_existing_lines(
    chance: random.Random, text: str, changes: int
) -> None:
    for _ in range(changes):
        lines = text.split("\n")
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        cut = chance.randrange(len(text) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            text = text[:cut] + chance.choice(PIECES) + text[cut:]
        elif kind == 1:
            text = text[:cut] + text[cut + chance.randrange(30) :]
        elif kind == 2:
            lines[at], lines[other] = lines[other], lines[at]
            text = "\n".join(lines)
        elif kind == 3:
            lines.insert(other, lines[at])
            text = "\n".join(lines)
        elif kind == 4:
            values = [
                "1",
                "-1",
                "true",
                '"x"',
                '""',
                "[]",
                "{}",
                "[[1]]",
                "1.5",
                "nan",
                '["", 1]',
                "1979-05-27",
                "{a = {}}",
            ]
            lines[at] = re.sub(r"=.*", "= " + chance.choice(values), lines[at])
            text = "\n".join(lines)
        else:
            text = text[:cut]
    examined = examine_text(text, "c.toml", {"TOKEN": TOKEN})
    assert (examined.settings is None) <= bool(examined.mistakes)
    for mistake in examined.mistakes:
        assert 1 <= mistake.line <= text.count("\n") + 1
        assert "\n" not in str(mistake)
        assert len(str(mistake)) < 1500
    if examined.settings is not None:
        assert examined.settings.policy().pools
        assert examined.settings.scopes
