"""act's JSON log, line by line, as a runner's job log and the steps so far. Pure: times are given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slurm_gha.testing.runner.workflow import COLLECT, SETUP, StepPlan

_EXIT = re.compile(r"exit status (\d+)|exitcode '(\d+)': failure")
_LAST_WORDS = re.compile(r"Error: Job 'job[^']*' failed")
_DRAINED = re.compile(r"stand-in-drained:(\d+)\r?\n?$")
_NO_REPOSITORY = "located inside a git repository"
_SHOWN = frozenset({"error", "warning", "notice", "debug", "group", "endgroup"})
_RESULTS = {"success": "succeeded", "failure": "failed", "cancelled": "canceled", "skipped": "skipped"}
_FIRST_LINE = re.compile(r"^[^\n]*")


@dataclass(slots=True)
class StepState:
    """A step of the job. ``result`` is a TaskResult's word, None while it runs or waits. Times: epoch seconds."""

    plan: StepPlan
    name: str
    started_at: float | None = None
    completed_at: float | None = None
    result: str | None = None
    summary: str = ""


@dataclass(slots=True)
class JobLog:
    """What act has said so far. ``result`` is the job's, once known; ``secrets`` never get into ``lines``.

    ``drained`` are process ids of step holders that wait to hear that their step's output has been read."""

    plans: Sequence[StepPlan]
    secrets: Sequence[str] = ()
    steps: list[StepState] = field(init=False)
    lines: list[str] = field(default_factory=list)
    result: str | None = None
    masks: set[str] = field(init=False)
    drained: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps = [StepState(plan, plan.name or _run_name(plan.text)) for plan in self.plans]
        self.masks = {secret for secret in self.secrets if secret}

    def write(self, now: float, text: str) -> None:
        """Add lines to the log, each with its time, with secrets hidden."""
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        self.lines += [f"{stamp} {self.masked(line)}" for line in text.rstrip("\n").split("\n")]

    def masked(self, text: str) -> str:
        for secret in sorted(self.masks, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def feed(self, now: float, line: str) -> bool:
        """Take one line of act's output; whether a step began or ended."""
        try:
            said = json.loads(line)
        except ValueError:
            said_before = line.startswith("Error: ") and any(line[7:].strip() in text for text in self.lines[-3:])
            if line.strip() and not said_before and not _LAST_WORDS.fullmatch(line.strip()):
                self.write(now, line)
            return False
        if not isinstance(said, Mapping):
            return False
        if "jobResult" in said:
            self.result = _RESULTS.get(said["jobResult"], "failed")
            return False
        step = self._step(said)
        if step is None:
            around = "job" not in said or said.get("stepid")  # act's own steps are written so
            if said.get("level") in ("error", "fatal") and said.get("stepID") is None and around:
                self._trouble(now, said)
            return False
        return self._step_said(now, said, step)

    def _trouble(self, now: float, said: Mapping[str, Any]) -> None:
        if _NO_REPOSITORY not in str(said.get("msg")):
            self.write(now, f"##[error]{said.get('msg')} {said.get('error') or ''}".rstrip())

    def _step(self, said: Mapping[str, Any]) -> StepState | None:
        ids = said.get("stepID") or [None]
        if ids[0] in (None, SETUP, COLLECT):
            return None
        return next((step for step in self.steps if step.plan.key == ids[0]), None)

    def _step_said(self, now: float, said: Mapping[str, Any], step: StepState) -> bool:
        message, command = str(said.get("msg") or ""), said.get("command")
        if command is not None:
            self._command(now, said, step)
        elif said.get("raw_output"):
            self._output(now, message)
        elif message.startswith("⭐ Run Main") and len(said["stepID"]) == 1:
            return self._begin(now, said, step)
        elif said.get("stepResult") and said.get("stage") == "Main" and len(said["stepID"]) == 1:
            step.result, step.completed_at = _RESULTS.get(said["stepResult"], "failed"), now
            return True
        elif said.get("level") == "error" and _NO_REPOSITORY not in message:
            code = _EXIT.fullmatch(message)
            words = f"Process completed with exit code {code[1] or code[2]}." if code else message
            self.write(now, f"##[error]{words}")
        return False

    def _output(self, now: float, text: str) -> None:
        """A line of a step's; the one with which ``hold.sh`` asks whether all before it has been read is kept back."""
        asked = _DRAINED.search(text)
        if asked is not None:
            self.drained.append(asked[1])
            text = text[: asked.start()]
        if text:
            self.write(now, text)

    def _begin(self, now: float, said: Mapping[str, Any], step: StepState) -> bool:
        shown = str(said.get("step") or step.plan.text)
        step.name = self.masked(
            step.name if step.plan.name is not None and "${{" not in step.plan.name else _shown(step, shown)
        )
        step.started_at = now
        self.write(now, f"##[group]{_run_name(shown) if step.plan.name is None else step.name}")
        self.write(now, f"{shown if step.plan.name is None else step.plan.text}\n##[endgroup]")
        return True

    def _command(self, now: float, said: Mapping[str, Any], step: StepState) -> None:
        command, argument = said["command"], str(said.get("arg") or "")
        if command == "add-mask" and argument:
            self.masks.add(argument)
        elif command == "summary":
            step.summary = self.masked(str(said.get("content") or ""))
        elif command in _SHOWN:
            self.write(now, f"##[{command}]{argument}")

    def settle(self, now: float, collected: Mapping[str, Any], *, cancelled: bool) -> None:
        """Take what act knows of every step at the end; steps it never came to are skipped or cancelled."""
        for step in self.steps:
            known = collected.get(step.plan.key) or {}
            running = step.started_at is not None and step.result is None
            if cancelled and (running or (step.result == "failed" and step is self._last_failed())):
                step.result = "canceled"
            elif known.get("conclusion"):
                step.result = _RESULTS.get(known["conclusion"], "failed")
            elif step.result is None:
                step.result = "canceled" if running else "skipped"
            if step.started_at is not None and step.completed_at is None:
                step.completed_at = now

    def _last_failed(self) -> StepState | None:
        """Of a cancelled job: the step that was running then, as the first that failed and was not tolerated."""
        return next((s for s in self.steps if s.result == "failed" and not s.plan.continue_on_error), None)

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def _run_name(text: str) -> str:
    first = _FIRST_LINE.match(text.strip())
    return f"Run {first[0] if first else ''}".rstrip()


def _shown(step: StepState, shown: str) -> str:
    return shown if step.plan.name is not None else _run_name(shown)
