"""Durations, time limits, memory, addresses, sbatch options: what is read, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.config.options import ALLOWED, Argument, parse_option
from slurm_gha.domain.units import (
    LONGEST,
    parse_address,
    parse_duration,
    parse_memory,
    parse_time_limit,
    show_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("1d2h3m4s", 93784)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m", "-5s", "1.5h", "5M", "30m1h", "5m5m", "367d", "9999999999s", "٣s"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration(text)


@given(st.integers(0, LONGEST))
def test_a_shown_duration_is_read_back(seconds: int) -> None:
    assert parse_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("30:00", 1800),
        ("1:30:00", 5400),
        ("2-00:00", 172800),
        ("2-12", 216000),
        ("1-02:03:04", 93784),
        ("90s", 90),
    ],
)
def test_time_limits(text: str, seconds: int) -> None:
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "0m", "59s", "400-00", "1:2:3:4", "-1", "infinite", "UNLIMITED", "30:00\n"])
def test_no_time_limits(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_time_limit(text)


@pytest.mark.parametrize(
    ("text", "mebibytes"), [("512M", 512), ("2G", 2048), ("1T", 1048576), ("2049K", 3), ("2g", 2048)]
)
def test_memory(text: str, mebibytes: int) -> None:
    assert parse_memory(text) == mebibytes


@pytest.mark.parametrize("text", ["", "2", "2GB", "1.5G", "-1G", "0M", "G", "2 G", "99999999999T"])
def test_no_memory(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_memory(text)


def test_addresses() -> None:
    assert parse_address("0.0.0.0:8480") == ("0.0.0.0", 8480)
    assert parse_address("[::1]:80") == ("::1", 80)
    for text in ("", "8480", ":80", "host:", "host:0", "host:65536", "::1:80", "a b:80"):
        with pytest.raises(ValueError, match="host:port"):
            parse_address(text)


def test_every_allowed_option_takes_its_own_example() -> None:
    for name, option in ALLOWED.items():
        if option.argument is not Argument.NONE:
            assert parse_option(f"--{name}={option.example}") == (name, option.example)
        if option.argument is not Argument.REQUIRED:
            assert parse_option(f"--{name}") == (name, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "long option"),
        ("nice=1", "long option"),
        ("-n 1", "long option"),
        ("--nice 1", "long option"),
        ("--export=ALL", "allowed are --contiguous"),
        ("--uid=0", "not allowed"),
        ("--partition=ci", 'write "partition = …"'),
        ("--mem-per-cpu=1G", "mem_per_cpu"),
        ("--reservation", "needs a value"),
        ("--exclusive=everything", "must look like"),
        ("--contiguous=yes", "takes no value"),
        ("--nice=1\n--uid=0", "must look like"),
        ("--reservation=-x", "must look like"),
        ("--exclude=a b", "must look like"),
    ],
)
def test_refused_options(text: str, says: str) -> None:
    with pytest.raises(ValueError) as refusal:
        parse_option(text)
    assert says in str(refusal.value)


@given(st.text(max_size=30).map(lambda text: f"--reservation={text}"))
def test_an_accepted_value_is_plain(text: str) -> None:
    try:
        _, value = parse_option(text)
    except ValueError:
        return
    assert value is not None
    assert value.isascii()
    assert value.isprintable()
    assert not value.startswith("-")
    assert not set(value) & set(" \"'`$;&|<>(){}\\")
