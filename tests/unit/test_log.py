"""The log: one clean line an event, and no secret in it."""

from __future__ import annotations

import base64
import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.observe import events
from slurm_gha.observe.events import Event
from slurm_gha.observe.log import EventLog, LibraryHandler, configure, level_of, word_for
from slurm_gha.observe.text import clean, mask, presentable

JIT = base64.b64encode(b'{".runner":"ewogICJBZ2VudElk","credentials":"x","rsa":"yyyyyyyyyyyyyyyyyyyyyyyyy"}').decode()
SECRETS = [
    "sgt_k3Jx9vQ2LmN8pRtZwYbDcFhG0aSe5uVi",
    "ghp_" + "a1B2" * 9,
    "ghs_" + "a1B2" * 9,
    "ghs_12345_eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "gho_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 20,
    JIT,
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl-_x",
    "AABF3JGZDX3P5PMEXLND6TS6FCWO6",
]


def lines(*told: Event, log_format: str = "json", level: str = "debug") -> list[str]:
    stream = io.StringIO()
    log = configure(log_format, level, stream)
    for event in told:
        log(event)
    return stream.getvalue().splitlines()


def parsed(*told: Event, level: str = "debug") -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(*told, level=level)]


INTENDED = events.RunnerIntended(at=1.5, name="r1", pool="small", scope="web", job_id=7, repository="o/r")
SUBMITTED = events.RunnerSubmitted(at=2.0, name="r1", pool="small", scope="web", slurm_id=12)


def test_a_line_of_json_ties_runner_job_and_slurm_job_together() -> None:
    *_, line = parsed(INTENDED, SUBMITTED, events.SubmissionUnclear(at=3.25, name="r1", error="timed out"))
    assert line == {
        "time": "1970-01-01T00:00:03.250Z",
        "level": "warning",
        "event": "submission_unclear",
        "runner": "r1",
        "slurm_id": 12,
        "job_id": 7,
        "repository": "o/r",
        "pool": "small",
        "scope": "web",
        "error": "timed out",
    }


def test_a_line_for_people() -> None:
    told = events.RunnerClosed(at=0.0, name="r1", outcome="time limit", detail='said "no"=\\')
    assert lines(told, log_format="human") == [
        "1970-01-01T00:00:00.000Z info    runner_closed        runner=r1 "
        'outcome="time limit" detail="said \\"no\\"=\\\\"'
    ]


def test_a_nodes_report_keeps_both_its_word_and_the_lines_own() -> None:
    (line,) = parsed(events.RunnerReported(at=2.0, name="r1", event="listening", reported_at=1.0))
    assert (line["event"], line["reported"]) == ("runner_reported", "listening")
    assert line["reported_at"] == "1970-01-01T00:00:01.000Z"


def test_less_important_lines_are_dropped_but_learnt_from() -> None:
    told = [INTENDED, SUBMITTED, events.ClaimDenied(at=3.0, name="r1", reason="no")]
    (line,) = parsed(*told, level="warning")
    assert (line["event"], line["slurm_id"]) == ("claim_denied", 12)
    assert [line["event"] for line in parsed(*told, level="info")] == ["runner_submitted", "claim_denied"]
    assert lines(*told, level="error") == []


def test_levels_and_words() -> None:
    assert level_of(events.UnexpectedError(at=1.0, where="x", error="y")) == "error"
    assert level_of(SUBMITTED) == "info"
    assert level_of(events.RoundFinished(at=1.0, seconds=0.1, jobs=0, runners=0, actions=0)) == "debug"
    assert word_for(events.GitHubUnreadable) == "github_unreadable"
    assert word_for(events.RunnerSubmitted) == "runner_submitted"


def test_an_unknown_format_or_level_is_refused() -> None:
    with pytest.raises(ValueError, match="human or json"):
        configure("xml", "info", io.StringIO())
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        configure("json", "verbose", io.StringIO())


