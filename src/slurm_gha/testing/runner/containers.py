"""A job's ``container:`` and ``services:`` for act. Pure.

act runs a job with a container, and its services, by itself. A job without one runs on the machine, where act starts
no services: then a first step does, as ``services.sh``, and ``job.services`` is what that step gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SERVICES = "__services"
CONTEXT = f"fromJSON(steps.{SERVICES}.outputs.services || '{{ }}')"
NAME = "Initialize containers"
WORKFLOW_NAME_LIMIT = 30
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Document = dict[str, Any]


class ContainerError(Exception):
    """The workflow asks for a container in a way that cannot be."""


def container(given: Any, volumes: Sequence[str]) -> Document | None:
    """The job's container with further ``volumes``; None if it names no image, for then the job runs without."""
    made = {"image": given} if isinstance(given, str) else dict(given or {})
    if not made.get("image"):
        return None
    listed = made.get("volumes") or []
    made["volumes"] = [*([listed] if isinstance(listed, str) else listed), *volumes]
    return made


def services_step(services: Mapping[str, Any], script: str, mark: str) -> Document:
    """The step that starts ``services``; their values go in by the environment, as they may be expressions."""
    environment = {"STAND_IN_MARK": mark, "STAND_IN_COUNT": str(len(services))}
    for number, (name, given) in enumerate(services.items()):
        service: Document = {"image": given} if isinstance(given, str) else dict(given or {})
        if service.get("credentials"):
            raise ContainerError(f"service {name}: the stand-in runner knows no credentials for services")
        prefix = f"STAND_IN_{number}_"
        environment |= {
            f"{prefix}ID": name,
            f"{prefix}IMAGE": _text(service.get("image")),
            f"{prefix}OPTIONS": _text(service.get("options")),
            f"{prefix}PORTS": _lines(service.get("ports")),
            f"{prefix}VOLUMES": _lines(service.get("volumes")),
        }
        variables: Mapping[str, Any] = service.get("env") or {}
        for key, value in variables.items():
            if not _NAME.fullmatch(key):
                raise ContainerError(f"service {name}: {key!r} is no name for an environment variable")
            environment[f"{prefix}ENV_{key}"] = _text(value)
        environment[f"{prefix}ENV"] = "\n".join(variables)
    return {"id": SERVICES, "name": NAME, **_script(script, environment)}


def docker_step(image: str, inputs: Mapping[str, Any], script: str, mark: str, machine: Sequence[str]) -> Document:
    """A step ``uses: docker://…`` of a job without a container, run by ``docker_step.sh``."""
    environment = {f"INPUT_{name.upper().replace(' ', '_')}": _text(value) for name, value in inputs.items()}
    environment |= {
        "STAND_IN_MARK": mark,
        "STAND_IN_IMAGE": image,
        "STAND_IN_ENTRYPOINT": _text(inputs.get("entrypoint")),
        "STAND_IN_ARGUMENTS": _text(inputs.get("args")),
        "STAND_IN_MACHINE": " ".join(machine),
    }
    return _script(script, environment)


def _script(path: str, environment: Mapping[str, str]) -> Document:
    quoted = path.replace("'", "'\\''")
    return {"shell": "bash -e {0}", "run": f"bash '{quoted}'\n", "env": dict(environment)}


def _lines(given: Any) -> str:
    return "\n".join(_text(item) for item in ([given] if isinstance(given, str | int) else given or []))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
