"""A job message as a one-job workflow file for act. Pure.

Expressions stay expressions; the contexts that only the service knows (``needs``, ``strategy``, ``inputs``, its share
of ``github``) are put into them as literals, and the matrix becomes one of a single combination.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_gha.testing.github.expressions import expand
from slurm_gha.testing.runner import containers
from slurm_gha.testing.runner.template import Writer, plain

SETUP, COLLECT, HOOK_STARTED, HOOK_COMPLETED = "__setup", "__collect", "__hook_started", "__hook_completed"
PLATFORM = "stand-in"
_IMAGE = ("containerregistry", "2")
_SHELLS = {
    "": "bash -e {0}",
    "bash": "bash --noprofile --norc -e -o pipefail {0}",
    "sh": "sh -e {0}",
    "python": "python {0}",
}
_EVENT = re.compile(r"[a-z_]+")
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Places:
    """Paths on this machine that a job's workflow refers to.

    ``workspace`` is where steps run; ``files`` gets the collected results; ``archives`` maps a repository that a
    checkout step wants to its tarball; ``hold`` is the script that runs a step's shell, ``services`` the one that
    starts service containers, ``docker_step`` the one that runs a step in a container; the hooks are absolute paths.
    ``mark`` is in the names of all that Docker makes here; ``machine`` are the names in the machine's environment.
    """

    workspace: str
    files: str
    archives: Mapping[str, str]
    hold: str
    services: str = ""
    docker_step: str = ""
    mark: str = ""
    machine: Sequence[str] = ()
    hook_started: str | None = None
    hook_completed: str | None = None


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One of the job's own steps: ``key`` is its id or position in act's workflow; names are not evaluated yet."""

    key: str
    id: str
    name: str | None
    text: str
    continue_on_error: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The workflow file's content, the event's name, and the steps to look for in act's log.

    ``boxed``: the job runs in a container; ``docker``: it needs a daemon, for that, for its services or for steps."""

    document: Document
    event_name: str
    steps: tuple[StepPlan, ...]
    outputs: tuple[str, ...]
    boxed: bool
    docker: bool


def checkouts(message: Mapping[str, Any]) -> tuple[str, ...]:
    """The repositories (``owner/name``) that the job's checkout steps want."""
    own = plain(message["contextData"]["github"])["repository"]
    found = dict.fromkeys(
        _literal(_inputs(step).get("repository")) or own for step in message["steps"] if _is_checkout(step)
    )
    return tuple(found)


