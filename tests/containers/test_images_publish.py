"""Forms of an image, each made by the real engine and used as nodes use it. A small image; no registry, no network."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.containers.images_scene import USER, Keeper, keeper, registry, small_archive

from slurm_gha.images.record import read_env

pytestmark = pytest.mark.slow

# What a job's script does with a store, by the nodes' own functions.
_SEEDED_DAEMON = """
set -euo pipefail
cd {node}
. ./lib.sh; . ./signals.sh; . ./processes.sh; . ./rootless.sh; . ./catalogue.sh; . ./store.sh
SG_NODE=here SG_LAUNCHER=docker SG_IMAGE={name} SG_IMAGES_DIR={catalogue} SG_STORES_DIR={stores} SG_SLURM_ID=1
SG_JOB_DIR={job} SG_LOCK= SG_REPORTS= SG_HOST_LOOPBACK= PATH=$PATH:/usr/sbin:/sbin
find_image
make_engine_dir
SG_JOB_DIR=
echo '{{}}' >"$SG_ENGINE/daemon.json"
seed_store
(run_dockerd "$SG_ENGINE" --storage-driver overlay2 --bridge none --iptables=false) >"$SG_ENGINE_LOG" 2>&1 &
SG_DAEMON=$!
trap 'kill "$SG_DAEMON"; wait "$SG_DAEMON" || true' EXIT
until engine_answers; do kill -0 "$SG_DAEMON" || {{ cat "$SG_ENGINE_LOG"; exit 1; }}; sleep 0.05; done
export DOCKER_HOST=unix://$SG_ENGINE/docker.sock
docker image ls --no-trunc --quiet
docker run --rm --network none sha256:"$SG_IMAGE_DIGEST" sh -c \\
  'cat /owned /old/new; stat -c "%u %a" /owned; echo $GREETING
   echo written >/extra && cat /extra; cat /gone /old/hidden || echo hidden'
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Keeper]:
    with keeper() as made:
        archive, digest = small_archive(made.home)
        made.image("import", str(archive), "--name", "small")
        assert made.image_home("small").name == digest
        yield made


@pytest.mark.parametrize("form", ["erofs", "squashfs"])
def test_a_store_seeds_the_daemon_of_a_job(one: Keeper, form: str) -> None:
    one.image("publish", "small", "--to", "store", "--format", form)
    home = one.image_home("small")
    values = read_env(home / "store.env")
    assert values is not None
    assert (values["FORMAT"], values["UID"]) == (form, str(pwd.getpwnam(USER).pw_uid))
    others = [file for file in ("store.erofs", "store.squashfs") if file != f"store.{form}"]
    assert not any((home / other).exists() for other in others), "only one store is left"
    with mounted(home / f"store.{form}", one.home / "stores" / home.name):
        said = seeded(one)
    assert said.splitlines() == [
        f"sha256:{home.name}",
        "by 1000",
        "new",
        "1000 600",
        "it's me",
        "written",
        "hidden",
    ]
    assert "already" in one.image("publish", "small", "--to", "store", "--format", form).stdout


def test_a_podman_store_is_used_where_it_lies(one: Keeper) -> None:
    one.image("publish", "small", "--to", "podman")
    store = one.image_home("small") / "podman"
    before = listing(store)
    place = one.home / "p"
    place.mkdir()
    one.give(place)
    storage = (
        f"--root {place}/graph --runroot {place}/run --storage-driver overlay --storage-opt overlay.imagestore={store}"
    )
    podman = f"podman {storage} --cgroup-manager cgroupfs --runtime runc"
    image = f"sha256:{one.image_home('small').name}"
    inner = f"""
      export XDG_RUNTIME_DIR={place} HOME={place} _CONTAINERS_USERNS_CONFIGURED=done _CONTAINERS_ROOTLESS_UID=$SG_UID
      {podman} image ls --no-trunc --quiet
      {podman} run --rm --network host {image} sh -c \\
        'cat /owned /old/new; stat -c "%u %a" /owned; echo w >/extra; cat /gone || echo hidden'
    """
    script = (
        f"export XDG_RUNTIME_DIR={place} PATH=$PATH:/usr/sbin SG_UID=$(id -u); exec rootlesskit --state-dir={place}/rk "
        f"--pidns --net=host --propagation=rslave --copy-up=/run sh -ec {shlex.quote(inner)}"
    )
    said = one.run("sh", "-ec", script).stdout
    assert said.splitlines() == [f"sha256:{one.image_home('small').name}", "by 1000", "new", "1000 600", "hidden"]
    assert listing(store) == before, "the store is as it was"


