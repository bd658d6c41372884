"""One moment of the demo as a frozen value: each job, its runner and its Slurm job side by side. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slurm_gha.observe.status import RunnerStatus, Status
from slurm_gha.testing.github.values import JobGroup, Run, SimJob
from slurm_gha.testing.github.workflows import JobDefinition

SIZES = ("small", "large", "docker")
OVER = frozenset({"success", "failure", "cancelled", "skipped"})


@dataclass(frozen=True, slots=True)
class Row:
    """A job. ``state`` is ``needs``, ``queued``, ``pending``, ``starting``, ``running`` or, in the end, a conclusion.

    ``waited`` and ``ran`` in seconds, so far or in all; None for what has not begun. ``slurm`` is the Slurm job's id.
    """

    name: str
    size: str
    state: str
    detail: str = ""
    runner: str = ""
    slurm: str = ""
    waited: float | None = None
    ran: float | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER


@dataclass(frozen=True, slots=True)
class Picture:
    """All jobs; runners by phase and Slurm jobs by state, as the service last told; calls to GitHub so far.

    ``at`` is seconds since the demo's push.
    """

    at: float
    rows: tuple[Row, ...]
    runners: Mapping[str, int]
    slurm: Mapping[str, int]
    counted: int
    uncounted: int

    @property
    def done(self) -> int:
        return sum(row.over for row in self.rows)


def take(
    runs: Iterable[Run],
    jobs: Mapping[int, SimJob],
    status: Status | None,
    *,
    now: float,
    since: float,
    calls: tuple[int, int],
) -> Picture:
    """The moment ``now`` (seconds since the epoch, as ``since``, the time of the push)."""
    runners = {runner.name: runner for runner in status.runners} if status is not None else {}
    expected = {job.id: (job.runner, job.why) for job in status.jobs} if status is not None else {}
    rows: list[Row] = []
    for run in runs:
        for key, group in list(run.groups.items()):
            made = [jobs[job_id] for job_id in list(group.jobs) if job_id in jobs]
            rows += [_row(job, runners, expected, now) for job in made] or [_not_yet(key, group)]
    return Picture(
        at=now - since,
        rows=tuple(rows),
        runners=Counter(runner.phase for runner in runners.values()),
        slurm=Counter(runner.slurm_state.lower() for runner in runners.values() if runner.slurm_state),
        counted=calls[0],
        uncounted=calls[1],
    )


def _not_yet(key: str, group: JobGroup) -> Row:
    """A job that GitHub has not even queued: others have to be over first."""
    size = _size(group.definition)
    if group.result is not None:
        return Row(key, size, group.result)
    return Row(key, size, "needs", ", ".join(group.definition.needs))


def _row(
    job: SimJob,
    runners: Mapping[str, RunnerStatus],
    expected: Mapping[int, tuple[str | None, str]],
    now: float,
) -> Row:
    expected_runner, why = expected.get(job.id, (None, ""))
    name = job.runner_name or (expected_runner if job.status == "queued" else None)
    runner = runners.get(name or "")
    if job.status == "queued" and runner is not None and runner.phase in ("busy", "ended"):
        runner = None  # it may have taken this job a moment ago; if not, another one is submitted soon
    state, detail = _state(job, runner, why)
    ran = job.runner_name is not None
    started, ended = job.started_at, job.completed_at
    until = (ended if not ran else started) if started is not None else ended
    return Row(
        name=job.name,
        size=_size(job.definition),
        state=state,
        detail=detail,
        runner=name or "",
        slurm="" if runner is None or runner.slurm_id is None else str(runner.slurm_id),
        waited=None if state == "skipped" else (until if until is not None else now) - job.queued_at,
        ran=(ended if ended is not None else now) - started if ran and started is not None else None,
    )


def _state(job: SimJob, runner: RunnerStatus | None, why: str) -> tuple[str, str]:
    if job.status == "completed":
        return job.conclusion or "failure", ""
    if job.status == "in_progress":
        place = f"on {runner.node}" if runner is not None and runner.node else ""
        step = _step(job.steps)
        return "running", ", ".join(part for part in (place, step) if part)
    if runner is None:
        return "queued", why
    if runner.phase in ("submitted", "pending"):
        return "pending", runner.slurm_reason
    return "starting", f"on {runner.node}" if runner.node else ""


def _step(steps: Sequence[Mapping[str, object]]) -> str:
    """The step that is being done now."""
    running = [str(step.get("name", "")) for step in steps if step.get("status") == "in_progress"]
    return running[-1] if running else ""


def _size(definition: JobDefinition) -> str:
    return next((str(label) for label in definition.runs_on if label in SIZES), "")
