"""Command lines of a publication, and what the answers mean: each text and exit code of a real stratum 0."""

from __future__ import annotations

import shlex

import pytest

from slurm_gha.images.cvmfs import answers, commands
from slurm_gha.images.cvmfs.answers import Answer, Listing, Verdict
from slurm_gha.images.cvmfs.settings import CvmfsSettings

HERE = CvmfsSettings("images.example.org")
THERE = CvmfsSettings("images.example.org", host="stratum0", user="cvmfs")
IN_TRANSACTION = "Repository x is in a transaction but /cvmfs/x is not mounted read/write"


@pytest.mark.parametrize(
    ("answer", "verdict", "says"),
    [
        (Answer(0), Verdict.DONE, ""),
        (Answer(17, "", "another transaction is already open"), Verdict.BUSY, "another transaction is open"),
        (Answer(17), Verdict.BUSY, "another transaction is open"),
        (Answer(1, "", IN_TRANSACTION), Verdict.BUSY, "being published, or was broken off"),
        (Answer(1, "", "Another publish process is active"), Verdict.BUSY, "another publish"),
        (Answer(1, "", "Unable to find the configuration file"), Verdict.REFUSED, "no repository of that name"),
        (Answer(1, "", "Permission error: No write permission"), Verdict.REFUSED, "does not own it"),
        (Answer(5, "", "cannot load whitelist"), Verdict.REFUSED, "web server does not answer"),
        (Answer(3, "", "usage: …"), Verdict.REFUSED, "does not know an option"),
        (Answer(127, "", "sh: cvmfs_server: not found"), Verdict.REFUSED, "cvmfs_server: not found"),
        (Answer(91), Verdict.REFUSED, "/var/spool/cvmfs/images.example.org/rdonly"),
        (Answer(1, "", "something new"), Verdict.FAILED, "something new"),
        (Answer(-9), Verdict.FAILED, "killed by signal 9"),
    ],
)
def test_the_answer_to_transaction(answer: Answer, verdict: Verdict, says: str) -> None:
    reading = answers.opening(HERE, answer)
    assert reading.verdict is verdict
    assert says in reading.reason


@pytest.mark.parametrize(
    ("answer", "verdict", "says"),
    [
        (Answer(0, "published"), Verdict.DONE, ""),
        (Answer(1, "Repository x is not in a transaction", ""), Verdict.GONE, "no open transaction"),
        (Answer(92, "", "the open transaction is not ours"), Verdict.GONE, "not ours"),
        (Answer(1, "", "Another publish process is active"), Verdict.BUSY, "another publish"),
        (Answer(1, "", f"{IN_TRANSACTION}; this cannot be repaired"), Verdict.BROKEN, "was killed"),
        (
            Answer(1, "", "Current working directory is in /cvmfs/x"),
            Verdict.REFUSED,
            "make logins there start elsewhere",
        ),
        (Answer(1, "Open writable file descriptors on x", ""), Verdict.REFUSED, "open for writing"),
        (Answer(1, "", "x does not exist"), Verdict.REFUSED, "no repository of that name"),
        (Answer(2, "", "cannot create is_publishing.lock"), Verdict.REFUSED, "does not own it"),
        (Answer(1, "", "write: No space left on device"), Verdict.REFUSED, "no space left on this machine"),
        (Answer(1, "", ""), Verdict.FAILED, "exit code 1, without a word"),
    ],
)
def test_the_answer_to_publish(answer: Answer, verdict: Verdict, says: str) -> None:
    reading = answers.publishing(HERE, answer)
    assert reading.verdict is verdict
    assert says in reading.reason


def test_ssh_that_does_not_get_through_is_not_the_answer_of_a_command() -> None:
    answer = Answer(255, "", "ssh: connect to host stratum0 port 22: Connection refused")
    assert answers.publishing(THERE, answer).verdict is Verdict.UNREACHABLE
    assert answers.publishing(HERE, answer).verdict is Verdict.FAILED


def test_reasons_are_one_line() -> None:
    for exit_code in (1, 3, 127, 255):
        reading = answers.step(THERE, Answer(exit_code, "out\nput\n" * 50, "err\nors\n" * 50))
        assert "\n" not in reading.reason
        assert len(reading.reason) < 600


def test_a_listing_is_read_and_rubbish_left_out() -> None:
    text = f"revision 12\nimage {'a' * 64} 1700000000\nname ubuntu ../{'a' * 64}\nname odd elsewhere\nwhat\nimage x y\n"
    assert answers.listing(text) == Listing(12, {"a" * 64: 1700000000}, {"ubuntu": "a" * 64})
    assert answers.listing("revision \n") == Listing()


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("12\n", 12), ("", None), ("no such attribute", None), ("²", None)]
)
def test_a_revision(text: str, number: int | None) -> None:
    assert answers.revision(text) == number


def test_what_the_script_says_of_its_own() -> None:
    assert answers.kept("banner\nkept 512\n") == 512
    assert answers.kept("kept many\n") is None
    assert answers.leftover("leftover abc.def\n") == "abc.def"
    assert answers.leftover("") is None


def test_by_ssh_every_word_is_quoted_and_nothing_is_asked() -> None:
    odd = ["cvmfs_server", "publish", "a b", "$(rm -rf /)", "it's"]
    argv = commands.on_stratum(THERE, odd)
    assert argv[0] == "ssh"
    assert "BatchMode=yes" in argv
    assert argv[-5:-1] == ["-l", "cvmfs", "stratum0", "--"]
    assert shlex.split(argv[-1]) == odd
    assert commands.on_stratum(HERE, odd) == odd


def test_a_step_names_everything_it_works_on() -> None:
    argv = commands.step(HERE, "token", "seal", "digest", "")
    assert argv[:2] == ["sh", "-c"]
    assert argv[3:] == [
        "sh",
        "seal",
        "cvmfs_server",
        "images.example.org",
        "/cvmfs/images.example.org",
        "/var/spool/cvmfs/images.example.org",
        "images",
        "token",
        "digest",
        "",
    ]


def test_looks_of_nodes_need_no_quotes() -> None:
    for argv in (commands.revision(HERE, ("srun", "-w", "n1")), commands.look(HERE.path("a" * 64), ("ssh", "n1"))):
        assert [shlex.quote(word) for word in argv] == argv
    assert commands.revision(HERE, ()) == [
        "getfattr",
        "-n",
        "user.revision",
        "--only-values",
        "--absolute-names",
        "/cvmfs/images.example.org",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"repository": "-x"},
        {"repository": "a/b"},
        {"repository": "a;b"},
        {"host": "-oProxyCommand=x"},
        {"host": "a b"},
        {"user": "cvmfs"},
        {"host": "h", "user": "-l"},
        {"prefix": "/images"},
        {"prefix": "a/../b"},
        {"prefix": ""},
        {"prefix": ".hidden"},
        {"method": "copy"},
        {"mount_root": "cvmfs"},
        {"spool_root": "/a b"},
        {"spool_root": "/a/../b"},
    ],
)
def test_values_without_a_meaning_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        CvmfsSettings(**{"repository": "images.example.org", **wrong})


def test_where_nodes_find_images() -> None:
    settings = CvmfsSettings("images.example.org", prefix="ci/images")
    assert settings.path("d" * 64) == f"/cvmfs/images.example.org/ci/images/{'d' * 64}"
    assert settings.named("ubuntu") == "/cvmfs/images.example.org/ci/images/names/ubuntu"
