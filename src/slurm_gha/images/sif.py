"""Publishes an image as a SIF file, Apptainer's own form: one file, which suits slow shared file systems."""

from __future__ import annotations

from pathlib import Path

from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.errors import MissingTool
from slurm_gha.images.process import find, run
from slurm_gha.images.pulling import engine_place
from slurm_gha.images.record import Image
from slurm_gha.images.reporter import Reporter, step


def publish_sif(
    catalogue: Catalogue, image: Image, *, work_dir: Path | None = None, again: bool = False, reporter: Reporter
) -> bool:
    """Build the SIF file from the archive; whether there was anything to do."""
    if not again and "sif" in catalogue.forms(image.digest):
        return False
    try:
        apptainer = find("apptainer", "make a SIF file")
    except MissingTool as error:
        raise MissingTool(f"{error}: install it, or publish --to unpacked, which Apptainer runs as well") from None
    with catalogue.work() as place, engine_place(place, work_dir) as room:
        target = place / "image.sif"
        (room / "apptainer").mkdir()
        env = {"APPTAINER_TMPDIR": str(room / "apptainer"), "APPTAINER_CACHEDIR": str(room / "apptainer")}
        argv = [apptainer, "build", "--disable-cache", str(target), f"docker-archive:{catalogue.archive(image)}"]
        with step(reporter, "building the SIF file"):
            run(argv, "building the SIF file", writes=room, env=env, reporter=reporter)
            version = run([apptainer, "--version"], "asking apptainer", writes=room).split()[-1]
        target.chmod(0o644)
        catalogue.attach(image.digest, "sif", target, {"ENGINE": "apptainer", "ENGINE_VERSION": version})
    return True