def test_the_unpacked_tree_runs_and_shares_its_files(one: Keeper) -> None:
    archive, other = small_archive(one.home, "other", extra=b"two")
    one.image("import", str(archive), "--name", "other")
    for name in ("small", "other"):
        one.image("publish", name, "--to", "unpacked")
    first, second = (one.image_home(name) / "unpacked" for name in ("small", "other"))
    assert (first / "bin/busybox").samefile(second / "bin/busybox")
    assert not (first / "extra").samefile(second / "extra")
    assert not any((first / name).exists() for name in ("gone", "old/hidden"))
    assert (first / "setuid").stat().st_mode & 0o7777 == 0o755
    account = pwd.getpwnam(USER)
    assert all(path.lstat().st_uid == account.pw_uid for path in first.rglob("*"))
    assert all((first / name).is_dir() for name in ("dev", "proc", "sys", "tmp"))
    chroot = ["unshare", "--user", "--map-root-user", "--mount", "--root", str(first), "/bin/sh", "-c"]
    script = ". /.singularity.d/env/10-docker2singularity.sh; echo $GREETING; cat /owned"
    assert one.run(*chroot, script).stdout.splitlines() == ["it's me", "by 1000"]
    objects = len(list((one.catalogue / "objects").glob("??/*")))
    one.image("remove", "other")
    removed = one.image("gc", "--grace", "0s", check=False)
    assert not (one.catalogue / other).exists() or "Slurm" in removed.stderr
    assert objects


def test_estargz_is_pushed_and_can_be_pulled(one: Keeper, tmp_path: Path) -> None:
    with registry(tmp_path) as host:
        one.image("publish", "small", "--to", "estargz", "--registry", f"{host}/ci/small", "--plain-http")
        values = read_env(one.image_home("small") / "estargz.env")
        assert values is not None
        name, _, digest = values["PULL"].partition("@")
        assert name == f"{host}/ci/small"
        manifest = fetched(host, "ci/small", digest)
        if "manifests" in manifest:  # an index of one
            (only,) = manifest["manifests"]
            manifest = fetched(host, "ci/small", only["digest"])
        toc = "containerd.io/snapshot/stargz/toc.digest"
        assert [toc in layer["annotations"] for layer in manifest["layers"]] == [True, True]


@pytest.mark.engines
def test_a_sif_file_runs(one: Keeper) -> None:
    programs = "/opt/slurm-gha-tools/apptainer/bin"
    subprocess.run([str(Path(__file__).parents[2] / "tools/install_apptainer.sh")], check=True, capture_output=True)
    one.env["PATH"] = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    one.image("publish", "small", "--to", "sif")
    home = one.image_home("small")
    values = read_env(home / "sif.env")
    assert values is not None
    assert values["ENGINE"] == "apptainer"
    for image in ("image.sif", "unpacked"):
        if image == "unpacked":
            one.image("publish", "small", "--to", "unpacked")
        run = ["apptainer", "--quiet", "exec", "--containall", "--no-home", str(home / image), "/bin/sh", "-c"]
        said = one.run(*run, 'cat /old/new; test -e /gone || echo gone; echo "$GREETING"').stdout
        assert said.splitlines() == ["new", "gone", "it's me"]


def fetched(host: str, repository: str, digest: str) -> Any:
    """A manifest or an index, as a node gets it."""
    kinds = [f"Accept: application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index")]
    headers = [word for kind in kinds for word in ("-H", kind)]
    url = f"http://{host}/v2/{repository}/manifests/{digest}"
    return json.loads(subprocess.run(["curl", "-sf", *headers, url], capture_output=True, check=True).stdout)


def seeded(one: Keeper) -> str:
    """A container of a daemon that got its image by links; what it said."""
    job = one.home / "j"
    job.mkdir()
    one.give(job)
    node = Path(__file__).parents[2] / "src/slurm_gha/node"
    script = _SEEDED_DAEMON.format(
        node=shlex.quote(str(node)), name="small", catalogue=one.catalogue, stores=one.home / "stores", job=job
    )
    try:
        return one.run("bash", "-c", script).stdout
    finally:
        one.remove(job)


@contextmanager
def mounted(image: Path, target: Path) -> Iterator[None]:
    """As an administrator does it on a node."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro,nodev,nosuid", str(image), str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)


def listing(place: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_uid, path.lstat().st_mtime_ns) for path in place.rglob("*"))


def test_root_is_told_why_not(tmp_path: Path) -> None:
    assert os.geteuid() == 0
    archive, _ = small_archive(tmp_path)
    argv = [str(Path(os.sys.executable)), "-m", "slurm_gha", "image"]
    place = ["--dir", str(tmp_path / "cat")]
    subprocess.run([*argv, "import", str(archive), "--name", "x", *place], check=True, capture_output=True)
    done = subprocess.run([*argv, "publish", "x", "--to", "store", *place], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "as the service's user, not as root" in done.stderr
    assert len(done.stderr.splitlines()) == 1
