"""Workflow files: real YAML in, frozen definitions out; triggers, matrices and names as GitHub expands them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from slurm_gha.testing.github.errors import WorkflowError
from slurm_gha.testing.github.expressions import Context, Functions, expand, interpolate, to_text

MATRIX_LIMIT = 256
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
Combination = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """One entry of ``jobs:``. ``body`` is the YAML as written; the fields are what the service itself acts on."""

    key: str
    body: Mapping[str, Any]
    needs: tuple[str, ...]
    runs_on: Any
    condition: str | None
    timeout_minutes: float
    fail_fast: Any
    max_parallel: Any
    continue_on_error: Any


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow file. ``triggers`` maps an event to its filters; ``jobs`` keep the file's order."""

    path: str
    name: str
    run_name: str | None
    triggers: Mapping[str, Mapping[str, Any]]
    concurrency: Any
    jobs: Mapping[str, JobDefinition]
    body: Mapping[str, Any]
    text: str

    def ancestors(self, key: str) -> tuple[str, ...]:
        """Every job that must be over before this one, directly or through others."""
        found: dict[str, None] = {}
        open_keys = list(self.jobs[key].needs)
        while open_keys:
            need = open_keys.pop()
            if need not in found:
                found[need] = None
                open_keys.extend(self.jobs[need].needs)
        return tuple(found)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 booleans only: ``on`` is a word here, as it is for GitHub."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse(path: str, text: str) -> Workflow:
    """Read a workflow file; raises WorkflowError with the file, the key and what is allowed there."""
    try:
        body = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        raise WorkflowError(f"{path}: not YAML: {error}") from error
    if not isinstance(body, Mapping):
        raise WorkflowError(f"{path}: a workflow is a mapping with 'on' and 'jobs'")
    jobs_body = body.get("jobs")
    if not isinstance(jobs_body, Mapping) or not jobs_body:
        raise WorkflowError(f"{path}: jobs: at least one job is needed")
    jobs = {str(key): _job(path, str(key), job) for key, job in jobs_body.items()}
    for job in jobs.values():
        for need in job.needs:
            if need not in jobs:
                raise WorkflowError(f"{path}: jobs.{job.key}.needs: no job {need!r}; there are {', '.join(jobs)}")
    workflow = Workflow(
        path=path,
        name=str(body.get("name") or path),
        run_name=None if body.get("run-name") is None else str(body["run-name"]),
        triggers=_triggers(path, body.get("on")),
        concurrency=body.get("concurrency"),
        jobs=jobs,
        body=body,
        text=text,
    )
    for key in jobs:
        if key in workflow.ancestors(key):
            raise WorkflowError(f"{path}: jobs.{key}.needs: the job needs itself through a circle")
    return workflow


def _triggers(path: str, on: Any) -> Mapping[str, Mapping[str, Any]]:
    if isinstance(on, str):
        return {on: {}}
    if isinstance(on, Mapping):
        return {
            str(event): filters if isinstance(filters, Mapping) else {"items": filters} if filters else {}
            for event, filters in on.items()
        }
    if isinstance(on, Sequence) and on:
        return {str(event): {} for event in on}
    raise WorkflowError(f"{path}: on: an event, a list of events or a mapping of them is needed")


def _job(path: str, key: str, body: Any) -> JobDefinition:
    where = f"{path}: jobs.{key}"
    if not _KEY.fullmatch(key):
        raise WorkflowError(f"{where}: a job's key begins with a letter or _ and holds letters, digits, - and _")
    if not isinstance(body, Mapping):
        raise WorkflowError(f"{where}: a job is a mapping")
    if "uses" in body:
        raise WorkflowError(f"{where}.uses: reusable workflows are not simulated")
    if "runs-on" not in body:
        raise WorkflowError(f"{where}.runs-on: is missing")
    if not isinstance(body.get("steps"), Sequence) or not body["steps"]:
        raise WorkflowError(f"{where}.steps: at least one step is needed")
    needs = body.get("needs") or ()
    strategy = body.get("strategy") or {}
    if not isinstance(strategy, Mapping):
        raise WorkflowError(f"{where}.strategy: is a mapping of matrix, fail-fast and max-parallel")
    timeout = body.get("timeout-minutes", 360)
    return JobDefinition(
        key=key,
        body=body,
        needs=(needs,) if isinstance(needs, str) else tuple(str(need) for need in needs),
        runs_on=body["runs-on"],
        condition=None if body.get("if") is None else to_text(body["if"]),
        timeout_minutes=float(timeout) if isinstance(timeout, int | float) else 360.0,
        fail_fast=strategy.get("fail-fast", True),
        max_parallel=strategy.get("max-parallel"),
        continue_on_error=body.get("continue-on-error", False),
    )


