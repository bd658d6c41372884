"""Slurm's reasons for a pending job, in plain sentences for administrators."""

from __future__ import annotations

# Source: JOB REASON CODES in squeue(1) and job_reason_string() of Slurm 22.05 to 26.05.
_REASONS: dict[str, str] = {
    "None": "Slurm has not looked at the job yet.",
    "Resources": "It is next in line and waits for CPUs, memory or other resources to become free.",
    "Priority": "Jobs of higher priority are before it.",
    "BeginTime": "Its earliest start has not come yet (after a requeue, Slurm waits a while).",
    "Dependency": "It waits for another Slurm job.",
    "DependencyNeverSatisfied": "It waits for a Slurm job that can no longer end as demanded: it will never start.",
    "JobHeldUser": "Its owner holds it: release it with `scontrol release`, or cancel it.",
    "JobHeldAdmin": "An administrator holds it: release it with `scontrol release`, or cancel it.",
    "launch_failed_requeued_held": "Its launch on the node failed and Slurm holds it: see slurmd's log on the node.",
    "BadConstraints": "No node can ever satisfy what it asks for.",
    "Licenses": "It waits for a license.",
    "Reservation": "It waits for its reservation to begin.",
    "ReservationDeleted": "Its reservation has been deleted: it will never start.",
    "ReqNodeNotAvail": "Nodes that it needs are down, drained or reserved.",
    "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved": "Nodes that it needs are down, drained or reserved.",
    "NodeDown": "A node that it needs is down.",
    "PartitionDown": "Its partition is down.",
    "PartitionInactive": "Its partition is inactive.",
    "PartitionNodeLimit": "It asks for more or fewer nodes than its partition allows: it will not start like this.",
    "PartitionTimeLimit": "It asks for more time than its partition allows: it will not start like this.",
    "PartitionConfig": "Its partition's limits or nodes do not fit its request: it will not start like this.",
    "AccountNotAllowed": "Its account may not use its partition.",
    "QOSNotAllowed": "Its account or partition may not use its qos.",
    "InvalidAccount": "Its account is not valid.",
    "InvalidQOS": "Its qos is not valid.",
    "Cleaning": "Slurm still cleans up after its earlier run.",
    "Prolog": "The prolog is still running.",
    "Configuring": "Its nodes are being started.",
    "JobArrayTaskLimit": "Its array already runs as many tasks as it may.",
    "MaxMemPerLimit": "It asks for more memory a CPU or node than allowed.",
    "SchedDefer": "It asked to start at once, and Slurm is told to defer scheduling.",
    "FrontEndDown": "No front end node is available.",
    "BurstBufferResources": "It waits for room in a burst buffer.",
    "BurstBufferStageIn": "Its burst buffer is being filled.",
    "DeadLine": "It can no longer end before its deadline.",
    "JobLaunchFailure": "It could not be launched: a bad output path or node, for instance.",
    "NonZeroExitCode": "Its script ended with a failure.",
    "TimeLimit": "It reached its time limit.",
    "RaisedSignal": "A signal ended it.",
    "OutOfMemory": "It used more memory than it had.",
    "SystemFailure": "Slurm, the file system or the network failed.",
}

_FAMILIES: tuple[tuple[str, str], ...] = (
    ("QOSMaxSubmit", "The qos allows no more submitted jobs."),
    ("QOSMaxJobs", "The user or account already runs as many jobs as the qos allows."),
    ("QOSGrp", "All jobs of the qos together have reached a limit of it."),
    ("QOSMaxWall", "It asks for more time than the qos allows: it will not start like this."),
    ("QOSMax", "A limit of the qos on jobs, users or accounts has been reached."),
    ("QOSMin", "It asks for less than the qos demands: it will not start like this."),
    ("QOS", "A limit of the qos has been reached."),
    ("AssocGrp", "All jobs of the account together have reached a limit of it."),
    ("AssocMaxJobs", "The account or user already runs as many jobs as allowed."),
    ("AssocMaxWall", "It asks for more time than the account allows: it will not start like this."),
    ("Assoc", "A limit of the account or user has been reached."),
    ("MaxBillingPerAccount", "The account has reached its limit of billing units."),
    ("ReqNodeNotAvail", "Nodes that it needs are down, drained or reserved."),
)


def explain_reason(reason: str) -> str:
    """A sentence for Slurm's reason word (``squeue %r``); a word unknown here is shown as it is."""
    bare = reason.strip()
    word = bare.split(":", 1)[0].split(",", 1)[0].strip().replace(" ", "_")
    for candidate in (bare.replace(" ", "_"), word):
        if candidate in _REASONS:
            return _REASONS[candidate]
    for prefix, sentence in _FAMILIES:
        if word.startswith(prefix):
            return f"{sentence} ({word})"
    return f"Slurm gives the reason {bare!r}." if bare else _REASONS["None"]
