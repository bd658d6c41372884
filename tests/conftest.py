"""In continuous integration nothing may be left out quietly: a skipped test makes the run fail."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure() -> None:
    """Started in the background of a shell, we would ignore SIGINT, and so would all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    if skipped and os.environ.get("SLURM_GHA_TESTS_MUST_RUN") and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("skipped") and os.environ.get("SLURM_GHA_TESTS_MUST_RUN"):
        terminalreporter.write_line("Tests were skipped; where all tests must run, that is a failure.", red=True)