def triggered(
    workflow: Workflow, event: str, branch: str, changed: Iterable[str] = (), action: str | None = None
) -> bool:
    """Whether the event on the branch starts the workflow, by its branch, path and type filters."""
    filters = workflow.triggers.get(event)
    if filters is None:
        return False
    if event == "pull_request":
        types = _items(filters.get("types")) or ("opened", "synchronize", "reopened")
        if action is not None and action not in types:
            return False
    elif event == "push" and not filters.keys() & {"branches", "branches-ignore"} and "tags" in filters:
        return False
    if event in ("push", "pull_request"):
        paths = tuple(changed)
        return _allowed(filters, "branches", (branch,)) and (not paths or _allowed(filters, "paths", paths))
    return True


def _allowed(filters: Mapping[str, Any], key: str, names: Iterable[str]) -> bool:
    wanted, ignored = _items(filters.get(key)), _items(filters.get(f"{key}-ignore"))
    names = tuple(names)
    if wanted:
        return any(_selected(name, wanted) for name in names)
    if ignored:
        return any(not _selected(name, ignored) for name in names)
    return True


def _selected(name: str, patterns: Sequence[str]) -> bool:
    chosen = False
    for pattern in patterns:
        if pattern.startswith("!"):
            chosen = chosen and not _glob(pattern[1:]).fullmatch(name)
        else:
            chosen = chosen or bool(_glob(pattern).fullmatch(name))
    return chosen


def _glob(pattern: str) -> re.Pattern[str]:
    """GitHub's filter patterns: ``*`` stops at a slash, ``**`` does not; ``?`` and ``+`` repeat what stands before."""
    parts = re.split(r"(\*\*|\*|\?|\+|\[[^]]+\])", pattern)
    special = {"**": ".*", "*": "[^/]*", "?": "?", "+": "+"}
    written = (special.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts)
    return re.compile("".join(written))


def _items(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(item) for item in value)


def combinations(job: JobDefinition, context: Context, functions: Functions | None = None) -> list[Combination]:
    """The matrix combinations of a job in GitHub's order; one empty combination when there is no matrix."""
    matrix = (job.body.get("strategy") or {}).get("matrix")
    if matrix is None:
        return [{}]
    matrix = expand(matrix, context, functions)
    if not isinstance(matrix, Mapping):
        raise WorkflowError(f"jobs.{job.key}.strategy.matrix: is a mapping")
    axes = {str(axis): values for axis, values in matrix.items() if axis not in ("include", "exclude")}
    for axis, values in axes.items():
        if not isinstance(values, list):
            raise WorkflowError(f"jobs.{job.key}.strategy.matrix.{axis}: is a list")
    product = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    excluded = [item for item in matrix.get("exclude") or [] if isinstance(item, Mapping)]
    kept = [each for each in product if not any(item.items() <= each.items() for item in excluded)]
    result = _include(kept, axes, matrix.get("include") or [])
    if not result:
        raise WorkflowError(f"jobs.{job.key}.strategy.matrix: must define at least one combination")
    if len(result) > MATRIX_LIMIT:
        raise WorkflowError(f"jobs.{job.key}.strategy.matrix: {len(result)} combinations; at most {MATRIX_LIMIT}")
    return result


def _include(kept: list[dict[str, Any]], axes: Mapping[str, Any], include: Any) -> list[Combination]:
    """An include extends every combination whose own values it does not contradict; fitting none, it adds one."""
    extra: list[Combination] = []
    originals = [dict(each) for each in kept]
    for item in include:
        if not isinstance(item, Mapping):
            raise WorkflowError("strategy.matrix.include: is a list of mappings")
        fits = False
        for original, each in zip(originals, kept, strict=True):
            if all(original[axis] == item[axis] for axis in axes if axis in item):
                each.update(item)
                fits = True
        if not fits:
            extra.append(dict(item))
    return [*kept, *extra]


def display_name(job: JobDefinition, matrix: Combination, context: Context) -> str:
    """``job (a, b)``, or the job's own name with its expressions filled in."""
    named = job.body.get("name")
    if isinstance(named, str):
        if "${{" in named:
            return to_text(interpolate(named, context))
        if not matrix:
            return named
    base = to_text(named) if named is not None else job.key
    leaves = [to_text(leaf) for value in matrix.values() for leaf in _leaves(value)]
    return f"{base} ({', '.join(leaves)})" if leaves else base


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def labels(job: JobDefinition, context: Context) -> tuple[str, ...]:
    """The labels a job asks for: ``runs-on`` as a string, a list, an expression, or a mapping with ``labels``."""
    wanted = expand(job.runs_on, context)
    if isinstance(wanted, Mapping):
        wanted = wanted.get("labels") or []
    if isinstance(wanted, str):
        wanted = [wanted]
    found = tuple(to_text(label) for label in wanted) if isinstance(wanted, list) else ()
    if not found or not all(found):
        raise WorkflowError(f"jobs.{job.key}.runs-on: gives no label: {job.runs_on!r}")
    return found
