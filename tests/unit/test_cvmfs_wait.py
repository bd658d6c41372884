"""Waiting for nodes: the revision first, then the path; one sentence when the time is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.unit.cvmfs_bench import NAME, VirtualEdge

from slurm_gha.images.cvmfs.answers import Answer
from slurm_gha.images.cvmfs.errors import NotYetSeen
from slurm_gha.images.cvmfs.publish import Published
from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.images.cvmfs.wait import INTERVAL, Node, wait
from slurm_gha.testing.cvmfs_server.directory import Stage, build

SETTINGS = CvmfsSettings(NAME)
IMAGE = SETTINGS.path("a" * 64)


class Client:
    """A node's client: it takes up the published revision when its time to live is over, and until then remembers that
    a path was not there."""

    def __init__(self, *, lives: float, revision: int = 7, came_with: int = 8) -> None:
        self.edge: ClientsEdge
        self.lives = lives
        self.revision = revision
        self.came_with = came_with
        self.absent_until = 0.0
        self.looks: list[float] = []

    def answer(self, argv: Sequence[str], time: float) -> Answer:
        revision = self.came_with if time >= self.lives else self.revision
        if argv[0] == "getfattr":
            return Answer(0, str(revision))
        self.looks.append(time)
        if revision < self.came_with:
            self.absent_until = time + 240
        if time < self.absent_until or revision < self.came_with:
            return Answer(1, "", f"stat: cannot statx '{argv[-1]}': No such file or directory")
        return Answer(0, "directory\n")


class ClientsEdge(VirtualEdge):
    def __init__(self, clients: dict[str, Client]) -> None:
        super().__init__()
        self.began = self.time
        self.clients = clients

    def run(self, argv: Sequence[str], feed: object = None, timeout: float | None = None) -> Answer:
        assert timeout is not None
        assert list(argv[:2]) == ["srun", "-w"]
        return self.clients[argv[2]].answer(argv[3:], self.time - self.began)


def on(label: str) -> Node:
    return Node(label, ("srun", "-w", label))


def test_a_node_is_asked_for_the_path_only_when_it_has_the_revision() -> None:
    client = Client(lives=100)
    edge = ClientsEdge({"n1": client})
    wait(Published(IMAGE, 8, changed=True), SETTINGS, nodes=(on("n1"),), edge=edge)
    assert client.looks == [100]
    assert set(edge.sleeps) == {INTERVAL}


def test_without_a_revision_to_wait_for_a_path_is_asked_for_once_a_revision() -> None:
    client = Client(lives=300)
    edge = ClientsEdge({"n1": client})
    wait(Published(IMAGE, None, changed=True), SETTINGS, nodes=(on("n1"),), edge=edge)
    assert client.looks == [0, 300]


def test_all_nodes_are_waited_for_and_each_is_told_of() -> None:
    edge = ClientsEdge({"n1": Client(lives=10), "n2": Client(lives=200), "n3": Client(lives=0)})
    lines: list[str] = []
    nodes = [on(label) for label in edge.clients]
    wait(Published(IMAGE, 8, changed=True), SETTINGS, nodes=nodes, say=lines.append, edge=edge)
    assert edge.time - edge.began == 200
    assert lines == [f"n3 sees {IMAGE}", f"n1 sees {IMAGE}", f"n2 sees {IMAGE}"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda argv: Answer(0, "7"), "it has revision 7, and the image came with 8"),
        (
            lambda argv: Answer(0, "9") if "getfattr" in argv else Answer(1, "", "No such file"),
            "in revision 9, the path",
        ),
        (lambda argv: Answer(127, "", "getfattr: command not found"), "its revision cannot be read: getfattr"),
        (lambda argv: Answer(0, ""), "gave no revision"),
    ],
)
def test_when_the_time_is_over_it_says_what_was_seen(answer: Callable[[Sequence[str]], Answer], says: str) -> None:
    class Stuck(VirtualEdge):
        def run(self, argv: Sequence[str], feed: object = None, timeout: float | None = None) -> Answer:
            return answer(argv)

    with pytest.raises(NotYetSeen, match=says) as caught:
        wait(Published(IMAGE, 8, changed=True), SETTINGS, nodes=(on("n1"), on("n2")), timeout=60, edge=Stuck())
    assert str(caught.value).startswith("n1 (and 1 more) does not see")
    assert f"cvmfs_talk -i {NAME} remount sync" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_this_machine_is_looked_at_without_any_command(tmp_path: Path) -> None:
    stage = build(tmp_path / "stratum0")
    repository = stage.create(NAME)
    settings = CvmfsSettings(NAME, mount_root=str(stage.node("here")))
    published = Published(settings.path("a" * 64), 2, changed=True)

    def on_sleep(number: int) -> None:
        if number == 2:
            publish(stage, "images/" + "a" * 64)
        if number == 4:
            stage.refresh("here", NAME)

    edge = VirtualEdge(on_sleep)
    with pytest.raises(NotYetSeen, match="No such file or directory"):
        wait(published, settings, timeout=0, edge=edge)
    wait(published, settings, edge=edge)
    assert len(edge.sleeps) == 4
    assert edge.verbs == []
    assert repository.published == 2


def publish(stage: Stage, directory: str) -> None:
    stage.run("transaction", NAME)
    (stage.repository(NAME).mount / directory).mkdir(parents=True)
    assert stage.run("publish", NAME).returncode == 0


def test_a_directory_that_is_no_mount_is_told(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    settings = CvmfsSettings(NAME, mount_root=str(tmp_path))
    with pytest.raises(NotYetSeen, match="is no CVMFS mount"):
        wait(Published(settings.path("a" * 64), 2, changed=True), settings, timeout=0, edge=VirtualEdge())


def test_the_commands_are_those_of_a_node(tmp_path: Path) -> None:
    """Against the real getfattr and stat: `env` stands for what takes a command to a node."""
    stage = build(tmp_path / "stratum0")
    stage.create(NAME)
    publish(stage, "images/" + "a" * 64)
    stage.refresh("n1", NAME)
    settings = CvmfsSettings(NAME, mount_root=str(stage.node("n1")))
    lines: list[str] = []
    node = Node("n1", ("env",))
    published = Published(settings.path("a" * 64), 2, changed=True)
    wait(published, settings, nodes=(node,), timeout=0, say=lines.append, edge=VirtualEdge())
    assert lines == [f"n1 sees {published.path}"]
