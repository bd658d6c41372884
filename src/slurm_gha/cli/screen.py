"""The status as one screen: what needs somebody first, then what waits, then what runs. Pure.

Every text that came from elsewhere is cleaned before it reaches a terminal, and none is read as markup.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slurm_gha.observe.status import RunnerStatus, ScaleSetStatus, ScopeStatus, Status, WaitingJob
from slurm_gha.observe.text import presentable

Item = TypeVar("Item")

# A status older than this comes from a service that hangs, if one runs at all (seconds).
STALE = 60.0
_BAD, _DOUBTFUL, _GOOD, _FAINT = "bold red", "yellow", "green", "bright_black"
# What should move on first: a runner that is not working yet is what one looks for.
_PHASES = ("starting", "pending", "submitted", "ended", "idle", "busy")
_PHASE_STYLES = {"busy": _GOOD, "idle": "cyan", "starting": "blue", "ended": _FAINT}


@dataclass(frozen=True, slots=True)
class Frame:
    """How a screen is to be made. ``running``: whether the service lives (None: cannot be told).

    ``width`` and ``height`` in characters and lines; without a height, everything is shown.
    """

    now: float
    running: bool | None
    width: int = 80
    height: int | None = None


def screen(status: Status, frame: Frame) -> RenderableType:
    """The whole screen."""
    top = [_header(status, frame), *_problems(status, frame)]
    pools, feet = _pools(status), [_slurm(status, frame), *(_scope(scope, frame) for scope in status.scopes)]
    feet += [_scale_set(each, frame) for each in status.scale_sets]
    jobs, runners = sorted(status.jobs, key=_job_order), sorted(status.runners, key=_runner_order)
    if frame.height is None:
        rooms = (len(jobs), len(runners))
    else:
        most = max(3, frame.height // 6)
        pools, feet = _shortened(pools, most, "pools"), _shortened(feet, most, "scopes")
        titles = 2 + (len(status.jobs) > 0) + (len(status.runners) > 0)
        used = len(top) + len(pools) + len(feet) + titles + 2  # two blank lines
        rooms = share(max(2, frame.height - used), len(jobs), len(runners))
    parts: list[RenderableType] = [
        *top,
        Text(),
        Text(_title(len(jobs), "job waiting", "jobs waiting"), style="bold"),
        *_jobs(jobs, rooms[0], frame),
        Text(_title(len(runners), "runner", "runners"), style="bold"),
        *_runners(runners, rooms[1], frame),
        Text(),
        *pools,
        *feet,
    ]
    return Group(*parts)


def share(room: int, first: int, second: int) -> tuple[int, int]:
    """Divide lines between two lists: half each, and what one does not need goes to the other."""
    half = room // 2
    if first <= half:
        return first, min(second, room - first)
    if second <= room - half:
        return min(first, room - second), second
    return half, room - half


def lasting(seconds: float) -> str:
    """A length of time in a few characters: ``5 s``, ``12 min``, ``3 h 05``, ``4 d``."""
    seconds = max(0, int(seconds))
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 6000:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02}"
    return f"{seconds // 86400} d"


def _header(status: Status, frame: Frame) -> Text:
    age = frame.now - status.at
    line = Text("slurm-gha ", style="bold", no_wrap=True, overflow="ellipsis")
    line.append(presentable(status.installation, 20))
    match frame.running:
        case True if age > STALE:
            line.append(f"  HANGS? pid {status.pid} said nothing for {lasting(age)}", _BAD)
        case True:
            line.append("  running", _GOOD)
            line.append(f" for {lasting(frame.now - status.started_at)}, pid {status.pid}", "not bold")
        case False:
            line.append(f"  NOT RUNNING, this was so {lasting(age)} ago", _BAD)
        case None:
            line.append(f"  state unknown, this was so {lasting(age)} ago", _DOUBTFUL)
    if frame.running and age <= STALE:
        line.append(f"  as of {lasting(age)} ago", f"not bold {_FAINT}")
    line.append(f"  {presentable(status.version, 20)}", f"not bold {_FAINT}")
    return line


def _problems(status: Status, frame: Frame) -> list[Text]:
    """What keeps jobs from running, the widest first."""
    found: list[tuple[str, str]] = []
    if not status.slurm.readable:
        found.append((_BAD, f"Slurm cannot be read: {status.slurm.error or 'not tried yet'}"))
    for scope in status.scopes:
        if scope.error is not None:
            found.append((_BAD, f"GitHub, scope {scope.name}, cannot be read: {scope.error}"))
        if scope.budget is not None and (until := scope.budget.blocked_until or 0) > frame.now:
            found.append((_DOUBTFUL, f"GitHub, scope {scope.name}, told us to wait {lasting(until - frame.now)}"))
    for each in status.scale_sets:
        if each.standing == "conflict":
            found.append((_BAD, f"scale set {each.name}: another controller reads its queue: {each.trouble}"))
        elif each.trouble is not None:
            found.append((_BAD, f"scale set {each.name} cannot be read: {each.trouble}"))
        if each.dropped:
            kept, lost = ", ".join(each.labels), ", ".join(each.dropped)
            text = f"scale set {each.name}: GitHub kept only the labels {kept}, not {lost}: runs-on has to use those"
            found.append((_DOUBTFUL, text))
    for pool in status.pools:
        if pool.until is not None:
            wait = f"for {lasting(pool.until - frame.now)}" if pool.until > frame.now else "until one runner works"
            times = f"{pool.failures} failure{'s' * (pool.failures != 1)}"
            found.append((_BAD, f"pool {pool.name} backs off {wait} ({times}): {pool.reason}"))
    held = (runner for runner in status.runners if runner.held)
    found += [(_BAD, f"Slurm holds job {r.slurm_id} ({r.name}): {r.slurm_reason or r.slurm_state}") for r in held]
    found += _without_pool([job for job in status.jobs if job.unservable], "job finds no pool", "jobs find no pool")
    found += _without_pool([job for job in status.jobs if job.refused], "job is refused", "jobs are refused")
    if status.draining:
        found.append((_DOUBTFUL, "draining: no new runner is started"))
    return _fitted([(style, presentable(text)) for style, text in found], frame)


def _without_pool(jobs: Sequence[WaitingJob], one: str, more: str) -> list[tuple[str, str]]:
    if not jobs:
        return []
    first = min(jobs, key=lambda job: job.since)
    return [(_DOUBTFUL, f"{_title(len(jobs), one, more)}; {first.repository} {first.name}: {first.why}")]


def _fitted(found: Sequence[tuple[str, str]], frame: Frame) -> list[Text]:
    """One line for each problem, and a second one for those that need it as long as there is room."""
    most = max(4, frame.height // 5) if frame.height is not None else sys.maxsize
    spare = most - len(found)
    lines: list[Text] = []
    for style, text in found:
        wrapped = textwrap.wrap(text, max(20, frame.width - 2), break_on_hyphens=False)
        if frame.height is not None and len(wrapped) > 1:
            wrapped = [wrapped[0], " ".join(wrapped[1:])] if spare > 0 else [text]
            spare -= 1
        marks = ["! ", *["  "] * len(wrapped)]
        lines += [
            Text(mark + line, style=style, no_wrap=True, overflow="ellipsis")
            for mark, line in zip(marks, wrapped, strict=False)
        ]
    return _shortened(lines, most, "problems")


def _job_order(job: WaitingJob) -> tuple[bool, bool, float, int]:
    return (not (job.unservable or job.refused), job.runner is not None, job.since, job.id)


def _jobs(jobs: Sequence[WaitingJob], room: int, frame: Frame) -> list[RenderableType]:
    table = _table(
        frame, ("since", 7, 0), ("repository", 10, 2), ("job", 8, 2), ("wants", 6, 1), ("why it waits", 20, 4)
    )
    for job in _first(jobs, room):
        style = _DOUBTFUL if job.unservable or job.refused else ""
        table.add_row(
            lasting(frame.now - job.since),
            _cell(job.repository),
            _cell(job.name),
            _cell(", ".join(label for label in job.labels if label != "self-hosted")),
            _cell(job.why),
            style=style,
        )
    return _with_rest(table, jobs, room)


def _runner_order(runner: RunnerStatus) -> tuple[int, float, str]:
    phase = _PHASES.index(runner.phase) if runner.phase in _PHASES else -1
    return (phase, runner.since, runner.name)


def _runners(runners: Sequence[RunnerStatus], room: int, frame: Frame) -> list[RenderableType]:
    table = _table(frame, ("phase", 9, 0), ("for", 7, 0), ("runner", 12, 3), ("slurm job", 9, 0), ("what", 16, 5))
    for runner in _first(runners, room):
        style = _PHASE_STYLES.get(runner.phase, "")
        number = str(runner.slurm_id) if runner.slurm_id is not None else "-"
        table.add_row(
            Text(presentable(runner.phase, 9), style=style),
            lasting(frame.now - runner.since),
            _cell(runner.name),
            number,
            _cell(_what(runner)),
        )
    return _with_rest(table, runners, room)


def _what(runner: RunnerStatus) -> str:
    """The most telling thing about a runner in its phase."""
    if runner.withdrawn_because is not None:
        return f"is being withdrawn: {runner.withdrawn_because}"
    if runner.phase in ("pending", "submitted"):
        return runner.slurm_reason or runner.slurm_state.lower() or "not seen in Slurm yet"
    if runner.phase == "ended":
        return f"Slurm: {runner.slurm_state.lower() or 'nothing known'}; its registration is being looked after"
    job = f"job {runner.job_id}" if runner.phase == "busy" and runner.job_id is not None else ""
    place = f"on {runner.node}" if runner.node else ""
    repository = runner.repository if job and runner.repository else ""
    state = runner.slurm_state.lower() if runner.slurm_state not in ("", "RUNNING") else ""
    return " ".join(part for part in (place, job, repository, state) if part)


def _pools(status: Status) -> list[Text]:
    lines: list[Text] = []
    for pool in status.pools:
        phases = ", ".join(f"{pool.phases[phase]} {phase}" for phase in _PHASES if pool.phases.get(phase))
        line = Text("pool ", no_wrap=True, overflow="ellipsis")
        line.append(f"{presentable(pool.name, 24):<14} ")
        full = pool.live >= pool.limit
        line.append(f"{pool.live:>4} of {pool.limit:<5}", _DOUBTFUL if full and pool.live else "")
        line.append(f" {presentable(phases)}", _FAINT)
        lines.append(line)
    return lines


def _slurm(status: Status, frame: Frame) -> Text:
    return _reading("Slurm", "", status.slurm.readable, status.slurm.last_read, frame)


def _scope(scope: ScopeStatus, frame: Frame) -> Text:
    line = _reading("GitHub", scope.name, scope.readable, scope.last_read, frame)
    if scope.sources != ("poll",):
        line.append(f", by {' and '.join(presentable(source, 12) for source in scope.sources)}")
    if "webhook" in scope.sources:
        none, at = scope.last_delivery is None, scope.last_delivery or 0.0
        line.append(
            ", no delivery yet" if none else f", delivery {lasting(frame.now - at)} ago", _DOUBTFUL if none else ""
        )
    budget = scope.budget
    if budget is not None and budget.remaining is not None and budget.limit:
        style = (
            _BAD if budget.remaining < budget.limit / 20 else _DOUBTFUL if budget.remaining < budget.limit / 5 else ""
        )
        line.append(f", budget {budget.remaining:,} of {budget.limit:,}", style)
        if budget.reset is not None and budget.reset > frame.now:
            line.append(f", new in {lasting(budget.reset - frame.now)}", _FAINT)
    return line


def _scale_set(each: ScaleSetStatus, frame: Frame) -> Text:
    line = Text(f"queue   {presentable(each.name, 24):<12} ", no_wrap=True, overflow="ellipsis")
    style = {"listening": _GOOD, "beginning": _DOUBTFUL}.get(each.standing, _BAD)
    age = "" if each.session_since is None else f" for {lasting(frame.now - each.session_since)}"
    line.append(f"{presentable(each.standing, 12)}{age}", style)
    waiting = each.counts.get("assigned", 0) - each.counts.get("running", 0)
    line.append(f", {each.counts.get('running', 0)} running, {max(0, waiting)} waiting", _FAINT)
    return line


def _reading(what: str, name: str, readable: bool, last_read: float | None, frame: Frame) -> Text:
    line = Text(f"{what:<7} ", no_wrap=True, overflow="ellipsis")
    if name:
        line.append(f"{presentable(name, 24):<12} ")
    read = "never read" if last_read is None else f"read {lasting(frame.now - last_read)} ago"
    line.append(read, _GOOD if readable else _BAD)
    return line


def _table(frame: Frame, *columns: tuple[str, int, int]) -> Table:
    """Columns as (title, least width, share of what is left); long texts are cut on a screen, else wrapped."""
    cut = frame.height is not None
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style=_FAINT, expand=True)
    for title, least, ratio in columns:
        table.add_column(
            title, min_width=least, ratio=ratio or None, no_wrap=cut, overflow="ellipsis" if cut else "fold"
        )
    return table


def _cell(text: str) -> Text:
    return Text(presentable(text))


def _first(items: Sequence[Item], room: int) -> Sequence[Item]:
    return items if len(items) <= room else items[: max(0, room - 1)]


def _with_rest(table: Table, items: Sequence[object], room: int) -> list[RenderableType]:
    if not items:
        return []
    rest = len(items) - len(_first(items, room))
    return [table, Text(f"… and {rest} more", style=_FAINT)] if rest else [table]


def _shortened(lines: Sequence[Text], most: int, what: str) -> list[Text]:
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], Text(f"… and {len(lines) - most + 1} more {what}", style=_FAINT)]


def _title(number: int, one: str, many: str) -> str:
    return f"{number or 'no'} {one if number == 1 else many}"
