"""The batch script: the values of one runner, strictly quoted, and the text of ``node/*.sh``.

Pure: the same values give the same text. Nodes share no file with the service, so the script holds all it needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from slurm_gha.domain.allow import EVERYTHING, Allow, expression
from slurm_gha.domain.pool import Container, Handover, Launcher, Pool
from slurm_gha.domain.secret import Secret

_COMMON = (
    "lib",
    "times",
    "environment",
    "signals",
    "processes",
    "jobdir",
    "guard",
    "claim",
    "report",
    "allow",
    "runner",
)
_IMAGE = ("catalogue", "mirror", "rootless")
_LAUNCHER = {
    Launcher.HOST: (),
    Launcher.DOCKER: (*_IMAGE, "store", "container", "enter"),
    Launcher.PODMAN: (*_IMAGE, "store", "podman", "podman_relay", "container", "enter"),
    Launcher.APPTAINER: (*_IMAGE, "apptainer_image", "enter"),
    Launcher.STARGZ: (*_IMAGE, "container", "enter"),
}


def parts(launcher: Launcher) -> tuple[str, ...]:
    """The files of ``node/`` in the order in which they stand in the script; only the last does more than define."""
    return (*_COMMON, *_LAUNCHER[launcher], f"launch_{launcher.value}", "main")


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# -p: take no functions, options or start-up file from the environment.
_SHEBANG = "#!/bin/bash -p"
_PREAMBLE = """# Nothing inherited may mark what follows for export, or print it.
set +o allexport +o xtrace +o verbose
unset -v BASH_XTRACEFD "${!SG_@}"
"""


@dataclass(frozen=True, slots=True)
class NodeSite:
    """Where nodes find what all pools share: directories, and pull-through caches as (registry, URL).

    ``hidden``: directories that containers must not be able to mount.
    """

    path: tuple[str, ...] = ()
    images_dir: str = ""
    stores_dir: str = "/run/slurm-gha/stores"
    mirrors: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScriptValues:
    """All that differs from one runner's script to another's.

    ``node_url`` and ``secret`` are needed where ``handover`` is CLAIM, and left out of the script elsewhere.
    Times are seconds: ``claim_patience`` is how long the service is tried if it does not answer;
    ``stop_after_warning`` how long a runner may take to end after Slurm's warning of the time limit (USR1);
    ``stop_after_cancel`` the same after TERM, or less where slurm.conf is readable and KillWait is short.
    ``pool`` is named to whom ``allow`` keeps out.
    """

    name: str
    handover: Handover
    runner_dir: str
    node_dir: str
    launcher: Launcher = Launcher.HOST
    node_url: str | None = None
    secret: Secret | None = None
    ca_file: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    claim_patience: int = 300
    stop_after_warning: int = 50
    stop_after_cancel: int = 24
    container: Container | None = None
    site: NodeSite = NodeSite()
    pool: str = ""
    allow: Allow = EVERYTHING

    def __post_init__(self) -> None:
        if self.handover is Handover.CLAIM and (self.node_url is None or self.secret is None):
            raise ValueError(f"runner {self.name}: a claim needs node_url and a secret")
        if self.launcher is not Launcher.HOST and self.container is None:
            raise ValueError(f"runner {self.name}: the launcher {self.launcher.value} needs a container")


def script_values(
    name: str,
    pool: Pool,
    secret: Secret | None,
    *,
    node_dir: str,
    node_url: str | None = None,
    ca_file: str | None = None,
    signal_before_end: float = 60.0,
    site: NodeSite = NodeSite(),
) -> ScriptValues:
    """The values for a runner of ``pool``; ``secret`` is its claim secret, if its handover is CLAIM."""
    claims = pool.handover is Handover.CLAIM
    return ScriptValues(
        name=name,
        handover=pool.handover,
        runner_dir=pool.runner_dir,
        node_dir=node_dir,
        launcher=pool.launcher,
        node_url=node_url if claims else None,
        secret=secret if claims else None,
        ca_file=ca_file if claims else None,
        environment=pool.environment,
        # What is left of the warning once the job is cancelled: cleaning up takes seconds, reporting too.
        stop_after_warning=max(1, int(signal_before_end * 0.8)),
        container=pool.container,
        site=site,
        pool=pool.name,
        allow=pool.allow,
    )


def batch_script(values: ScriptValues) -> str:
    """The whole script for one runner, for sbatch's standard input; raises ValueError for what bash cannot hold."""
    return "\n".join((head(values), *(part(name) for name in parts(values.launcher))))


