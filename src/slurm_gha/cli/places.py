"""Looks at the directories and files that the configuration names, on this machine and as this user."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from slurm_gha.cli.inquiry import Answer, Verdict
from slurm_gha.config.schema import Settings
from slurm_gha.domain.pool import Handover


def look(settings: Settings) -> list[Answer]:
    """One answer for each place that matters."""
    service, slurm = settings.service, settings.slurm
    answers = [_directory("state_dir", service.state_dir, private=True)]
    answers.append(_directory("output_dir", slurm.output_dir, private=False))
    if slurm.handover_dir is not None:
        answers.append(_directory("handover_dir", slurm.handover_dir, private=True))
    files = [("tls_certificate", service.tls_certificate), ("service ca_file", service.ca_file), ("conf", slurm.conf)]
    files += [(f"scope {table.name} ca_file", table.ca_file) for table in settings.scope_tables]
    answers += [_readable(subject, path) for subject, path in files if path is not None]
    if service.tls_key is not None:
        answers.append(_private_file("tls_key", service.tls_key))
    answers.append(_commands(slurm.bin_dir))
    directories = {table.runner_dir: table.name for table in reversed(settings.pool_tables) if table.runner_dir}
    answers += [_runner(f"pool {pool} runner_dir", path) for path, pool in reversed(directories.items())]
    answers += _node_url(settings)
    return answers


def _directory(subject: str, path: Path, *, private: bool) -> Answer:
    try:
        state = path.stat()
    except OSError as error:
        mode = "0700" if private else "0750"
        return Answer(Verdict.FALSE, subject, f"{path}: {error.strerror}; make it with: install -d -m {mode} {path}")
    permissions = stat.S_IMODE(state.st_mode)
    if not stat.S_ISDIR(state.st_mode):
        return Answer(Verdict.FALSE, subject, f"{path} is not a directory")
    if private and permissions & 0o077:
        text = f"{path} is open to others (mode {permissions:04o}); it holds secrets: chmod 700 {path}"
        return Answer(Verdict.FALSE, subject, text)
    if permissions & 0o002 and not permissions & stat.S_ISVTX:
        text = f"everybody may replace files in {path} (mode {permissions:04o}): chmod o-w {path}"
        return Answer(Verdict.FALSE, subject, text)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Answer(Verdict.FALSE, subject, f"{path} is not writable by {_user()}")
    return Answer(Verdict.TRUE, subject, f"{path} is there and writable")


def _readable(subject: str, path: Path) -> Answer:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return Answer(Verdict.FALSE, subject, f"{path} cannot be read by {_user()}: {error.strerror}")
    return Answer(Verdict.TRUE, subject, f"{path} can be read")


def _private_file(subject: str, path: Path) -> Answer:
    answer = _readable(subject, path)
    if answer.verdict is Verdict.TRUE and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o007:
        return Answer(Verdict.FALSE, subject, f"{path} is open to every user (mode {mode:04o}): chmod 600 {path}")
    return answer


def _commands(bin_dir: Path | None) -> Answer:
    where = "PATH" if bin_dir is None else str(bin_dir)
    wanted = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
    missing = [name for name in wanted if shutil.which(name, path=None if bin_dir is None else str(bin_dir)) is None]
    if missing:
        return Answer(Verdict.FALSE, "slurm commands", f"not found on {where}: {', '.join(missing)}")
    return Answer(Verdict.TRUE, "slurm commands", f"found on {where}")


def _runner(subject: str, path: Path) -> Answer:
    if not path.exists():
        text = f"{path} is not on this machine; it must be on the nodes"
        return Answer(Verdict.DOUBTFUL, subject, text)
    missing = [name for name in ("run.sh", "bin/Runner.Listener") if not (path / name).is_file()]
    if missing:
        text = f"{path} is no unpacked actions/runner: it has no {' and no '.join(missing)}"
        return Answer(Verdict.FALSE, subject, text)
    return Answer(Verdict.TRUE, subject, f"{path} holds a runner")


def _node_url(settings: Settings) -> Iterator[Answer]:
    url = settings.service.node_url
    claims = any(table.handover is Handover.CLAIM for table in settings.pool_tables)
    if url is not None and claims and url.startswith("http://"):
        text = (
            f"{url} is not encrypted: whoever can listen in on the cluster's network can read runners' "
            "configurations; https:// needs tls_certificate and tls_key, or a proxy"
        )
        yield Answer(Verdict.DOUBTFUL, "node_url", text)


def _user() -> str:
    return f"this user (uid {os.geteuid()})"
