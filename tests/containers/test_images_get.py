"""How images come into the catalogue, and go: built, pulled, collected. With real engines, a registry, a real Slurm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.images_scene import Keeper, keeper, registry, small_archive, wait_until

from slurm_gha.images.record import read_env
from slurm_gha.testing.base_image import base_image
from slurm_gha.testing.private_slurm import PrivateSlurm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one() -> Iterator[Keeper]:
    with keeper() as made:
        yield made


def in_tree(one: Keeper, tree: Path, script: str) -> str:
    """What a script says in an unpacked image."""
    chroot = ["unshare", "--user", "--map-root-user", "--mount", "--root", str(tree), "/bin/sh", "-ec", script]
    return one.run(*chroot).stdout


def test_the_default_dockerfile_makes_a_runner_of_a_base_without_any_registry(one: Keeper) -> None:
    runner = one.home / "runner.tar.gz"
    make_runner(one.home / "unpacked")
    subprocess.run(["tar", "-C", str(one.home / "unpacked"), "-czf", str(runner), "."], check=True)
    words = ("--runner", str(runner), "--base-archive", str(base_image()), "--build-arg", "PACKAGES=")
    said = one.image("build", *words).stdout
    home = one.image_home("runner")
    assert said == f"runner is {home.name}\n"
    image = json.loads((home / "image.json").read_text())
    assert (image["runner_dir"], image["runner_version"], image["pull"]) == ("/home/runner", "2.320.0", None)
    one.image("publish", "runner", "--to", "unpacked")
    script = "/home/runner/run.sh; docker --version; command -v git; command -v python3"
    said = in_tree(one, home / "unpacked", script)
    assert [line.split()[0] for line in said.splitlines()] == ["ran", "Docker", "/usr/bin/git", "/usr/bin/python3"]
    shutil.rmtree(one.home / "unpacked")
    assert not one.processes()


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_dockerfile_of_the_site_and_an_image_from_a_registry_as_base(
    one: Keeper, tmp_path: Path, engine: str
) -> None:
    archive, _ = small_archive(one.home, "small")
    file = one.home / "Dockerfile"
    file.write_text("ARG BASE\nFROM $BASE\nARG WORD\nCOPY data /data\nRUN cat /data >/made && echo $WORD >>/made\n")
    context = one.home / "context"
    context.mkdir(exist_ok=True)
    (context / "data").write_text("from the context\n")
    with registry(tmp_path) as host:
        push(archive, f"{host}/ci/small:1")
        words = (
            "--file",
            str(file),
            "--context",
            str(context),
            "--base",
            f"{host}/ci/small:1",
            "--build-arg",
            "WORD=x",
        )
        one.image("build", "--name", "own", "--engine", engine, *words)
    home = one.image_home("own")
    one.image("publish", "own", "--to", "unpacked")
    assert (home / "unpacked/made").read_text() == "from the context\nx\n"
    assert (home / "unpacked/owned").read_text() == "by 1000\n"
    one.image("remove", "own")


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_pull_keeps_the_digest_of_the_registry_and_goes_round_a_broken_mirror(
    one: Keeper, tmp_path: Path, engine: str
) -> None:
    archive, digest = small_archive(one.home, "small")
    with registry(tmp_path) as host:
        push(archive, f"{host}/ci/small:1")
        mirrored = configuration(one, {"registry.invalid": f"http://{host}", host: "http://127.0.0.1:9"})
        one.image("pull", f"{host}/ci/small:1", "--engine", engine)
        values = read_env(one.image_home("small") / "image.env")
        assert values is not None
        name, _, pinned = values["PULL"].partition("@")
        assert (values["DIGEST"], values["REFERENCE"], name) == (digest, f"{host}/ci/small:1", f"{host}/ci/small")
        words = ("--config", str(mirrored), "--engine", engine)
        # By its mirror alone, since the registry itself does not exist; then past a mirror that does not.
        one.image("pull", "registry.invalid/ci/small:1", "--name", "mirrored", *words)
        values = read_env(one.image_home("mirrored") / "image.env")
        assert values is not None
        assert values["PULL"] == f"registry.invalid/ci/small@{pinned}"
        said = one.image("pull", f"{host}/ci/small@{pinned}", *words).stderr
        assert "the mirror failed" in said
        assert one.image_home("mirrored").name == one.image_home("small").name == digest
    done = one.image("pull", f"{host}/ci/small:1", "--engine", engine, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("slurm-gha image: pulling ")


def test_gc_keeps_what_a_live_slurm_job_uses(tmp_path: Path) -> None:
    with PrivateSlurm(nodes=1, cpus=2) as slurm:
        place = slurm.home / "images"
        archive, _ = small_archive(tmp_path)
        shutil.copy(archive, slurm.home / "small.tar")
        (slurm.home / "small.tar").chmod(0o644)

        def image(verb: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
            return slurm.run(sys.executable, "-m", "slurm_gha", "image", verb, "--dir", str(place), *words, check=check)

        image("import", str(slurm.home / "small.tar"), "--name", "small")
        (digest,) = (path.name for path in place.iterdir() if len(path.name) == 64)
        number = slurm.run("sbatch", "--parsable", "--wrap", "sleep 300").stdout.strip()
        state = ("squeue", "-h", "-j", number, "-o", "%T")
        wait_until(lambda: slurm.run(*state).stdout.strip() == "RUNNING", lambda: "the job does not start")
        marker = place / "uses" / digest / f"{slurm.cluster_name}.{number}"
        slurm.run("mkdir", str(marker.parent))
        slurm.run("touch", str(marker))
        image("remove", "small")
        assert f"Slurm job {number} uses it" in image("gc", "--grace", "0s").stdout
        marker.unlink()
        assert "began when the image still had a name" in image("gc", "--grace", "0s").stdout
        slurm.run("touch", str(marker))
        slurm.stop_controller()
        blind = image("gc", "--grace", "0s", check=False)
        assert blind.returncode == 1
        assert "Slurm cannot be read" in blind.stderr
        assert (place / digest).is_dir()
        slurm.start_controller()
        slurm.run("scancel", number)
        wait_until(lambda: not slurm.run("squeue", "--noheader").stdout.strip(), lambda: "the job does not end")
        image("gc", "--grace", "0s")
        assert not (place / digest).exists()
        assert not marker.exists()


def make_runner(directory: Path) -> None:
    (directory / "bin").mkdir(parents=True)
    (directory / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (directory / "run.sh").chmod(0o755)
    (directory / "bin/Runner.Listener").write_text("program")
    (directory / "bin/Runner.Listener.deps.json").write_text('{"libraries": {"Runner.Listener/2.320.0": {}}}')


def push(archive: Path, reference: str) -> None:
    argv = [
        "skopeo",
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        f"docker-archive:{archive}",
        f"docker://{reference}",
    ]
    subprocess.run(argv, check=True, capture_output=True)


def configuration(one: Keeper, mirrors: dict[str, str]) -> Path:
    """A configuration of which only the images matter."""
    path = one.home / "config.toml"
    pairs = "".join(f'"{host}" = "{url}"\n' for host, url in mirrors.items())
    path.write_text(
        '[service]\ninstallation = "xx"\nnode_url = "http://localhost:8480"\n'
        '[slurm]\noutput_dir = "/tmp"\nnode_dir = "/var/tmp"\n'
        '[[scope]]\nname = "lab"\nurl = "https://github.com/lab"\ntoken_env = "TOKEN"\n'
        '[[pool]]\nname = "p"\nlabels = ["p"]\nrunner_dir = "/opt/runner"\n'
        '[pool.slurm]\ncpus = 1\ntime = "10m"\n'
        f'[images]\ndir = "{one.catalogue}"\n[images.mirrors]\n{pairs}'
    )
    os.chmod(path, 0o644)
    return path
