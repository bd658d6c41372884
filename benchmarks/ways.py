"""The ways in which a node can get the image of its runner, each with the site that it takes."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.large_image import LAZY, NAME, PLAIN, REPOSITORY, TOOLS, LargeImage, mounted_stores
from benchmarks.registry import LOOPBACK, mirror, registry
from slurm_gha.config.schema import SlurmSettings
from slurm_gha.slurm.script import NodeSite
from slurm_gha.slurm.tools import stores_script
from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import Stage, StagePool

LABEL, PROJECT = "startup", "lab/startup"
DOCKER_IO = "docker.io"


@dataclass(frozen=True, slots=True)
class Way:
    """``form``: of ``slurm-gha image publish``. ``tools``: the directory of programs that Debian lacks.

    ``aim``: seconds to the running container. ``slow`` ways are measured once; ``crowded`` ones also three at once.
    """

    title: str
    launcher: str
    form: str | None = None
    tools: str | None = None
    aim: float | None = None
    slow: bool = False
    crowded: bool = False


WAYS: Mapping[str, Way] = {
    "cold": Way("cold pull", "docker", slow=True),
    "empty-mirror": Way("empty mirror", "docker", slow=True),
    "warm-mirror": Way("warm mirror", "docker", slow=True),
    "store": Way("store", "docker", form="store", aim=1.5, crowded=True),
    "podman": Way("podman store", "podman", form="podman"),
    "stargz": Way("stargz", "stargz", form="estargz", tools="stargz", aim=4.0, crowded=True),
    "unpacked": Way("unpacked (apptainer)", "apptainer", form="unpacked", tools="apptainer", aim=0.5, crowded=True),
    "sif": Way("SIF (apptainer)", "apptainer", form="sif", tools="apptainer"),
}


@dataclass(frozen=True)
class Site:
    """What all ways share: a cluster of one node, the image, and a slow link to where GitHub and the registry are."""

    slurm: PrivateSlurm
    image: LargeImage
    network: Network
    registry: str
    work: Path


@contextmanager
def site(slurm: PrivateSlurm, image: LargeImage, rate: str) -> Iterator[Site]:
    with Network(rate=rate) as network, tempfile.TemporaryDirectory(prefix="sgb-", dir="/tmp") as work:
        place = Path(work)
        place.chmod(0o755)
        with registry(network.address, image.blobs, place, 5000, network.inside) as host:
            yield Site(slurm, image, network, host, place)


@contextmanager
def stage_of(there: Site, key: str) -> Iterator[Stage]:
    """The service with one pool whose runners get their image in this way; nothing of them may be left at its end."""
    way = WAYS[key]
    with ExitStack() as stack:
        stores = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sgs-", dir="/tmp")))
        stores.chmod(0o755)
        if way.form == "store":
            nodes = NodeSite(images_dir=str(there.image.catalogue), stores_dir=str(stores))
            script = stores_script("/tmp", nodes)
            stack.enter_context(mounted_stores(there.image, stores, script))
        reference, mirrors = _reference(there, key, stack)
        images: dict[str, Any] = {"dir": str(there.image.catalogue), "stores_dir": str(stores), "mirrors": mirrors}
        path = [str(TOOLS / way.tools / "bin")] if way.tools else []
        overrides = {
            "images": images,
            "slurm": {"node_path": path, "interval": f"{SlurmSettings.model_fields['interval'].default:g}s"},
        }
        keys = {"launcher": way.launcher, "image": reference, "runner_dir": None, "max_runners": 20}
        pool = StagePool("small", ("self-hosted", LABEL), slurm={"mem": "400M", "time": "30m"}, keys=keys)
        stage = Stage(
            slurm=there.slurm,
            pools=[pool],
            overrides=overrides,
            installation=f"b{secrets.token_hex(3)}",
            listening=stack.enter_context(there.network.listen()),
        )
        stack.enter_context(stage)
        stage.github.add_repository(PROJECT, {})
        stage.start_service()
        yield stage


def _reference(there: Site, key: str, stack: ExitStack) -> tuple[str, dict[str, str]]:
    """What the pool's image is called in this way, and the mirrors of the site."""
    direct = {there.registry: f"http://{there.registry}"}
    match key:
        case "cold":
            return f"{there.registry}/{REPOSITORY}:{PLAIN}", direct
        case "stargz":
            return f"{there.registry}/{REPOSITORY}:{LAZY}", direct
        case "empty-mirror" | "warm-mirror":
            storage = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirror-", dir=there.work)))
            if key == "warm-mirror":
                _fill(there, storage)
            upstream = f"http://{there.registry}"
            url = stack.enter_context(mirror(there.network.near, upstream, storage, there.work))
            return f"{REPOSITORY}:{PLAIN}", {DOCKER_IO: url}
        case "sif":
            return str(there.image.directory / "image.sif"), {}
    return NAME, {}


def _fill(there: Site, storage: Path) -> None:
    """Let the mirror have the image already, as if by yesterday's job; not over the slow link."""
    with tempfile.TemporaryDirectory(dir=there.work) as work:
        place = Path(work)
        with (
            registry(LOOPBACK, there.image.blobs, place) as host,
            mirror(LOOPBACK, f"http://{host}", storage, place) as url,
        ):
            source = f"docker://{url.removeprefix('http://')}/{REPOSITORY}:{PLAIN}"
            argv = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", source, f"dir:{place}/pulled"]
            subprocess.run(argv, check=True, capture_output=True)


def inhabitants(directory: Path) -> list[str]:
    """Processes that have something of ``directory`` mounted: those of containers, whatever their names."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f" {directory}" in (entry / "mountinfo").read_text():
                found.append(f"process {entry.name} has something of {directory} mounted")
        except OSError:
            continue
    return found


def lacking(keys: Sequence[str]) -> list[str]:
    """What the machine lacks for these ways."""
    tools = {tools for key in keys if (tools := WAYS[key].tools) is not None}
    missing = [str(TOOLS / tool) for tool in sorted(tools) if not (TOOLS / tool / "bin").is_dir()]
    programs = ("skopeo", "docker-registry", "podman")
    return missing + [program for program in programs if shutil.which(program) is None]
