"""In continuous integration nothing may be left out quietly: a skipped test makes the run fail."""

from __future__ import annotations

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    if skipped and os.environ.get("SLURM_GHA_TESTS_MUST_RUN") and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("skipped") and os.environ.get("SLURM_GHA_TESTS_MUST_RUN"):
        terminalreporter.write_line("Tests were skipped; where all tests must run, that is a failure.", red=True)
