"""The sample configuration: it loads, it shows every setting, and the defaults it names are the real ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from slurm_gha.config.loading import examine_text, load
from slurm_gha.config.pools import PoolSettings
from slurm_gha.config.reference import SECTIONS
from slurm_gha.domain.runner import runner_name

PATH = Path(__file__).parents[2] / "src/slurm_gha/config/sample.toml"
LINES = PATH.read_text(encoding="utf-8").splitlines()
OFF = re.compile(r"#([a-z_]+ = .+)")
CHOICES = {"token_env": "token_file", "mem": "mem_per_cpu"}  # only one of the two may be there
NO_DEFAULTS = {"handover_dir", "bin_dir", "conf", "repositories", "api_url", "ca_file", "scopes", "environment"}
NO_DEFAULTS |= {"token_env", "mem", "partition", "account", "qos", "constraint", "extra", "node_path"}
NO_DEFAULTS |= {"dir", "mirrors", "cvmfs", "max_nodes", "gpus", "proxy", "branches", "events", "actors", "warm"}
NO_DEFAULTS |= {"max_runners_per_repository"}
# Keys that only go together, in place of a token.
APP = {"app_id", "private_key_file", "installation_id"}
NO_DEFAULTS |= APP
WEBHOOK = {"webhook_secret_file", "webhook_secret_env", "webhook_id"}  # these only go with that source
NO_DEFAULTS |= WEBHOOK
NO_DEFAULTS |= {"scale_set", "runner_group"}
# Keys that only go with some launcher, and one that they go with.
LAUNCHERS = {"image": "docker", "image_runner_dir": "docker", "host_loopback": "docker", "snapshotter": "stargz"}
LAUNCHERS |= dict.fromkeys(("docker_in_job", "nvidia", "fakeroot", "scratch"), "apptainer")


def sections() -> list[tuple[str, int]]:
    """Section of each line, by the headers above it; the first of several tables only."""
    current, found = "", []
    for number, line in enumerate(LINES):
        if header := re.fullmatch(r"\[+([a-z.]+)\]+", line):
            current = header[1]
        found.append((current, number))
    return found


def test_it_loads_as_the_four_sizes() -> None:
    pools = load(PATH).policy().pools
    assert [pool.request.cpus for pool in pools] == [1, 2, 4, 16]
    for pool in pools:
        assert pool.request.memory_mb == 2048 * pool.request.cpus
        assert pool.request.time_seconds == 1800
        assert pool.request.gres[0].startswith("tmpdisk:")
        assert pool.labels == {"self-hosted", "linux", "x64", f"slurm-runner-{pool.name}"}


def test_it_shows_every_setting_with_a_comment() -> None:
    shown: dict[str, set[str]] = {section: set() for section in SECTIONS}
    commented: set[tuple[str, str]] = set()
    for section, number in sections():
        key = re.match(r"#?([a-z_]+) = ", LINES[number])
        if key and section:
            shown[section].add(key[1])
            above = number - 1
            while re.match(r"#?[a-z_]+ = ", LINES[above]):
                above -= 1
            if LINES[above].startswith("# "):
                commented.add((section, key[1]))
    for section, model in SECTIONS.items():
        if section in ("images.cvmfs", "pool.warm"):
            continue  # shown as one line of the table around it
        missing = set(model.model_fields) - shown[section] - {"slurm", "dynamic", "allow"}
        assert not missing, f"[{section}] lacks {missing}"
    bare = {
        ("scope", "name"),
        ("scope", "url"),
        ("pool", "name"),
        ("pool.slurm", "cpus"),
        ("pool", "slurm"),
    }  # right below their headers
    assert {(s, k) for s, keys in shown.items() for k in keys} - commented <= bare


@pytest.mark.parametrize("number", [number for number, line in enumerate(LINES) if OFF.fullmatch(line)])
def test_each_line_that_is_off_is_right_when_it_is_switched_on(number: int) -> None:
    lines = list(LINES)
    lines[number] = lines[number][1:]
    key = lines[number].split(" ")[0]
    if key in CHOICES:
        first = next(i for i, line in enumerate(lines) if line.startswith(f"{CHOICES[key]} = "))
        lines[first] = ""
    if key in APP:
        lines = [line[1:] if OFF.fullmatch(line) and line[1:].split(" ")[0] in APP else line for line in lines]
        lines = [line for line in lines if not line.startswith("token_file = ")]
    if key in LAUNCHERS:
        lines[lines.index('#launcher = "host"')] = f'launcher = "{LAUNCHERS[key]}"'
        lines = [line[1:] if line.startswith("#image = ") else line for line in lines]
    if key in WEBHOOK:
        lines[lines.index('#sources = ["poll"]')] = 'sources = ["poll", "webhook"]'
    if key == "webhook_id":
        lines = [line[1:] if line.startswith("#webhook_secret_file = ") else line for line in lines]
    assert [str(mistake) for mistake in examine_text("\n".join(lines), "sample").mistakes] == []


def test_the_defaults_it_names_are_the_defaults() -> None:
    text = "\n".join(
        line[1:] if (off := OFF.fullmatch(line)) and not _without_default(section, _key(off)) else line
        for (section, _), line in zip(sections(), LINES, strict=True)
    )
    assert examine_text(text, "sample").settings == load(PATH)
    assert tomllib.loads(text) != tomllib.loads("\n".join(LINES))


def _without_default(section: str, key: str) -> bool:
    return (
        key in NO_DEFAULTS
        or key in LAUNCHERS
        or (section, key)
        in (
            ("scope", "max_runners"),
            ("pool", "timezone"),
        )
    )


def test_the_defaults_of_containers_are_the_defaults() -> None:
    shown = tomllib.loads(
        "\n".join(off[1] for line in LINES if (off := OFF.fullmatch(line)) and _key(off) in LAUNCHERS)
    )
    defaults = {key: PoolSettings.model_fields[key].default for key in shown if key not in ("image", "scratch")}
    assert {key: str(value) for key, value in shown.items() if key in defaults} == {
        key: str(value) for key, value in defaults.items()
    }


def _key(off: re.Match[str]) -> str:
    return off[1].split(" ")[0]


def test_the_longest_names_leave_room_in_a_runner_s_name() -> None:
    text = "\n".join(LINES).replace('"lab1"', f'"{"i" * 16}"').replace('"xlarge"', f'"{"p" * 24}"')
    settings: Any = examine_text(text, "sample").settings
    policy = settings.policy()
    assert len(runner_name(policy.installation, policy.pools[-1].name, "s" * 16)) <= 64