@pytest.mark.parametrize("log_format", ["json", "human"])
@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:8])
@pytest.mark.parametrize(
    "around", ["{}", "Authorization: Bearer {}", '{{"token": "{}"}}', "x={}&y", "sbatch:\n{}\x00!"]
)
def test_what_looks_like_a_credential_is_hidden_everywhere(secret: str, around: str, log_format: str) -> None:
    text = around.format(secret)
    told = [
        events.UnexpectedError(at=1.0, where=text, error=text),
        events.JobSeen(at=1.0, job_id=1, repository=text, scope="web", labels=(text,), job_name=text),
        events.RunnerReported(at=1.0, name=text, event=text, detail="x " * 125 + text),
    ]
    output = "\n".join(lines(*told, log_format=log_format))
    assert secret not in output
    assert secret[12:24] not in output
    assert "***" in output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Basic dXNlcjpwYXNz x", "Authorization: Basic *** x"),
        ("authorization=RemoteAuth abc", "authorization=RemoteAuth ***"),
        ("GET https://user:hunter2@host/path", "GET https://***@host/path"),
        ("claim_secret=abc@def&name=x", "claim_secret=***&name=x"),
        ("password='hunter2'", "password='***'"),
        ("a -----BEGIN RSA PRIVATE KEY----- MIIE -----END RSA PRIVATE KEY----- b", "a *** b"),
        ("Basic authentication is no longer supported", "Basic authentication is no longer supported"),
        ("the bearer of this", "the bearer of this"),
        ("they eyed the keyring of AABBCC", "they eyed the keyring of AABBCC"),
        ("https://github.com/o/r/actions/runs/123456789", "https://github.com/o/r/actions/runs/123456789"),
        ("a" * 64, "a" * 64),
    ],
)
def test_masking_hides_what_it_should_and_no_more(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_a_credential_that_control_characters_take_apart_is_hidden() -> None:
    token = SECRETS[0]
    assert presentable(f"{token[:10]}\x00\x1b{token[10:]}") == "***"
    assert presentable(f"{token[:10]}\u200b\u202e{token[10:]}") == "***"


def test_clean_texts() -> None:
    assert clean("a\r\n\tb\x1b[31mc\x07\u202ed\u2028e\u00a0f") == "a b[31mcd e f"
    assert clean("naïve 漢字 🚀") == "naïve 漢字 🚀"
    assert clean("\ud800x") == "x"
    assert clean("x" * 301) == "x" * 299 + "…"
    assert clean("x" * 5, 5) == "xxxxx"


@given(st.text(), st.text(), st.sampled_from(["json", "human"]))
def test_every_event_is_one_printable_line(job_name: str, reason: str, log_format: str) -> None:
    told = events.JobUnservable(at=1.0, job_id=1, repository="o/r", scope="s", job_name=job_name, reason=reason)
    stream = io.StringIO()
    EventLog(stream, log_format, "info")(told)
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue()[:-1].isprintable()
    assert len(stream.getvalue()) < 4000


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300, -1e20])
def test_odd_times_are_survived(at: float) -> None:
    assert len(lines(events.SlurmReadable(at=at))) == 1


def test_a_stream_that_knows_ascii_only_is_served() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    configure("human", "info", stream)(events.RunnerClosed(at=1.0, name="r1", outcome="café"))
    assert raw.getvalue().endswith(b"outcome=caf\\xe9\n")


def test_libraries_words_come_as_lines_of_ours() -> None:
    stream = io.StringIO()
    log = configure("json", "info", stream)
    logger = logging.Logger("uvicorn.error")
    logger.addHandler(LibraryHandler(log))
    logger.info("not important")
    try:
        raise RuntimeError(SECRETS[0])
    except RuntimeError:
        logger.exception("request failed with %s", SECRETS[1])
    (line,) = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (line["event"], line["level"], line["library"]) == ("library_said", "error", "uvicorn.error")
    assert (line["said"], line["error"]) == ("request failed with ***", "RuntimeError: ***")