def plan(message: Mapping[str, Any], places: Places, constants: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The workflow that act is to run. ``constants`` adds members to contexts, e.g. ``{"runner": {"name": …}}``.

    Raises ContainerError for containers that cannot be."""
    contexts = {name: plain(data) for name, data in (message.get("contextData") or {}).items()}
    writer = Writer(contexts, constants)
    box = _container(message, places, contexts, writer)
    services = writer.value(message.get("jobServiceContainers")) or {}
    steps, known = _steps(message, places, writer, box is not None, services)
    outputs = writer.value(message.get("jobOutputs")) or {}
    steps.append(_collect(places, tuple(outputs.values())))
    job: Document = {"runs-on": PLATFORM, "name": f"job {places.mark}".rstrip(), "steps": steps}
    if contexts.get("matrix"):
        job["strategy"] = {"matrix": {key: [value] for key, value in contexts["matrix"].items()}}
    environment: dict[str, Any] = {}
    for given in message.get("environmentVariables") or ():
        environment.update(writer.value(given) or {})
    if environment:
        job["env"] = environment
    defaults: dict[str, Any] = {}
    for given in message.get("defaults") or ():
        defaults.update((writer.value(given) or {}).get("run") or {})
    for step in steps:
        if "run" in step and box is None and step.get("id") not in (SETUP, COLLECT, containers.SERVICES):
            step["shell"] = _held(str(step.get("shell") or defaults.get("shell") or ""), places)
    if defaults:
        job["defaults"] = {"run": defaults}
    if box is not None:
        job["container"] = box
        if services:
            job["services"] = services
    event = str(contexts["github"].get("event_name"))
    event = event if _EVENT.fullmatch(event) else "push"  # it becomes an argument of act's
    name = str(contexts["github"].get("workflow") or "workflow")
    if box is not None:  # act cuts off the names of containers, which begin with this one; the mark has to stay in
        name = name[: containers.WORKFLOW_NAME_LIMIT]
    document = {"name": name, "on": [event], "jobs": {"job": job}}
    docker = box is not None or bool(services) or any(_is_image(step) for step in message["steps"])
    return Plan(document, event, tuple(known), tuple(outputs), box is not None, docker)


def _container(
    message: Mapping[str, Any], places: Places, contexts: Mapping[str, Any], writer: Writer
) -> Document | None:
    """The job's container, with what its steps need to see at the paths it has on this machine."""
    given = writer.value(message.get("jobContainer"))
    # Whether there is one at all may be an expression's to say; the rest is left to act.
    if isinstance(given, str):
        given = expand(given, contexts)
    elif given and "image" in given:
        given["image"] = expand(given["image"], contexts)
    hooks = [hook for hook in (places.hook_started, places.hook_completed) if hook]
    return containers.container(
        given, [f"{places.files}:{places.files}", *(f"{hook}:{hook}:ro" for hook in dict.fromkeys(hooks))]
    )


def _steps(
    message: Mapping[str, Any], places: Places, writer: Writer, boxed: bool, services: Mapping[str, Any]
) -> tuple[list[Document], list[StepPlan]]:
    steps: list[Document] = [_setup(places, boxed)]
    known: list[StepPlan] = []
    if services and not boxed:
        steps.append(containers.services_step(services, places.services, places.mark))
        known.append(StepPlan(containers.SERVICES, containers.SERVICES, containers.NAME, "", False))
        writer.replaced["job", "services"] = containers.CONTEXT
    if places.hook_started is not None:
        steps.append({"id": HOOK_STARTED, "name": "Set up runner", "shell": "bash", "run": _hook(places.hook_started)})
        known.append(StepPlan(HOOK_STARTED, HOOK_STARTED, "Set up runner", "", False))
    for step in message["steps"]:
        made, text = _step(step, places, writer, boxed)
        name = step.get("contextName") or step.get("name") or ""
        key = str(len(steps))
        if name and not name.startswith("__"):
            made["id"] = key = name
        shown = writer.value(step.get("displayNameToken")) or made.get("name")
        if shown is not None:
            made["name"] = shown
        tolerant = made.get("continue-on-error") not in (None, False)
        known.append(StepPlan(key, str(step["id"]), None if shown is None else str(shown), text, tolerant))
        steps.append(made)
    if places.hook_completed is not None:
        run = _hook(places.hook_completed)
        steps.append({"id": HOOK_COMPLETED, "name": "Complete runner", "if": "always()", "shell": "bash", "run": run})
        known.append(StepPlan(HOOK_COMPLETED, HOOK_COMPLETED, "Complete runner", "", False))
    return steps, known


def _step(step: Mapping[str, Any], places: Places, writer: Writer, boxed: bool) -> tuple[Document, str]:
    made: Document = {"if": "${{ " + writer.expression(step.get("condition") or "success()") + " }}"}
    inputs = {name: writer.value(token) for name, token in _inputs(step).items()}
    for field, key in (
        ("environment", "env"),
        ("continueOnError", "continue-on-error"),
        ("timeoutInMinutes", "timeout-minutes"),
    ):
        if step.get(field) is not None:
            made[key] = writer.value(step[field])
    reference = step["reference"]
    kind = str(reference["type"]).lower()
    if kind in ("script", "3"):
        text = str(inputs["script"])
        made["run"] = text
        if inputs.get("shell"):
            made["shell"] = inputs["shell"]
        if inputs.get("workingDirectory"):
            made["working-directory"] = inputs["workingDirectory"]
    elif _is_checkout(step):
        text = f"{reference['name']}@{reference.get('ref')}"
        made.update(_checkout(step, inputs, places))
    elif _is_image(step) and not boxed:  # act knows these beside a job's container only
        text = f"docker://{reference['image']}"
        called = containers.docker_step(
            str(reference["image"]), inputs, places.docker_step, places.mark, places.machine
        )
        made |= called | {"name": f"Run {text}"} | {"env": {**(made.get("env") or {}), **called["env"]}}
    else:
        text = _uses(reference, kind)
        made["uses"] = text
        if inputs:
            made["with"] = inputs
    return made, text


def _uses(reference: Mapping[str, Any], kind: str) -> str:
    if kind in _IMAGE:
        return f"docker://{reference['image']}"
    if reference.get("repositoryType") == "self":
        return str(reference["path"])
    path = f"/{reference['path']}" if reference.get("path") else ""
    return f"{reference['name']}{path}@{reference.get('ref')}"


def _is_image(step: Mapping[str, Any]) -> bool:
    return str(step["reference"]["type"]).lower() in _IMAGE


def _is_checkout(step: Mapping[str, Any]) -> bool:
    return str(step["reference"].get("name") or "").lower() == "actions/checkout"


def _inputs(step: Mapping[str, Any]) -> dict[str, Any]:
    return {str(pair["Key"]): pair["Value"] for pair in (step.get("inputs") or {}).get("map") or ()}


def _literal(token: Any) -> str:
    return token if isinstance(token, str) else ""


def _checkout(step: Mapping[str, Any], inputs: Mapping[str, Any], places: Places) -> Document:
    """Unpack the tarball that was fetched beforehand; values go in by the environment, never into the script."""
    wanted = _literal(_inputs(step).get("repository"))
    archive = places.archives.get(wanted) if wanted else next(iter(places.archives.values()), None)
    environment = {
        "STAND_IN_ARCHIVE": archive or "",
        "STAND_IN_TARGET": str(inputs.get("path") or "."),
        "STAND_IN_REPOSITORY": wanted or next(iter(places.archives), ""),
    }
    run = (
        'echo "Syncing repository: $STAND_IN_REPOSITORY"\n'
        '[ -r "$STAND_IN_ARCHIVE" ] || { echo "repository $STAND_IN_REPOSITORY was not delivered"; exit 1; }\n'
        'mkdir -p "$STAND_IN_TARGET" && tar -xzf "$STAND_IN_ARCHIVE" -C "$STAND_IN_TARGET" --strip-components=1\n'
    )
    name = f"Run {step['reference']['name']}@{step['reference'].get('ref')}"
    where = places.workspace
    return {"name": name, "run": run, "shell": "sh -e {0}", "env": environment, "working-directory": where}


def _held(shell: str, places: Places) -> str:
    """The step's shell, run by one that does not end before a cancellation has reached act."""
    if shell not in _SHELLS and ("{0}" not in shell or "${{" in shell):
        return shell
    hold = places.hold.replace("'", "'\\''")
    return f"bash '{hold}' {_SHELLS.get(shell, shell)}"


def _setup(places: Places, boxed: bool) -> Document:
    """act makes a workspace of its own; it becomes a link to the one that the runner's work folder holds.

    In a container it is that one, mounted by its own path."""
    if boxed:
        return {"id": SETUP, "run": ":\n", "shell": "sh -e {0}"}
    run = 'made=$PWD; cd /; rmdir "$made"; ln -s "$STAND_IN_WORKSPACE" "$made"\n'
    return {"id": SETUP, "run": run, "shell": "sh -e {0}", "env": {"STAND_IN_WORKSPACE": places.workspace}}


def _hook(path: str) -> str:
    quoted = "'" + path.replace("'", "'\\''") + "'"
    return f"bash -e {quoted}\n"


def _collect(places: Places, outputs: Sequence[Any]) -> Document:
    """Last of all, whatever happened: what became of the steps, and the job's outputs, one file each."""
    environment = {"STAND_IN_STEPS": "${{ toJSON(steps) }}", "STAND_IN_FILES": places.files}
    environment.update({f"STAND_IN_OUTPUT_{number}": output for number, output in enumerate(outputs)})
    lines = ['printf %s "$STAND_IN_STEPS" > "$STAND_IN_FILES/steps"']
    lines += [f'printf %s "$STAND_IN_OUTPUT_{n}" > "$STAND_IN_FILES/output.{n}"' for n in range(len(outputs))]
    return {
        "id": COLLECT,
        "if": "always()",
        "run": "\n".join(lines) + "\n",
        "shell": "sh -e {0}",
        "env": environment,
        "working-directory": places.files,
    }