def head(values: ScriptValues) -> str:
    """What differs from script to script.

    It begins with a command, after which sbatch no longer looks for ``#SBATCH`` lines: no value can hold an option.
    """
    return f"{_SHEBANG}\n{preamble('-euo pipefail')}{_assignments(values)}"


def preamble(options: str) -> str:
    """The options of ``set`` for a script, and a clean slate."""
    return f"set {options}\n{_PREAMBLE}"


def quote(text: str) -> str:
    """``text`` as one bash word that stands for exactly it; raises ValueError for NUL, which bash cannot hold."""
    if "\0" in text:
        raise ValueError("a shell value cannot hold a NUL character")
    return "'" + text.replace("'", "'\\''") + "'"


def _assignments(values: ScriptValues) -> str:
    pairs = [
        ("SG_NAME", values.name),
        ("SG_HANDOVER", values.handover.value),
        ("SG_RUNNER_DIR", values.runner_dir),
        ("SG_NODE_DIR", values.node_dir),
        ("SG_NODE_URL", values.node_url or ""),
        ("SG_CA_FILE", values.ca_file or ""),
        ("SG_CLAIM_PATIENCE", str(int(values.claim_patience))),
        ("SG_STOP_AFTER_WARNING", str(int(values.stop_after_warning))),
        ("SG_STOP_AFTER_CANCEL", str(int(values.stop_after_cancel))),
        ("SG_SECRET", values.secret.reveal() if values.secret is not None else ""),
    ]
    pairs += _container_pairs(values)
    lines = [f"{name}={quote(text)}" for name, text in pairs]
    for name, _ in values.environment:
        if _VARIABLE.fullmatch(name) is None:
            raise ValueError(f"not the name of an environment variable: {name!r}")
    variables = " ".join(quote(f"{name}={text}") for name, text in values.environment)
    lines.append(f"SG_ENVIRONMENT=({variables})")
    lines += _allow_lines(values)
    if values.container is not None:
        mirrors = " ".join(quote(f"{registry}={url}") for registry, url in values.site.mirrors)
        lines.append(f"SG_MIRRORS=({mirrors})")
        lines.append(f"SG_HIDDEN=({' '.join(map(quote, values.site.hidden))})")
    return "\n".join([*lines, ""])


def _container_pairs(values: ScriptValues) -> list[tuple[str, str]]:
    container, site = values.container, values.site
    pairs = [("SG_NODE_PATH", ":".join(site.path))]
    if container is None:
        return pairs
    pairs += [
        ("SG_LAUNCHER", values.launcher.value),
        ("SG_IMAGE", container.image),
        ("SG_IMAGE_RUNNER", container.runner_dir),
        ("SG_IMAGES_DIR", site.images_dir),
        ("SG_HOST_LOOPBACK", _flag(container.host_loopback)),
    ]
    if values.launcher is not Launcher.APPTAINER:
        pairs.append(("SG_STORES_DIR", site.stores_dir))
    else:
        pairs += [
            ("SG_DOCKER", _flag(container.docker_in_job)),
            ("SG_NVIDIA", _flag(container.nvidia)),
            ("SG_FAKEROOT", _flag(container.fakeroot)),
            ("SG_SCRATCH_MB", str(container.scratch_mb)),
        ]
    if values.launcher is Launcher.STARGZ:
        pairs.append(("SG_SNAPSHOTTER", container.snapshotter.value))
    return pairs


def _allow_lines(values: ScriptValues) -> list[str]:
    """What the runner's hook holds a job against; nothing where everything may run."""
    allow = values.allow
    if not allow.limits:
        return []
    lists = {
        "SG_ALLOW_REPOSITORIES": (expression(pattern.lower()) for pattern in allow.repositories),
        "SG_ALLOW_BRANCHES": (expression(pattern) for pattern in allow.branches),
        "SG_ALLOW_EVENTS": allow.events,
        "SG_ALLOW_ACTORS": (actor.lower() for actor in allow.actors),
    }
    return [
        f"SG_ALLOW={quote(values.pool)}",
        f"SG_ALLOW_FORKS={quote(_flag(allow.forks))}",
        *(f"{name}=({' '.join(map(quote, items))})" for name, items in lists.items()),
    ]


def _flag(value: bool) -> str:
    return "yes" if value else ""


@cache
def part(name: str) -> str:
    """The text of one of :func:`parts`."""
    return resources.files("slurm_gha.node").joinpath(f"{name}.sh").read_text(encoding="utf-8")
