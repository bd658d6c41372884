"""The messages a runner gets: an offered job, a cancellation, and the job itself with all that its steps need.

Field names and encodings: actions/runner, ``src/Sdk/DTPipelines/Pipelines/AgentJobRequestMessage.cs``,
``src/Sdk/DTObjectTemplating/ObjectTemplating/Tokens`` and ``src/Runner.Listener/RunnerJobRequestRef.cs``.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from slurm_gha.testing.github import progress
from slurm_gha.testing.github.expressions import STATUS_FUNCTIONS, mentions, parse, to_text
from slurm_gha.testing.github.runners import Addresses
from slurm_gha.testing.github.values import Assignment, SimJob

SEQUENCE, MAPPING, EXPRESSION, BOOLEAN, NUMBER, NULL = 1, 2, 3, 5, 6, 7
CANCELLATION_GRACE = "00:05:00"
_EMBEDDED = re.compile(r"\$\{\{((?:[^'}]|'(?:[^']|'')*'|\}(?!\}))*)\}\}")
_ACTION = re.compile(r"(?P<name>[^/@]+/[^/@]+)(?:/(?P<path>[^@]+))?@(?P<ref>.+)")
Message = dict[str, Any]


def timestamp(seconds: float) -> str:
    """A time as the runner's services write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def token(value: Any) -> Any:
    """A YAML value as a template token, its ``${{ }}`` parts left for the runner to evaluate."""
    match value:
        case None:
            return {"type": NULL}
        case bool():
            return {"type": BOOLEAN, "bool": value}
        case int() | float():
            return {"type": NUMBER, "num": value}
        case Mapping():
            pairs = [{"Key": token(str(key)), "Value": token(item)} for key, item in value.items()]
            return {"type": MAPPING, "map": pairs}
        case str():
            expression = as_expression(value)
            return value if expression is None else {"type": EXPRESSION, "expr": expression}
        case Sequence():
            return {"type": SEQUENCE, "seq": [token(item) for item in value]}
        case _:
            return str(value)


def as_expression(text: str) -> str | None:
    """The one expression a text with embedded ones amounts to; None for a text without."""
    found = list(_EMBEDDED.finditer(text))
    if not found:
        return None
    if len(found) == 1 and found[0][0] == text:
        return found[0][1].strip()
    pieces: list[str] = []
    end = 0
    for number, match in enumerate(found):
        pieces += [_literal(text[end : match.start()]), f"{{{number}}}"]
        end = match.end()
    pieces.append(_literal(text[end:]))
    arguments = ", ".join(match[1].strip() for match in found)
    return f"format('{''.join(pieces)}', {arguments})"


def _literal(text: str) -> str:
    return text.replace("'", "''").replace("{", "{{").replace("}", "}}")


def condition(value: Any) -> str:
    """A step's ``if:`` as the expression the runner gets: success() is asked for unless a status function is used."""
    if value is None:
        return "success()"
    text = to_text(value).strip()
    expression = as_expression(text) or text
    if mentions(parse(expression), STATUS_FUNCTIONS):
        return expression
    return f"success() && ({expression})"


