"""What the scale-set service writes: scale sets, sessions, messages and their items.

Source: actions/scaleset, ``types.go``. What is not known yet (a runner before the start, a time) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slurm_gha.testing.github import messages, render
from slurm_gha.testing.github.scalesets.values import Claim, QueueMessage, QueueSession, ScaleSet, Statistics
from slurm_gha.testing.github.values import Organisation, SimJob, SimRunner

DEFAULT_GROUP = 1
PICTURE_CAPACITIES = 20
MESSAGE_TYPE = "RunnerScaleSetJobMessages"
UNKNOWN_ITEM = {"messageType": "JobPreempted", "reason": "unheard of", "jobId": 0}
_RESULTS = {"success": "succeeded", "failure": "failed", "cancelled": "canceled", "skipped": "skipped"}


def result(conclusion: str | None) -> str:
    """REST's word for how a job ended as the queue has it."""
    return _RESULTS.get(conclusion or "", "failed")


def statistics(found: Statistics) -> dict[str, int]:
    return {
        "totalAvailableJobs": found.available,
        "totalAcquiredJobs": found.acquired,
        "totalAssignedJobs": found.assigned,
        "totalRunningJobs": found.running,
        "totalRegisteredRunners": found.registered,
        "totalBusyRunners": found.busy,
        "totalIdleRunners": found.idle,
    }


def scale_set(found: ScaleSet, numbers: Statistics, service: str) -> dict[str, Any]:
    """A scale set as every call shows it; the labels are those that were kept."""
    here = f"{service}_apis/runtime/runnerscalesets/{found.id}"
    return {
        "id": found.id,
        "name": found.name,
        "runnerGroupId": found.group_id,
        "runnerGroupName": found.group_name,
        "labels": [{"id": number, "name": name, "type": "System"} for number, name in enumerate(found.labels, 1)],
        "runnerSetting": {"disableUpdate": found.disable_update},
        "createdOn": messages.timestamp(found.created_at),
        "runnerJitConfigUrl": f"{here}/generatejitconfig",
        "statistics": statistics(numbers),
    }


def session(found: QueueSession, numbers: Statistics, service: str, queue_token: str) -> dict[str, Any]:
    queue = f"{service}_apis/runtime/runnerscalesets/{found.scale_set.id}/messages?sessionId={found.id}"
    return {
        "sessionId": found.id,
        "ownerName": found.owner_name,
        "runnerScaleSet": scale_set(found.scale_set, numbers, service),
        "messageQueueUrl": queue,
        "messageQueueAccessToken": queue_token,
        "statistics": statistics(numbers),
    }


def message(found: QueueMessage, numbers: Statistics, *, unknown: bool) -> dict[str, Any]:
    """A message; ``unknown`` puts an item of an unknown type before the others."""
    items = [UNKNOWN_ITEM, *found.items] if unknown else list(found.items)
    return {
        "messageId": found.id,
        "messageType": MESSAGE_TYPE,
        "body": json.dumps(items) if items else "",
        "statistics": statistics(numbers),
    }


def item(kind: str, claim: Claim, *, request_id: int, run_id: int, **more: Any) -> dict[str, Any]:
    """An event of a job: ``JobAvailable``, ``JobAssigned``, ``JobStarted`` or ``JobCompleted``."""
    job = claim.job
    times = {
        "queueTime": job.queued_at,
        "scaleSetAssignTime": claim.assigned_at,
        "runnerAssignTime": job.started_at if job.runner_id is not None else None,
        "finishTime": job.completed_at,
    }
    return {
        "messageType": kind,
        "runnerRequestId": request_id,
        "repositoryName": job.repository.name,
        "ownerName": job.repository.owner.login,
        "jobId": job.guid,
        "jobWorkflowRef": workflow_ref(job),
        "jobDisplayName": job.name,
        "workflowRunId": run_id,
        "eventName": job.run.event,
        "requestLabels": list(job.labels),
        **{name: messages.timestamp(time) for name, time in times.items() if time is not None},
        **more,
    }


def workflow_ref(job: SimJob) -> str:
    run = job.run
    return f"{run.repository.full_name}/{run.workflow.path}@refs/heads/{run.branch}"


def runner(found: SimRunner) -> dict[str, Any]:
    return {"id": found.id, "name": found.name, "runnerScaleSetId": found.scale_set_id or 0}


def groups(owner: Organisation, wanted: str) -> dict[str, Any]:
    """The runner groups of that name, of whatever case; all when none is asked for."""
    return counted(
        {"id": number, "name": name, "isDefaultGroup": number == DEFAULT_GROUP}
        for number, name in owner.groups.items()
        if not wanted or name.lower() == wanted.lower()
    )


def counted(values: Iterable[Any]) -> dict[str, Any]:
    found = list(values)
    return {"count": len(found), "value": found}


def picture(sets: Sequence[tuple[ScaleSet, Statistics]]) -> list[Mapping[str, Any]]:
    """Scale sets for somebody who looks at the simulation."""
    return [
        {
            "id": each.id,
            "scope": each.scope,
            "name": each.name,
            "labels": list(each.labels),
            "owner": None if each.session is None else each.session.owner_name,
            "capacity": each.capacity,
            "capacities": [[render.time(at), capacity] for at, capacity in each.capacities[-PICTURE_CAPACITIES:]],
            "jobs": {str(claim.job.id): claim.state.value for claim in each.claims.values()},
            "unacknowledged": list(each.messages),
            "statistics": statistics(numbers),
        }
        for each, numbers in sets
    ]
