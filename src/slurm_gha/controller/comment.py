"""The compact JSON that stands in Slurm's ``--comment``: for accounting, and to know our own jobs again."""

from __future__ import annotations

import json

from slurm_gha.domain.runner import RunnerRecord

# What "registered" says of a runner of a scale set; runners that are registered over REST say nothing.
SCALE_SET = "scale set"


def comment(record: RunnerRecord, installation: str) -> str:
    """What a Slurm job says of itself."""
    told = {
        "installation": installation,
        "pool": record.pool,
        "scope": record.scope,
        "repository": record.repository,
        "job": record.job_id,
        "registered": SCALE_SET if record.scale_set else None,
    }
    return json.dumps({key: value for key, value in told.items() if value is not None}, separators=(",", ":"))


def parse_comment(text: str) -> dict[str, str]:
    """The string members of a comment we wrote; empty where it is not one."""
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return {k: v for k, v in told.items() if isinstance(v, str)} if isinstance(told, dict) else {}
