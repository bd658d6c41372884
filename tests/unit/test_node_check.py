"""The check of a node: each thing that can be missing has a line of its own, and makes the exit status 1."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from slurm_gha.domain.pool import Container, Handover, Launcher
from slurm_gha.slurm.script import NodeSite, ScriptValues
from slurm_gha.slurm.tools import Checked, check_script

DIGEST = "ab" * 32
# What the launcher "docker" asks of the node, each with the words of a good one.
PROGRAMS = {
    "rootlesskit": "echo rootlesskit version 1.1.0",
    "slirp4netns": "echo slirp4netns version 1.2.0",
    "newuidmap": ":",
    "newgidmap": ":",
    "getsubids": "echo 0: me 100000 65536",
    "getcap": 'echo "$2 cap_setuid,cap_setgid=ep"',
    "unshare": ":",
    "dockerd": "echo Docker version 24.0.7, build x",
    "docker": "echo Docker version 24.0.7, build x",
    "containerd": "echo containerd github.com/containerd/containerd 1.7.2 x",
    "runc": "echo runc version 1.1.5",
    "iptables": "echo iptables v1.8.9",
    "getent": 'test "$2" != unknown.example',
    "scontrol": "printf 'Epilog = %s\\nEpilogSlurmctld = (null)\\nProctrackType = proctrack/cgroup\\n' \"$EPILOG\"",
}


class Node:
    """Programs that say what is wanted, in front of the real ones; and the values of a pool."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        for name, body in PROGRAMS.items():
            self.program(name, body)
        self.node_dir = root / "n"
        self.node_dir.mkdir()
        self.runner_dir = root / "runner"
        (self.runner_dir / "bin").mkdir(parents=True)
        (self.runner_dir / "run.sh").touch(mode=0o755)
        self.epilog = root / "epilog"
        self.epilog.write_text("#!/bin/bash\n# slurm-gha epilog: cleans\n")
        self.values = ScriptValues(
            name="check",
            handover=Handover.STDIN,
            runner_dir=str(self.runner_dir),
            node_dir=str(self.node_dir),
            launcher=Launcher.DOCKER,
            container=Container(image="ghcr.io/owner/image:1"),
            site=NodeSite(path=(str(self.bin),)),
        )

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def check(self, **changes: object) -> tuple[int, list[str]]:
        """The exit status, and the lines but for the first and the last."""
        fields = {name: changes.pop(name) for name in ("node_url", "ca_file", "hosts") if name in changes}
        checked = Checked("pool x", replace(self.values, **changes), **fields)  # type: ignore[arg-type]
        done = subprocess.run(
            ["/bin/bash", "-s"],
            input=check_script([checked]).encode(),
            env={"PATH": "/usr/bin:/bin", "EPILOG": str(self.epilog), "SLURMD_NODENAME": "n1"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == b""
        first, *lines, last = done.stdout.decode().splitlines()
        assert first.startswith("pool x, launcher ")
        wrong = [line for line in lines if line.startswith("✗ ")]
        assert last == f"node n1: {_in_words(len(wrong))}"
        assert done.returncode == bool(wrong)
        assert list(self.node_dir.iterdir()) == []
        return done.returncode, lines


def _in_words(wrong: int) -> str:
    return "all is well" if not wrong else f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong"


@pytest.fixture
def node() -> Iterator[Node]:
    """In a short directory, as sockets of engines have to fit below it."""
    with tempfile.TemporaryDirectory(prefix="sgnc-", dir="/tmp") as directory:
        yield Node(Path(directory))


def _wrong(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("✗ ")]


def test_a_good_node_has_no_cross(node: Node) -> None:
    code, lines = node.check(hosts=("github.com",))
    assert code == 0, lines
    assert f"✓ runner_dir: {node.runner_dir} holds a runner" in lines
    assert "✓ dockerd: version 24.0.7" in lines
    assert "✓ subuid: 65536 ids from 100000 on" in lines
    assert "✓ names: known: github.com" in lines
    assert f"✓ slurm: Epilog {node.epilog} is that of slurm-gha" in lines
    assert "✓ slurm: ProctrackType is proctrack/cgroup: no process outlives its job" in lines


@pytest.mark.parametrize(
    ("program", "body", "says"),
    [
        ("dockerd", "echo Docker version 19.03.1", "✗ dockerd: version 19.03.1; 20.10 or later is needed"),
        ("getsubids", "exit 1", "has no range of ids in /etc/subuid"),
        ("getsubids", "echo 0: me 100000 1000", "has 1000 ids from 100000 on; images need 65536"),
        ("getcap", ":", "is neither setuid root nor has it cap_setuid"),
        ("unshare", "echo unshare failed: Operation not permitted >&2; exit 1", "cannot make user namespaces: unshare"),
        (
            "unshare",
            'case "$*" in *--mount*) echo "mount: no overlay" >&2; exit 32 ;; esac',
            "overlay: cannot be mounted in a user namespace",
        ),
    ],
)
def test_what_is_wrong_has_its_line(node: Node, program: str, body: str, says: str) -> None:
    node.program(program, body)
    node.program("fuse-overlayfs", "exit 1")
    if "overlay" in says:
        doubts = [line for line in node.check()[1] if says in line]
        assert doubts[0].startswith("! "), doubts
        return
    code, lines = node.check()
    assert code == 1
    assert any(says in line for line in _wrong(lines)), lines


@pytest.mark.parametrize("program", ["rootlesskit", "slirp4netns", "newuidmap", "dockerd", "iptables", "getsubids"])
def test_a_missing_program_is_named(node: Node, program: str) -> None:
    """Only what is needed is on PATH here."""
    real = (
        "bash sh chmod cp date flock grep id ln mkdir mv readlink rm sleep stat tail curl mktemp df timeout cat sed tr"
    )
    for name in real.split():
        (node.bin / name).symlink_to(next(p for p in (f"/usr/bin/{name}", f"/bin/{name}") if Path(p).exists()))
    (node.bin / program).unlink()
    checked = Checked("pool x", node.values)
    text = check_script([checked]).replace(":/usr/local/sbin:/usr/sbin:/sbin", "")
    done = subprocess.run(
        ["/bin/bash", "-s"],
        input=text.encode(),
        env={"PATH": str(node.bin), "EPILOG": "(null)"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    if program == "getsubids":  # /etc/subuid is read in its place
        assert any("subuid: " in line for line in lines)
        return
    assert done.returncode == 1
    assert any(line.startswith(f"✗ {program}: ") and "not found" in line for line in lines), lines


def test_slirp4netns_may_be_pasta_with_a_rootlesskit_that_knows_it(node: Node) -> None:
    script = check_script([Checked("pool x", node.values)])
    hidden = script.replace("has slirp4netns", "false")
    for version, expected in (("2.0.2", "✓ pasta: is there"), ("1.1.0", "✗ slirp4netns: not found, and rootlesskit")):
        node.program("rootlesskit", f"echo rootlesskit version {version}")
        node.program("pasta", ":")
        done = subprocess.run(
            ["/bin/bash", "-s"], input=hidden.encode(), env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False
        )
        assert expected in done.stdout.decode()


def test_directories_that_will_not_do(node: Node, tmp_path: Path) -> None:
    _, lines = node.check(runner_dir=str(tmp_path / "none"))
    assert _wrong(lines)[0].startswith(f"✗ runner_dir: {tmp_path}/none holds no unpacked actions/runner")
    _, lines = node.check(node_dir=str(tmp_path / "none"))
    assert f"✗ node_dir: {tmp_path}/none is not a directory that this user can write to" in lines
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    _, lines = node.check(node_dir=str(deep))
    assert "bytes too long for the sockets of an engine below it" in _wrong(lines)[0]
    node.program("stat", 'if [[ $1 == -f ]]; then echo nfs; else exec /usr/bin/stat "$@"; fi')
    _, lines = node.check()
    assert _wrong(lines) == [f"✗ node_dir: {node.node_dir} is on nfs: container engines need a local disk"]
    _, lines = node.check(launcher=Launcher.HOST, container=None)
    assert f"! node_dir: {node.node_dir} is on nfs; a local disk is quicker, and its locks are sure" in lines
    node.program("df", "echo Filesystem; echo /dev/x 1000 500 5000 50% /tmp")
    _, lines = node.check(launcher=Launcher.HOST, container=None)
    assert _wrong(lines) == ["✗ node_dir: 4 MB are free: too little for a runner"]


def test_names_that_nobody_knows(node: Node) -> None:
    _, lines = node.check(hosts=("github.com", "unknown.example"))
    assert _wrong(lines) == ["✗ names: not known to this node (DNS, /etc/hosts): unknown.example"]


class _Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_service_is_asked(node: Node, url: str, tmp_path: Path) -> None:
    assert f"✓ node_url: the service answers at {url}" in node.check(node_url=url)[1]
    assert _wrong(node.check(node_url=f"{url}/else")[1]) == [
        f"✗ node_url: {url}/else/healthz answers with HTTP status 404: is that the service?"
    ]
    assert (
        "✗ node_url: http://127.0.0.1:9 cannot be reached: " in _wrong(node.check(node_url="http://127.0.0.1:9")[1])[0]
    )
    ca_file = str(tmp_path / "none.pem")
    assert _wrong(node.check(node_url=url, ca_file=ca_file)[1]) == [
        f"✗ node_url: the ca_file {ca_file} cannot be read on this node"
    ]


def test_mirrors_are_asked_and_only_missed(node: Node, url: str) -> None:
    site = NodeSite(path=(str(node.bin),), mirrors=(("docker.io", url), ("ghcr.io", "http://127.0.0.1:9")))
    code, lines = node.check(site=site)
    assert code == 0
    assert any(line.startswith(f"✓ mirror: {url} of docker.io answers within ") for line in lines)
    assert "! mirror: http://127.0.0.1:9 of ghcr.io does not answer within 3 s: jobs pull from ghcr.io itself" in lines


def test_slurm_is_looked_at_as_far_as_it_can_be_read(node: Node) -> None:
    node.epilog.write_text("#!/bin/bash\n")
    assert (
        f"! slurm: none of the Epilogs that this user can read is that of slurm-gha: {node.epilog}" in node.check()[1]
    )
    node.program("scontrol", "printf 'Epilog[0] = (null)\\nProctrackType = proctrack/linuxproc\\n'")
    lines = node.check()[1]
    assert any(line.startswith("! slurm: no Epilog is set") for line in lines)
    assert any(line.startswith("! slurm: ProctrackType is proctrack/linuxproc") for line in lines)
    node.program("scontrol", "echo no controller >&2; exit 1")
    assert any(
        line.startswith("! slurm: its configuration cannot be read here (no controller)") for line in node.check()[1]
    )


def _catalogue(node: Node, store_env: str | None) -> NodeSite:
    images, stores = node.root / "images", node.root / "stores"
    home = images / DIGEST
    home.mkdir(parents=True)
    (images / "names").mkdir()
    (images / "names" / "runner").symlink_to(f"../{DIGEST}")
    if store_env is not None:
        (home / "store.env").write_text(store_env)
    return NodeSite(path=(str(node.bin),), images_dir=str(images), stores_dir=str(stores))


def _store_env(**changes: str) -> str:
    values = {"ENGINE_VERSION": "24.0.7", "UID": str(os.geteuid()), "SUBUID": "100000", **changes}
    return "".join(f"{key}={value}\n" for key, value in values.items())


def test_the_catalogue_and_the_store_are_looked_at(node: Node) -> None:
    site = _catalogue(node, _store_env())
    container = Container(image="runner")
    code, lines = node.check(site=site, container=container)
    assert f"✓ image: runner is {DIGEST[:12]} of the catalogue" in lines
    assert len(_wrong(lines)) == 1
    assert f"it is not mounted at {site.stores_dir}/{DIGEST}" in _wrong(lines)[0]
    mount = Path(site.stores_dir) / DIGEST
    (mount / "overlay2").mkdir(parents=True)
    (mount / "image" / "overlay2").mkdir(parents=True)
    code, lines = node.check(site=site, container=container)
    assert (code, f"✓ store: {mount} is there, and fits this node's engine and user" in lines) == (0, True)
    env = Path(site.images_dir) / DIGEST / "store.env"
    for changes, why in (
        ({"ENGINE_VERSION": "20.10.1"}, "it was made by dockerd 20.10.1, and node n1 has 24.0.7"),
        ({"UID": "12345"}, f"it was made for uid 12345, and this is uid {os.geteuid()}"),
        ({"SUBUID": "5"}, "it was made for subordinate ids from 5 on, and here they begin at 100000"),
    ):
        env.write_text(_store_env(**changes))
        assert why in _wrong(node.check(site=site, container=container)[1])[0]
    _, lines = node.check(site=site, container=Container(image="runer"))
    assert "! image: the catalogue has no image 'runer': jobs take it for a reference, and pull it" in lines
    _, lines = node.check(site=replace(site, images_dir="/nonexistent"))
    assert _wrong(lines) == ["✗ images: the catalogue /nonexistent cannot be read by this user"]


def test_a_path_in_cvmfs_is_asked_for_itself(node: Node) -> None:
    _, lines = node.check(container=Container(image="/cvmfs/images.example/runner"))
    assert len(_wrong(lines)) == 1
    assert "does this node mount /cvmfs/images.example?" in _wrong(lines)[0]


def test_several_pools_are_checked_one_after_another(node: Node) -> None:
    """In shells of their own; one that lacks something makes the whole fail, and the others are still checked."""
    host = replace(node.values, launcher=Launcher.HOST, container=None)
    bad = replace(host, runner_dir="/nonexistent")
    text = check_script([Checked("pool a", bad), Checked("pool b", host)])
    done = subprocess.run(
        ["/bin/bash", "-s"], input=text.encode(), env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False
    )
    said = done.stdout.decode()
    assert done.returncode == 1
    assert said.index("pool a, launcher host") < said.index("1 thing is wrong") < said.index("pool b, launcher host")
    assert said.rstrip().endswith("all is well")
