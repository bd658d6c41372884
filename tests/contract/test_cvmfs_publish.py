"""Publication through the stand-in for cvmfs_server: whole or not at all, others left alone, broken ones taken up."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from tests.unit.cvmfs_bench import NAME, ONE, THREE, TWO, VirtualEdge, expected, killed, make_tree, settings_for
from tests.unit.cvmfs_bench import content as content_of

from slurm_gha.images.cvmfs.errors import BadTree, CvmfsError, NotUsable, PublishFailed, StillBusy, TransactionLost
from slurm_gha.images.cvmfs.gc import collect
from slurm_gha.images.cvmfs.publish import Published, publish
from slurm_gha.images.cvmfs.runner import SystemEdge
from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.testing.cvmfs_server.directory import Stage
from slurm_gha.testing.cvmfs_server.repository import Repository

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


class Bench:
    """Publishes, and keeps what was said."""

    def __init__(self, settings: CvmfsSettings, state_dir: Path) -> None:
        self.settings = settings
        self.state_dir = state_dir
        self.lines: list[str] = []

    def publish(self, tree: Path, digest: str = ONE, name: str | None = "ubuntu", edge=None, **more) -> Published:
        edge = edge or VirtualEdge()
        more = {"settings": self.settings, "state_dir": self.state_dir, "say": self.lines.append, "edge": edge} | more
        return publish(tree, digest, name, **more)

    def records(self) -> list[str]:
        return [place.name for place in self.state_dir.iterdir() if place.suffix == ".json"]


@pytest.fixture
def bench(settings: CvmfsSettings, tmp_path: Path) -> Bench:
    return Bench(settings, tmp_path / "tmp")


def images(repository: Repository) -> Path:
    return repository.spool / "rdonly" / "images"


def is_idle(repository: Repository) -> bool:
    return not repository.in_transaction and not repository.writable


def theirs(stage: Stage) -> Path:
    """Somebody else opens a transaction and begins to work in it."""
    assert stage.run("transaction", NAME).returncode == 0
    work = stage.repository(NAME).mount / "their-work"
    work.write_text("half done")
    return work


@pytest.mark.parametrize("method", ["transaction", "ingest"])
def test_a_directory_is_published_whole_with_its_name(
    stage: Stage, repository: Repository, bench: Bench, tree: Path, method: str
) -> None:
    seen: list[tuple[int, int]] = []
    done = bench.publish(
        tree, settings=settings_for(stage, method=method), progress=lambda size, entries: seen.append((size, entries))
    )
    assert content_of(images(repository) / ONE) == expected(tree)
    assert os.readlink(images(repository) / "names" / "ubuntu") == f"../{ONE}"
    assert done.path == f"{stage.mount_root}/{NAME}/images/{ONE}"
    assert done.changed
    assert done.revision == repository.published
    assert seen == sorted(seen)
    assert seen[-1][1] == len(expected(tree))
    assert is_idle(repository)
    assert bench.records() == []


@pytest.mark.parametrize("method", ["transaction", "ingest"])
def test_everybody_may_read_what_the_owner_may(
    stage: Stage, repository: Repository, bench: Bench, tree: Path, method: str
) -> None:
    bench.publish(tree, settings=settings_for(stage, method=method))
    modes = {
        name: stat.S_IMODE((images(repository) / ONE / name).stat().st_mode)
        for name in ("root", "root/secretless", "usr/bin/program", "tmp", "read-only")
    }
    assert modes == {
        "root": 0o755,
        "root/secretless": 0o644,
        "usr/bin/program": 0o4755,
        "tmp": 0o1777,
        "read-only": 0o755,
    }


def test_an_archive_is_published_like_the_directory(repository: Repository, bench: Bench, tree: Path) -> None:
    archive = tree.parent / "tree.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tree, "./")
    bench.publish(archive)
    assert content_of(images(repository) / ONE) == expected(tree)


def test_what_is_published_already_is_left_as_it_is(repository: Repository, bench: Bench, tree: Path) -> None:
    first = bench.publish(tree)
    again = bench.publish(tree)
    assert again == Published(first.path, first.revision, changed=False)
    assert repository.published == first.revision


def test_a_name_moves_without_a_copy(repository: Repository, bench: Bench, tree: Path) -> None:
    bench.publish(tree, ONE)
    bench.publish(tree, TWO)
    assert os.readlink(images(repository) / "names" / "ubuntu") == f"../{TWO}"
    edge = VirtualEdge()
    bench.publish(tree, ONE, edge=edge)
    assert os.readlink(images(repository) / "names" / "ubuntu") == f"../{ONE}"
    assert "unpack" not in edge.verbs
    assert {ONE, TWO} <= set(os.listdir(images(repository)))


def test_an_image_needs_no_name(repository: Repository, bench: Bench, tree: Path) -> None:
    bench.publish(tree, name=None)
    assert content_of(images(repository) / ONE) == expected(tree)
    assert os.listdir(images(repository) / "names") == []


def test_another_s_transaction_is_waited_for(stage: Stage, repository: Repository, bench: Bench, tree: Path) -> None:
    work = theirs(stage)

    def on_sleep(number: int) -> None:
        assert work.read_text() == "half done"
        if number == 3:
            assert stage.run("publish", NAME).returncode == 0

    edge = VirtualEdge(on_sleep)
    bench.publish(tree, edge=edge)
    assert edge.sleeps == [1, 2, 4]
    assert "another transaction is open; trying again in 1s, for another 30m at most" in bench.lines[0]
    assert (repository.spool / "rdonly" / "their-work").exists()
    assert content_of(images(repository) / ONE) == expected(tree)


@pytest.mark.parametrize("method", ["transaction", "ingest"])
def test_patience_ends_and_another_s_transaction_is_untouched(
    stage: Stage, repository: Repository, bench: Bench, tree: Path, method: str
) -> None:
    work = theirs(stage)
    edge = VirtualEdge()
    with pytest.raises(StillBusy, match="another transaction is open, still after 1m") as caught:
        bench.publish(tree, edge=edge, settings=settings_for(stage, max_wait=60.0, method=method))
    assert "\n" not in str(caught.value)
    assert sum(edge.sleeps) == 60
    assert work.read_text() == "half done"
    assert repository.in_transaction
    assert repository.writable
    assert bench.records() == []


def test_another_s_publish_is_waited_for(stage: Stage, repository: Repository, bench: Bench, tree: Path) -> None:
    theirs(stage)
    stage.control.set(hold=True)
    process = subprocess.Popen([stage.server, "publish", NAME], cwd="/", stdout=subprocess.DEVNULL)
    while not (repository.store / "syncing").exists():
        threading.Event().wait(0.01)

    def on_sleep(number: int) -> None:
        if number == 2:
            stage.control.set()
            assert process.wait(30) == 0

    bench.publish(tree, edge=VirtualEdge(on_sleep))
    assert "is being published" in bench.lines[0]
    assert content_of(images(repository) / ONE) == expected(tree)


def test_another_s_broken_transaction_is_not_repaired(
    stage: Stage, repository: Repository, bench: Bench, tree: Path
) -> None:
    work = theirs(stage)
    stage.control.set(kill={"publish": "sync"})
    stage.run("publish", NAME)
    with pytest.raises(StillBusy, match=f"cvmfs_server abort {NAME}"):
        bench.publish(tree, settings=settings_for(stage, max_wait=10.0))
    assert work.read_text() == "half done"
    assert repository.in_transaction
    assert not repository.writable


def test_a_publish_that_fails_is_tried_again(stage: Stage, repository: Repository, bench: Bench, tree: Path) -> None:
    stage.control.set(fail={"publish": 2})
    bench.publish(tree)
    assert content_of(images(repository) / ONE) == expected(tree)


def test_a_publish_that_goes_on_failing_gives_its_transaction_back(
    stage: Stage, repository: Repository, bench: Bench, tree: Path
) -> None:
    stage.control.set(fail={"publish": 3})
    with pytest.raises(PublishFailed, match="Synchronization failed"):
        bench.publish(tree)
    assert is_idle(repository)
    assert not images(repository).exists()
    assert bench.records() == []


@pytest.mark.parametrize("point", ["start", "sync", "committed"])
def test_a_publish_that_is_killed_is_taken_up(
    stage: Stage, repository: Repository, bench: Bench, tree: Path, point: str
) -> None:
    stage.control.set(kill={"publish": point})
    bench.publish(tree)
    assert content_of(images(repository) / ONE) == expected(tree)
    assert is_idle(repository)


def test_a_broken_transaction_that_cannot_be_mounted_is_given_back(
    stage: Stage, repository: Repository, bench: Bench, tree: Path
) -> None:
    stage.control.set(kill={"publish": "sync"}, fail={"mount": 9})
    with pytest.raises(PublishFailed):
        bench.publish(tree)
    assert is_idle(repository)
    assert not images(repository).exists()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("verb", ["open", "unpack", "seal", "publish", "list"])
def test_after_a_kill_of_ours_the_next_publication_goes_well(
    stage: Stage, repository: Repository, bench: Bench, tree: Path, verb: str, late: bool
) -> None:
    rehearsal = VirtualEdge()
    bench.publish(tree, THREE, None, edge=rehearsal)
    edge = VirtualEdge(die_at=len(rehearsal.verbs) - rehearsal.verbs[::-1].index(verb), late=late)
    with killed(edge, bench.state_dir):
        bench.publish(tree, ONE, "ubuntu", edge=edge)
    other = make_tree(tree.parent / "other", "two")
    bench.publish(other, TWO, "debian")
    assert content_of(images(repository) / TWO) == expected(other)
    assert (images(repository) / ONE).exists() == (verb in ("publish", "list"))
    assert is_idle(repository)
    assert bench.records() == []


def test_a_transaction_that_opens_after_our_kill_is_found(
    stage: Stage, repository: Repository, bench: Bench, tree: Path
) -> None:
    """A child of the killed process may open it when the next publication has already looked for what was left."""
    bench.publish(tree, THREE, None)
    record = next(bench.state_dir.glob("*.owner"))
    token = f"{record.read_text().strip()}.late"
    opened = []

    class Late(VirtualEdge):
        def run(self, argv, feed=None, timeout=None):
            if argv[4] == "open" and not opened:
                opened.append(stage.run("transaction", NAME).returncode)
                (repository.mount / "images" / ".transaction").write_text(f"{token}\n")
            return super().run(argv, feed, timeout)

    bench.publish(tree, ONE, edge=Late())
    assert opened == [0]
    assert content_of(images(repository) / ONE) == expected(tree)


def test_another_s_transaction_after_ours_was_published_is_not_taken_for_ours(
    stage: Stage, repository: Repository, bench: Bench, tree: Path
) -> None:
    edge = VirtualEdge(die_at="publish", late=True)
    with killed(edge, bench.state_dir):
        bench.publish(tree, ONE, None, edge=edge)
    work = theirs(stage)
    with pytest.raises(StillBusy):
        bench.publish(tree, TWO, settings=settings_for(stage, max_wait=10.0))
    assert work.read_text() == "half done"
    assert repository.in_transaction


def test_a_transaction_that_somebody_else_ended_is_lost_and_theirs_untouched(
    stage: Stage, repository: Repository, bench: Bench, tree: Path
) -> None:
    class Meddled(VirtualEdge):
        def run(self, argv, feed=None, timeout=None):
            if argv[4] == "seal":
                assert stage.run("abort", "-f", NAME).returncode == 0
                theirs(stage)
            return super().run(argv, feed, timeout)

    with pytest.raises(TransactionLost, match="not ours"):
        bench.publish(tree, edge=Meddled())
    assert (repository.mount / "their-work").exists()
    assert repository.in_transaction
    assert not images(repository).exists()


def test_an_unreadable_source_gives_the_transaction_back(repository: Repository, bench: Bench, tree: Path) -> None:
    archive = tree.parent / "cut.tar"
    with tarfile.open(archive, "w") as file:
        file.add(tree)
    (tree.parent / "long").write_bytes(b"x" * 100_000)
    with tarfile.open(archive, "a") as file:
        file.add(tree.parent / "long", "long")
    os.truncate(archive, archive.stat().st_size - 60_000)
    with pytest.raises(BadTree, match=r"cut\.tar cannot be read"):
        bench.publish(archive)
    assert is_idle(repository)
    assert not images(repository).exists()
    assert bench.records() == []


def test_an_interrupt_gives_the_transaction_back(repository: Repository, bench: Bench, tree: Path) -> None:
    def interrupt(size: int, entries: int) -> None:
        if entries == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.publish(tree, progress=interrupt)
    assert is_idle(repository)
    assert not images(repository).exists()


def test_two_publications_of_ours_take_turns(repository: Repository, bench: Bench, tree: Path) -> None:
    other = make_tree(tree.parent / "other", "two")
    inner: list[Published] = []
    done = threading.Event()

    def second() -> None:
        inner.append(bench.publish(other, TWO, "debian", edge=VirtualEdge(lambda number: done.wait(30))))  # type: ignore[func-returns-value,arg-type]

    thread = threading.Thread(target=second)

    def progress(size: int, entries: int) -> None:
        if entries == 1:
            thread.start()
            while not bench.lines:
                threading.Event().wait(0.01)

    bench.publish(tree, progress=progress)
    done.set()
    thread.join(60)
    assert inner[0].changed
    assert "another slurm-gha publishes" in bench.lines[0]
    assert content_of(images(repository) / ONE) == expected(tree)
    assert content_of(images(repository) / TWO) == expected(other)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"repository": "no.example.org"}, "no repository of that name"),
        ({"server": "/no/such/cvmfs_server"}, "cannot be run"),
        ({"spool_root": "/nowhere"}, "is not there: set spool_root"),
    ],
)
def test_what_waiting_would_not_help_is_one_sentence(
    stage: Stage, bench: Bench, tree: Path, change: dict[str, str], says: str
) -> None:
    base = {"repository": NAME, "mount_root": str(stage.mount_root), "server": str(stage.server)}
    if "repository" in change:
        # The spool of a repository that is not there is not there either: what cvmfs_server says comes first.
        (stage.spool_root / "no.example.org" / "rdonly").mkdir(parents=True)
    settings = CvmfsSettings(**{"spool_root": str(stage.spool_root), **base, **change})
    with pytest.raises(NotUsable, match=says) as caught:
        bench.publish(tree, settings=settings)
    assert "\n" not in str(caught.value)


def test_a_web_server_that_is_down_is_one_sentence(stage: Stage, bench: Bench, tree: Path) -> None:
    stage.control.set(web_server="down")
    with pytest.raises(NotUsable, match="web server does not answer"):
        bench.publish(tree)


def test_another_owner_s_repository_is_one_sentence(
    stage: Stage, bench: Bench, repository: Repository, tree: Path
) -> None:
    (repository.store / "owner").write_text("somebody-else")
    with pytest.raises(NotUsable, match="does not own it"):
        bench.publish(tree)


def test_a_file_open_for_writing_is_one_sentence_and_nothing_is_published(
    stage: Stage, bench: Bench, repository: Repository, tree: Path
) -> None:
    class Meddled(VirtualEdge):
        def run(self, argv, feed=None, timeout=None):
            if argv[4] != "publish":
                return super().run(argv, feed, timeout)
            with (repository.mount / "images" / ONE / "etc" / "more").open("w"):
                return super().run(argv, feed, timeout)

    with pytest.raises(NotUsable, match="open for writing"):
        bench.publish(tree, edge=Meddled())
    assert is_idle(repository)
    assert not images(repository).exists()


def test_gc_removes_in_one_transaction_what_nobody_needs(
    stage: Stage, bench: Bench, repository: Repository, tree: Path
) -> None:
    for digest in (ONE, TWO, THREE):
        edge = VirtualEdge()
        edge.time += int(digest[0])
        bench.publish(tree, digest, "ubuntu" if digest == TWO else None, edge=edge)
    before = repository.published
    edge = VirtualEdge()
    edge.time += 1000
    with_users = {"state_dir": bench.state_dir, "edge": edge}
    assert collect(bench.settings, 5000, lambda digest: False, **with_users) == ()
    assert collect(bench.settings, 500, lambda digest: digest == ONE, **with_users) == ()
    assert collect(bench.settings, 500, lambda digest: False, dry_run=True, **with_users) == (ONE,)
    assert repository.published == before
    assert collect(bench.settings, 500, lambda digest: False, **with_users) == (ONE,)
    assert repository.published == before + 1
    assert {entry for entry in os.listdir(images(repository)) if len(entry) == 64} == {TWO, THREE}
    assert is_idle(repository)


def test_gc_asks_again_who_uses_an_image_once_nobody_can_change_it(
    stage: Stage, bench: Bench, repository: Repository, tree: Path
) -> None:
    for digest in (ONE, TWO):
        edge = VirtualEdge()
        edge.time += int(digest[0])
        bench.publish(tree, digest, None, edge=edge)
    answers = iter([False, True])
    edge = VirtualEdge()
    edge.time += 1000
    assert collect(bench.settings, 1, lambda digest: next(answers), state_dir=bench.state_dir, edge=edge) == ()
    assert {ONE, TWO} <= set(os.listdir(images(repository)))
    assert is_idle(repository)


def test_a_gc_that_is_killed_removes_all_or_nothing(bench: Bench, repository: Repository, tree: Path) -> None:
    for digest in (ONE, TWO):
        edge = VirtualEdge()
        edge.time += int(digest[0])
        bench.publish(tree, digest, None, edge=edge)
    for verb in ("open", "remove", "publish"):
        dying = VirtualEdge(die_at=verb, late=True)
        dying.time += 1000
        with killed(dying, bench.state_dir):
            collect(bench.settings, 1, lambda digest: False, state_dir=bench.state_dir, edge=dying)
        for digest in (ONE, TWO)[verb == "publish" :]:
            assert content_of(images(repository) / digest) == expected(tree)
    assert not (images(repository) / ONE).exists()
    assert is_idle(repository)


def test_errors_are_all_of_one_kind() -> None:
    assert all(issubclass(kind, CvmfsError) for kind in (BadTree, NotUsable, PublishFailed, StillBusy, TransactionLost))


def test_the_real_edge_keeps_time(bench: Bench, tree: Path, repository: Repository) -> None:
    edge = SystemEdge()
    before = edge.now()
    bench.publish(tree, edge=edge)
    assert (images(repository) / ONE / ".cvmfscatalog").stat().st_mtime >= int(before)
