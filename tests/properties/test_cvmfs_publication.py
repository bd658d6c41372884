"""From any sequence of failures and kills: no half image is ever seen, and nobody else's transaction is touched."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.cvmfs_bench import NAME, Killed, VirtualEdge, content, expected, killed, make_tree, settings_for

from slurm_gha.images.cvmfs.errors import CvmfsError
from slurm_gha.images.cvmfs.gc import collect
from slurm_gha.images.cvmfs.publish import publish
from slurm_gha.testing.cvmfs_server.directory import Stage, build

pytestmark = pytest.mark.slow

DIGESTS = [letter * 64 for letter in "abc"]
STEPS = [
    "leftover",
    "list",
    "open",
    "unpack",
    "seal",
    "remove",
    "publish",
    "repair",
    "abort",
    "whose",
    "ingest",
    "forget",
]
KILLS = {
    "publish": ["start", "sync", "committed"],
    "abort": ["start", "done"],
    "transaction": ["start"],
    "ingest": ["start"],
}


@dataclass(frozen=True)
class Ours:
    """A publication (or a collection, without a digest) of ours, and what goes wrong with it."""

    digest: str | None
    method: str
    die_at: str | None
    late: bool
    fail: dict[str, int]
    kill: dict[str, str]


@dataclass(frozen=True)
class Theirs:
    """Somebody else opens a transaction, or ends theirs one way or the other."""

    ending: str


deaths = st.sampled_from(["open", "unpack", "seal", "publish"] * 3 + STEPS)
fails = st.dictionaries(st.sampled_from(["publish", "abort", "mount", "transaction", "ingest"]), st.integers(1, 3))
kills = st.sampled_from([{command: point} for command, points in KILLS.items() for point in points])


def ours_with(die_at: st.SearchStrategy, fail: st.SearchStrategy, kill: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(
        Ours,
        digest=st.sampled_from([*DIGESTS, *DIGESTS, None]),
        method=st.sampled_from(["transaction", "transaction", "transaction", "ingest"]),
        die_at=die_at,
        late=st.booleans(),
        fail=fail,
        kill=kill,
    )


well, nothing = st.none(), st.just({})
ours = (
    ours_with(well, nothing, nothing)
    | ours_with(deaths, nothing, nothing)
    | ours_with(well, fails, kills)
    | ours_with(deaths, fails, kills | nothing)
)
theirs = st.builds(Theirs, ending=st.sampled_from(["publish", "abort"]))


class World:
    """A stratum 0, our state, and what must be true of them."""

    def __init__(self, place: Path) -> None:
        self.stage: Stage = build(place / "stratum0")
        self.repository = self.stage.create(NAME)
        self.state_dir = place / "tmp"
        self.trees = {digest: make_tree(place / digest[0], digest[0]) for digest in DIGESTS}
        self.whole = {digest: expected(tree) for digest, tree in self.trees.items()}
        self.their_work: Path | None = None
        self.checked = 0
        self.time = 0.0

    def ours(self, step: Ours) -> None:
        self.stage.control.set(fail=dict(step.fail), kill=dict(step.kill))
        edge = VirtualEdge(die_at=step.die_at, late=step.late)
        self.time += 10_000
        edge.time += self.time
        try:
            if step.die_at is None:
                self._work(step, edge)
            else:
                with killed(edge, self.state_dir):
                    self._work(step, edge)
                    raise Killed  # it got through without that step
        except CvmfsError:
            pass  # one of ours that did not succeed; what it must not have done is checked below
        finally:
            self.stage.control.set()
        self.settle()

    def _work(self, step: Ours, edge: VirtualEdge) -> None:
        chosen = settings_for(self.stage, method=step.method, max_wait=20.0)
        if step.digest is None:
            collect(chosen, 1, lambda digest: False, state_dir=self.state_dir, edge=edge)
        else:
            publish(self.trees[step.digest], step.digest, "name", chosen, state_dir=self.state_dir, edge=edge)

    def theirs(self, step: Theirs) -> None:
        if self.their_work is None:
            if self.stage.run("transaction", NAME).returncode == 0:
                self.their_work = self.repository.mount / "their-work"
                self.their_work.write_text("theirs")
            return
        assert self.stage.run(step.ending, *(["-f"] if step.ending == "abort" else []), NAME).returncode == 0
        self.their_work = None

    def settle(self) -> None:
        """Children of killed commands come to their end."""
        lock = None
        while lock is None:
            lock = self.repository.lock()
        os.close(lock)

    def check(self) -> None:
        for number in range(self.checked + 1, self.repository.published + 1):
            images = self.repository.revision(number) / "images"
            if not images.exists():
                continue
            found = set(os.listdir(images)) - {"names", ".transaction"}
            assert found <= set(DIGESTS), found
            for digest in found:
                assert content(images / digest) == self.whole[digest]
            for link in (images / "names").iterdir() if (images / "names").exists() else ():
                assert link.resolve().is_dir(), "a name without its image"
        self.checked = self.repository.published
        if self.their_work is not None:
            assert self.their_work.read_text() == "theirs"
            assert self.repository.in_transaction
            assert self.repository.writable


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ours | theirs, min_size=1, max_size=4))
def test_never_a_half_image_and_never_another_s_transaction(steps: list[Ours | Theirs]) -> None:
    place = Path(mkdtemp(prefix="cvmfs-"))
    try:
        world = World(place)
        for step in steps:
            world.ours(step) if isinstance(step, Ours) else world.theirs(step)
            world.check()
        if world.their_work is not None:
            world.theirs(Theirs("publish"))
        # With nothing going wrong any more, the next publication goes well, whatever was left.
        last = Ours("c" * 64, "transaction", None, False, {}, {})
        world._work(last, VirtualEdge())
        world.check()
        published = world.repository.revision(world.repository.published) / "images"
        assert os.readlink(published / "names" / "name") == f"../{'c' * 64}"
        assert content(published / ("c" * 64)) == world.whole["c" * 64]
        assert not world.repository.in_transaction
    finally:
        shutil.rmtree(place, ignore_errors=True)
