"""Stores on a node: mounted, kept, replaced and unmounted by root, from a catalogue that root does not trust."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.epilog_site import USER, account

from slurm_gha.slurm.script import NodeSite
from slurm_gha.slurm.tools import stores_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="stores are mounted by root"),
]

A, B, C, D = (letter * 64 for letter in "abcd")


class Node:
    """A catalogue, a place for mounts, and the script."""

    def __init__(self, root: Path) -> None:
        self.user = account(USER)
        self.catalogue, self.stores, self.node_dir = root / "images", root / "stores", root / "n"
        for path in (self.catalogue, self.catalogue / "names", self.node_dir):
            path.mkdir(mode=0o755)
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self.script = root / "stores.sh"
        site = NodeSite(images_dir=str(self.catalogue), stores_dir=str(self.stores))
        self.script.write_text(stores_script(str(self.node_dir), site))

    def store(self, digest: str, content: str, kind: str = "erofs") -> Path:
        """Make the store of an image, or make it anew, as the service does: by a rename."""
        directory = self.catalogue / digest
        directory.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as tree:
            (Path(tree) / "file").write_text(content)
            new = directory / "new"
            argv = ["mkfs.erofs", new, tree] if kind == "erofs" else ["mksquashfs", tree, new, "-quiet"]
            subprocess.run(argv, check=True, capture_output=True)
        path = directory / f"store.{kind}"
        os.chown(new, self.user.pw_uid, self.user.pw_gid)
        new.rename(path)
        return path

    def name(self, name: str, digest: str) -> None:
        link = self.catalogue / "names" / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"../{digest}")

    def run(self, **environment: str) -> tuple[int, list[str]]:
        """The exit status, and the lines said."""
        done = subprocess.run(
            ["/bin/bash", "-p", str(self.script)],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", **environment},
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()

    def mounted(self) -> dict[str, str]:
        """Digests, and the options of their mounts."""
        found = {}
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4].startswith(f"{self.stores}/"):
                assert fields[4] not in found, "mounted twice"
                found[Path(fields[4]).name] = fields[5]
        return found

    def content(self, digest: str) -> str:
        return (self.stores / digest / "file").read_text()

    def close(self) -> None:
        for digest in self.mounted():
            subprocess.run(["umount", "--lazy", str(self.stores / digest)], check=True)


@pytest.fixture
def node() -> Iterator[Node]:
    root = Path(tempfile.mkdtemp(prefix="sgst-", dir="/tmp"))
    root.chmod(0o755)
    node = Node(root)
    try:
        yield node
    finally:
        node.close()
        shutil.rmtree(root)


def _loops(node: Node) -> str:
    listing = subprocess.run(["losetup", "--list", "-n", "-O", "BACK-FILE"], capture_output=True, text=True, check=True)
    return "\n".join(line for line in listing.stdout.splitlines() if str(node.catalogue) in line)


def test_stores_are_mounted_once_and_read_only(node: Node) -> None:
    node.store(A, "a")
    node.store(B, "b", kind="squashfs")
    node.store(C, "c")  # without a name
    node.name("one", A)
    node.name("also-one", A)
    node.name("two", B)
    code, lines = node.run()
    assert (code, len(lines)) == (0, 2), lines
    assert sorted(node.mounted()) == [A, B]
    for options in node.mounted().values():
        assert {"ro", "nosuid", "nodev"} <= set(options.split(","))
    assert (node.content(A), node.content(B)) == ("a", "b")
    assert node.run() == (0, [])
    assert sorted(node.mounted()) == [A, B]


def test_several_at_once_are_harmless(node: Node) -> None:
    node.store(A, "a")
    node.name("one", A)
    argv = ["/bin/bash", "-p", str(node.script)]
    runs = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(5)]
    said = "".join(run.communicate(timeout=60)[1] for run in runs)
    assert [run.returncode for run in runs] == [0] * 5
    assert said == f"slurm-gha: {node.stores}/{A} is mounted (image one)\n"
    assert list(node.mounted()) == [A]


def test_a_broken_one_costs_a_line_and_not_the_others(node: Node) -> None:
    node.store(A, "a")
    broken = node.store(B, "b")
    broken.write_bytes(os.urandom(8192))
    node.store(C, "c", kind="squashfs").write_bytes(b"")
    for name, digest in (("one", A), ("broken", B), ("empty", C)):
        node.name(name, digest)
    code, lines = node.run()
    assert code == 1
    assert list(node.mounted()) == [A]
    for name in ("broken", "empty"):
        assert len([line for line in lines if f"(image {name}) is not mounted: " in line]) == 1, lines
    assert lines[-1].startswith("slurm-gha: 2 of the stores could not be mounted on node ")
    assert f"{B}/store.erofs" not in _loops(node)
    # As Slurm's Prolog: jobs can do without a store, and a node without a job cannot.
    assert node.run(SLURM_JOB_ID="7")[0] == 0


def test_a_catalogue_cannot_make_root_mount_something_else(node: Node, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    node.store(A, "secret").rename(foreign)
    os.chown(foreign, 0, 0)
    (node.catalogue / A / "store.erofs").symlink_to(foreign)
    node.store(B, "secret")
    os.chown(node.catalogue / B / "store.erofs", 0, 0)
    (node.catalogue / C).mkdir()
    os.mkfifo(node.catalogue / C / "store.erofs")
    for name, digest in (("link", A), ("foreign", B), ("pipe", C)):
        node.name(name, digest)
    names = node.catalogue / "names"
    (names / "outside").symlink_to(tmp_path)
    (names / "deep").symlink_to(f"../../{A}")
    (names / "$(touch x)").symlink_to(f"../{D}")
    code, lines = node.run()
    assert code == 1
    assert node.mounted() == {}
    assert len([line for line in lines if "it is no plain file of uid" in line]) == 3
    assert _loops(node) == ""


def test_a_store_without_a_name_goes_when_the_jobs_of_its_time_are_over(node: Node) -> None:
    node.store(A, "a")
    node.name("one", A)
    assert node.run()[0] == 0
    job = node.node_dir / "sg-7"
    job.mkdir()
    os.chown(job, node.user.pw_uid, node.user.pw_gid)
    (node.catalogue / "names" / "one").unlink()
    assert node.run() == (0, [])
    assert list(node.mounted()) == [A]
    job.rmdir()
    code, lines = node.run()
    assert (code, node.mounted()) == (0, {})
    assert len(lines) == 1
    assert "is unmounted" in lines[0]
    assert not (node.stores / A).exists()
    assert _loops(node) == ""


def test_a_store_that_somebody_looks_at_stays(node: Node) -> None:
    node.store(A, "a")
    node.name("one", A)
    node.run()
    (node.catalogue / "names" / "one").unlink()
    with (node.stores / A / "file").open():
        assert node.run() == (0, [])
        assert list(node.mounted()) == [A]
    assert node.run()[0] == 0
    assert node.mounted() == {}


def test_a_store_made_anew_takes_the_place_of_the_old(node: Node) -> None:
    node.store(A, "old")
    node.name("one", A)
    node.run()
    job = node.node_dir / "sg-7"
    job.mkdir()
    os.chown(job, node.user.pw_uid, node.user.pw_gid)
    node.store(A, "new")
    assert node.run() == (0, [])
    assert node.content(A) == "old"
    # A job that came later does not hold it: the new one is not mounted, and it knows by store.env.
    first = int(os.stat(node.stores / f".unneeded-{A}").st_mtime)
    while int(time.time()) <= first:
        time.sleep(0.05)
    later = node.node_dir / "sg-8"
    later.mkdir()
    os.chown(later, node.user.pw_uid, node.user.pw_gid)
    assert node.run() == (0, [])
    job.rmdir()
    code, lines = node.run()
    assert (code, len(lines)) == (0, 2), lines
    assert node.content(A) == "new"
    assert list(node.mounted()) == [A]
    assert node.run() == (0, [])


def test_a_catalogue_that_cannot_be_read_changes_nothing(node: Node) -> None:
    node.store(A, "a")
    node.name("one", A)
    node.run()
    node.catalogue.rename(node.catalogue.with_name("away"))
    code, lines = node.run()
    assert code == 66
    assert "cannot be read on node" in lines[0]
    assert node.content(A) == "a"
    node.catalogue.with_name("away").rename(node.catalogue)


def test_it_is_for_root_and_for_a_directory_of_roots(node: Node) -> None:
    argv = ["setpriv", f"--reuid={node.user.pw_uid}", "--clear-groups", "/bin/bash", "-p", str(node.script)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (77, "slurm-gha: stores are mounted by root\n")
    node.stores.mkdir(mode=0o777)
    node.stores.chmod(0o777)
    code, lines = node.run()
    assert (code, lines) == (73, [f"slurm-gha: {node.stores} must belong to root and be closed to other writers"])
