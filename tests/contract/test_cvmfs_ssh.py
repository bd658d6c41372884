"""Publication over a real ssh: a private sshd on loopback, and the stand-in for cvmfs_server behind it."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.cvmfs_bench import NAME, ONE, VirtualEdge, content, expected, make_tree

from slurm_gha.images.cvmfs.errors import HostUnreachable
from slurm_gha.images.cvmfs.publish import publish
from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.images.cvmfs.wait import Node, wait
from slurm_gha.testing.cvmfs_server.directory import Stage, build

SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {place}/host
AuthorizedKeysFile {place}/client.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
"""
CLIENT = """
Host *
Port {port}
IdentityFile {place}/client
IdentitiesOnly yes
UserKnownHostsFile {place}/known
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The words of a client that gets in."""
    place = tmp_path_factory.mktemp("ssh")
    for key in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (place / "sshd_config").write_text(SERVER.format(port=port, place=place))
    (place / "ssh_config").write_text(CLIENT.format(port=port, place=place))
    (place / "known").write_text(f"[127.0.0.1]:{port} {(place / 'host.pub').read_text()}")
    program = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")
    assert program is not None, "sshd is missing: run tools/install_system.sh"
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            [program, "-D", "-e", "-f", str(place / "sshd_config")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        until_it_listens(port, server, place / "log")
        yield ("ssh", "-F", str(place / "ssh_config"))
    finally:
        server.terminate()
        server.wait(30)


def until_it_listens(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(log.read_text())


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    # A blank and a quote: every word has to get through the shell on the other side as it is.
    made = build(tmp_path / "it's a stratum 0")
    made.create(NAME)
    (tmp_path / "cvmfs").symlink_to(made.mount_root)
    (tmp_path / "spool").symlink_to(made.spool_root)
    return made


def settings_over(ssh: tuple[str, ...], stage: Stage, **others: object) -> CvmfsSettings:
    place = stage.root.parent
    return CvmfsSettings(
        NAME,
        host="127.0.0.1",
        user=getpass.getuser(),
        ssh=ssh,
        server=str(stage.server),
        mount_root=str(place / "cvmfs"),
        spool_root=str(place / "spool"),
        **others,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("method", ["transaction", "ingest"])
def test_a_tree_goes_over_ssh_whole(sshd: tuple[str, ...], stage: Stage, tmp_path: Path, method: str) -> None:
    tree = make_tree(tmp_path / "tree")
    settings = settings_over(sshd, stage, method=method)
    done = publish(tree, ONE, "ubuntu", settings, state_dir=tmp_path / "tmp", edge=VirtualEdge())
    published = stage.repository(NAME).spool / "rdonly" / "images"
    assert content(published / ONE) == expected(tree)
    assert (published / "names" / "ubuntu").readlink() == Path(f"../{ONE}")
    assert done.revision == stage.repository(NAME).published
    owner = next((tmp_path / "tmp").glob("*.owner")).read_text().strip()
    assert list(Path("/var/tmp").glob(f"slurm-gha-cvmfs.{owner}.*")) == []


def test_a_killed_publish_is_taken_up_over_ssh(sshd: tuple[str, ...], stage: Stage, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    stage.control.set(kill={"publish": "sync"})
    publish(tree, ONE, None, settings_over(sshd, stage), state_dir=tmp_path / "tmp", edge=VirtualEdge())
    assert content(stage.repository(NAME).spool / "rdonly" / "images" / ONE) == expected(tree)
    assert not stage.repository(NAME).in_transaction


def test_a_node_is_looked_at_over_ssh(sshd: tuple[str, ...], stage: Stage, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    settings = settings_over(sshd, stage)
    done = publish(tree, ONE, None, settings, state_dir=tmp_path / "tmp", edge=VirtualEdge())
    stage.refresh("n1", NAME)
    (tmp_path / "node").symlink_to(stage.node("n1"))
    seen = CvmfsSettings(NAME, mount_root=str(tmp_path / "node"))
    node = Node("n1", (*sshd, "-o", "BatchMode=yes", "127.0.0.1"))
    lines: list[str] = []
    there = type(done)(seen.path(ONE), done.revision, changed=True)
    wait(there, seen, nodes=(node,), timeout=0, say=lines.append, edge=VirtualEdge())
    assert lines == [f"n1 sees {there.path}"]


def test_a_host_that_cannot_be_reached_is_one_sentence(stage: Stage, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ssh = ("ssh", "-F", "none", "-p", str(closed.getsockname()[1]))
        with pytest.raises(HostUnreachable, match=r"ssh to 127\.0\.0\.1 failed: .*refused") as caught:
            publish(
                make_tree(tmp_path / "tree"),
                ONE,
                None,
                settings_over(ssh, stage),
                state_dir=tmp_path / "tmp",
                edge=VirtualEdge(),
            )
    assert "\n" not in str(caught.value)