def context_data(value: Any) -> Any:
    """A plain value as the runner's context data: arrays and dictionaries are tagged objects."""
    if isinstance(value, Mapping):
        return {"t": 2, "d": [{"k": str(key), "v": context_data(item)} for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"t": 1, "a": [context_data(item) for item in value]}
    return value


def offer(assignment: Assignment, addresses: Addresses, number: int) -> Message:
    """What a long poll answers when a job is there for the runner."""
    body = {
        "id": assignment.id,
        "runner_request_id": assignment.id,
        "should_acknowledge": True,
        "run_service_url": addresses.run_service,
        "billing_owner_id": str(assignment.job.repository.owner.id),
    }
    return {"messageId": number, "messageType": "RunnerJobRequest", "body": json.dumps(body)}


def cancellation(job: SimJob, number: int) -> Message:
    """What a long poll answers when the running job is to be cancelled."""
    body = {"jobId": job.guid, "timeout": CANCELLATION_GRACE}
    return {"messageId": number, "messageType": "JobCancellation", "body": json.dumps(body)}


def job_request(job: SimJob, addresses: Addresses, access_token: str, job_token: str, locked_until: float) -> Message:
    """The whole job: steps, contexts, variables and what to hide. ``job_token`` is its GITHUB_TOKEN."""
    run, body = job.run, job.definition.body
    workflow_body = run.workflow.body
    scope = str(uuid.uuid5(uuid.NAMESPACE_URL, run.repository.full_name))
    runner_group = job.runner_group_name or "Default"
    message: Message = {
        "messageType": "PipelineAgentJobRequest",
        "plan": {
            "scopeIdentifier": scope,
            "planType": "free",
            "version": 12,
            "planId": job.plan_id,
            "planGroup": "free",
            "artifactUri": None,
            "artifactLocation": None,
            "definition": None,
            "owner": None,
        },
        "timeline": {"id": job.guid, "changeId": 0, "location": None},
        "jobId": job.guid,
        "jobDisplayName": job.name,
        "jobName": job.key,
        "requestId": 0,
        "lockedUntil": timestamp(locked_until),
        "resources": {
            "endpoints": [
                {
                    "name": "SystemVssConnection",
                    "url": addresses.run_service,
                    "authorization": {"scheme": "OAuth", "parameters": {"AccessToken": access_token}},
                    "isShared": False,
                    "isReady": True,
                }
            ],
            "repositories": [],
            "containers": [],
        },
        "contextData": {name: context_data(value) for name, value in _contexts(job, addresses).items()},
        "workspace": {},
        "mask": [{"type": "regex", "value": re.escape(secret)} for secret in (job_token, access_token)],
        "environmentVariables": [token(env) for env in (workflow_body.get("env"), body.get("env")) if env],
        "defaults": [token(each) for each in (workflow_body.get("defaults"), body.get("defaults")) if each],
        "fileTable": [run.workflow.path],
        "steps": list(_steps(job, body["steps"])),
        "variables": {
            "system.github.token": {"value": job_token, "isSecret": True},
            "system.github.job": {"value": job.key},
            "system.github.results_endpoint": {"value": addresses.results},
            "system.github.token.permissions": {"value": json.dumps({"Contents": "read", "Metadata": "read"})},
            "system.orchestrationId": {"value": f"{job.plan_id}.{job.key}.__default"},
            "system.phaseDisplayName": {"value": job.name},
            "system.runnerGroupName": {"value": runner_group},
            "DistributedTask.DeprecateStepOutputCommands": {"value": "true"},
        },
        "billingOwnerId": str(run.repository.owner.id),
    }
    for field, key in (("jobOutputs", "outputs"), ("jobContainer", "container"), ("jobServiceContainers", "services")):
        if body.get(key):
            message[field] = token(body[key])
    return message


def _contexts(job: SimJob, addresses: Addresses) -> dict[str, Any]:
    github = {
        **progress.github_context(job.run),
        "run_attempt": str(job.run_attempt),
        "server_url": addresses.url,
        "api_url": addresses.url,
        "graphql_url": f"{addresses.url}/graphql",
        "job": job.key,
        "retention_days": "90",
    }
    strategy = {
        "fail-fast": bool(job.definition.fail_fast),
        "job-index": job.matrix_index,
        "job-total": job.matrix_total,
        "max-parallel": job.definition.max_parallel or job.matrix_total,
    }
    needs = {need: {"result": known["result"], "outputs": known["outputs"]} for need, known in job.needs.items()}
    return {
        "github": github,
        "needs": needs,
        "matrix": job.matrix or None,
        "strategy": strategy,
        "inputs": dict(job.run.inputs) or None,
        "vars": dict(job.run.repository.variables),
    }


def _steps(job: SimJob, steps: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    names = _ContextNames(steps)
    for number, step in enumerate(steps):
        reference, inputs = _action(step)
        name = names.of(step, reference)
        made: Message = {
            "type": "action",
            "id": str(uuid.uuid5(uuid.UUID(job.guid), str(number))),
            "name": name,
            "contextName": name,
            "enabled": True,
            "reference": reference,
            "inputs": token(inputs),
            "condition": condition(step.get("if")),
        }
        for field, key in (
            ("displayNameToken", "name"),
            ("environment", "env"),
            ("continueOnError", "continue-on-error"),
            ("timeoutInMinutes", "timeout-minutes"),
        ):
            if step.get(key) is not None:
                made[field] = token(step[key])
        yield made


def _action(step: Mapping[str, Any]) -> tuple[Message, Mapping[str, Any]]:
    if "run" in step:
        inputs = {"script": to_text(step["run"])}
        for key, name in (("shell", "shell"), ("working-directory", "workingDirectory")):
            if step.get(key) is not None:
                inputs[name] = step[key]
        return {"type": "script"}, inputs
    uses, given = to_text(step.get("uses")), step.get("with") or {}
    if uses.startswith("docker://"):
        return {"type": "containerRegistry", "image": uses.removeprefix("docker://")}, given
    if uses.startswith("./"):
        return {"type": "repository", "repositoryType": "self", "path": uses}, given
    parts = _ACTION.fullmatch(uses)
    if parts is None:
        return {"type": "repository", "repositoryType": "GitHub", "name": uses, "ref": "", "path": ""}, given
    where = {"name": parts["name"], "ref": parts["ref"], "path": parts["path"] or ""}
    return {"type": "repository", "repositoryType": "GitHub", **where}, given


class _ContextNames:
    """Unique names for steps; one without an ``id`` gets a name that begins with two underscores."""

    def __init__(self, steps: Sequence[Mapping[str, Any]]) -> None:
        self._used = {str(step["id"]) for step in steps if step.get("id")}

    def of(self, step: Mapping[str, Any], reference: Message) -> str:
        if step.get("id"):
            return str(step["id"])
        base = "__run" if reference["type"] == "script" else "__self"
        if reference.get("name"):
            base = "__" + re.sub(r"[^A-Za-z0-9_-]", "_", str(reference["name"]))
        name, number = base, 1
        while name in self._used:
            number += 1
            name = f"{base}_{number}"
        self._used.add(name)
        return name
