"""Scripts for nodes beside the batch script: an Epilog, the mounting of stores, and a check of the node.

Like the batch script they are self-contained texts, made of values and files of ``node/``. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.domain.pool import Launcher
from slurm_gha.slurm.script import NodeSite, ScriptValues, head, part, parts, preamble, quote


class Tool(StrEnum):
    """What else runs on nodes."""

    EPILOG = "epilog"
    STORES = "stores"


TOOLS = {
    Tool.EPILOG: ("lib", "processes", "jobdir", "epilog"),
    Tool.STORES: ("lib", "mount_stores"),
}
"""The files of ``node/`` that each is made of, in order."""


def check_parts(launcher: Launcher) -> tuple[str, ...]:
    """The files of the check for pools of ``launcher``: those of its batch script, with another main."""
    return (*parts(launcher)[:-1], "check_frame", "check_places", "check_engines", "check")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a node is checked for: the script of a pool's runners, and hosts that they talk to."""

    title: str
    values: ScriptValues
    node_url: str = ""
    ca_file: str = ""
    hosts: tuple[str, ...] = ()
    start: bool = False
    """Whether the engine is really started, and taken down again."""


def epilog_script(node_dir: str, users: Sequence[str], site: NodeSite) -> str:
    """For Slurm's ``Epilog``: cleans up after jobs of ``users``."""
    title = "slurm-gha epilog: removes what the runner of a Slurm job has left behind; does nothing for other jobs."
    values = [("SG_NODE_DIR", node_dir), ("SG_NODE_PATH", ":".join(site.path))]
    lists = [f"SG_USERS=({' '.join(map(quote, users))})"]
    return _tool(Tool.EPILOG, title, values, lists)


def stores_script(node_dir: str, site: NodeSite) -> str:
    """For root at boot, by a timer, or as Slurm's ``Prolog``: mounts the stores of the catalogue."""
    title = "slurm-gha stores: mounts the read-only stores of images, and unmounts those that nobody needs any more."
    values = [("SG_IMAGES_DIR", site.images_dir), ("SG_STORES_DIR", site.stores_dir), ("SG_NODE_DIR", node_dir)]
    return _tool(Tool.STORES, title, values, [])


def check_script(checked: Sequence[Checked]) -> str:
    """Tells line by line what a node lacks; the exit status is 1 if it lacks something.

    Each is checked in a shell of its own, since their values differ. All of it is read before any of it runs: it may
    come in on standard input, which the commands in it must not read.
    """
    blocks = [f"(\n{_one_check(one)}\n) </dev/null || status=1\n" for one in checked]
    return f'#!/bin/bash -p\n{{\nstatus=0\n{"".join(blocks)}exit "$status"\n}}\n'


def _one_check(one: Checked) -> str:
    extra = {
        "SG_TITLE": one.title,
        "SG_NODE_URL": one.node_url,
        "SG_CA_FILE": one.ca_file,
        "SG_TRY": "yes" if one.start else "",
        "SG_CLAIMS": "yes" if one.node_url else "",
    }
    lines = [f"{name}={quote(text)}" for name, text in extra.items()]
    lines.append(f"SG_HOSTS=({' '.join(map(quote, one.hosts))})")
    return "\n".join((head(one.values), *lines, *(part(name) for name in check_parts(one.values.launcher))))


def _tool(tool: Tool, title: str, values: Sequence[tuple[str, str]], lists: Sequence[str]) -> str:
    assignments = [f"{name}={quote(text)}" for name, text in values]
    texts = (part(name) for name in TOOLS[tool])
    return "\n".join((f"#!/bin/bash -p\n# {title}", preamble("-uo pipefail"), *assignments, *lists, *texts))
