"""A maximum matching between queued jobs and free runners.

GitHub binds no runner to a job, so jobs with the same labels are interchangeable, and so are runners with the
same labels at the same stage. The matching is therefore found between *classes*, as a flow: ten thousand jobs of
twenty kinds cost twenty vertices. Runners are taken in order of rank, and an augmenting path never frees a runner
that is matched already, so of all maximum matchings this is one that keeps the runners of the best rank.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from slurm_gha.domain.job import Job
from slurm_gha.domain.labels import Labels, satisfies

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Free:
    """A runner that may still take a job. The lower the ``rank``, the further along it is.

    ``scale_set``: it takes the jobs of its pool's scale set, and no others.
    """

    name: str
    labels: Labels
    rank: int
    since: float = 0.0
    pool: str = ""
    scale_set: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """What a job wants of a runner; jobs that want the same are interchangeable.

    ``scale_set``: the pool whose scale set holds the job; None: any runner outside scale sets will do.
    ``refused_by``: pools that do not let it run.
    """

    labels: Labels
    scale_set: str | None = None
    refused_by: frozenset[str] = frozenset()

    def fits(self, runner: Free) -> bool:
        """Whether the runner may take such a job."""
        if runner.pool in self.refused_by:
            return False
        if self.scale_set is not None:
            return runner.scale_set and runner.pool == self.scale_set
        return not runner.scale_set and satisfies(runner.labels, self.labels)


def plain_want(job: Job) -> Want:
    """What a job wants where every pool lets it run."""
    return Want(job.labels, job.scale_set)


@dataclass(frozen=True, slots=True)
class Matching:
    """``pairs``: job id to runner name. ``uncovered`` (oldest first) and ``surplus`` (names) are left over."""

    pairs: Mapping[int, str]
    uncovered: tuple[Job, ...]
    surplus: tuple[str, ...]


def job_order(job: Job) -> tuple[float, int]:
    """Oldest first; the id settles ties."""
    return (job.created_at, job.id)


def match(jobs: Iterable[Job], runners: Iterable[Free], want: Callable[[Job], Want] = plain_want) -> Matching:
    """A maximum matching of one scope's queued jobs and free runners; the same for any order of the inputs."""
    job_classes = _grouped(sorted(jobs, key=job_order), want)
    runner_classes = _grouped(
        sorted(runners, key=lambda r: (r.rank, r.since, r.name)),
        lambda r: (r.rank, tuple(sorted(r.labels)), r.pool, r.scale_set),
    )
    demand = [len(members) for _, members in job_classes]
    # Runner classes of the best rank first; the rest of the key makes the order of equals independent of the inputs.
    supply = sorted(runner_classes, key=lambda item: item[0])
    flow = _flow(demand, [wanted for wanted, _ in job_classes], [members for _, members in supply])
    pairs: dict[int, str] = {}
    taken = [0] * len(job_classes)
    surplus: list[str] = []
    for (_, members), row in zip(supply, flow, strict=True):
        used = 0
        for job_class, count in sorted(row.items()):
            for runner in members[used : used + count]:
                pairs[job_classes[job_class][1][taken[job_class]].id] = runner.name
                taken[job_class] += 1
            used += count
        surplus += [runner.name for runner in members[used:]]
    uncovered = [job for (_, members), count in zip(job_classes, taken, strict=True) for job in members[count:]]
    return Matching(pairs, tuple(sorted(uncovered, key=job_order)), tuple(sorted(surplus)))


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> list[tuple[Key, list[Item]]]:
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _flow(demand: Sequence[int], wanted: Sequence[Want], supply: Sequence[Sequence[Free]]) -> list[dict[int, int]]:
    """For each runner class, how many of its runners go to which job class."""
    edges = [[j for j, want in enumerate(wanted) if want.fits(members[0])] for members in supply]
    flow: list[dict[int, int]] = [{} for _ in supply]
    room = list(demand)
    for source, members in enumerate(supply):
        left = len(members)
        while left:
            path = _augmenting_path(source, edges, flow, room)
            if path is None:
                break
            amount = min(left, room[path[-1][1]], *(flow[later][job] for (_, job), (later, _) in pairwise(path)))
            for (runner, job), following in zip(path, [*path[1:], None], strict=True):
                flow[runner][job] = flow[runner].get(job, 0) + amount
                if following is not None:
                    flow[following[0]][job] -= amount
            room[path[-1][1]] -= amount
            left -= amount
    return flow


def _augmenting_path(
    source: int, edges: Sequence[Sequence[int]], flow: Sequence[Mapping[int, int]], room: Sequence[int]
) -> list[tuple[int, int]] | None:
    """The shortest way from a runner class to a job class with room, as (runner class, job class) steps.

    Between two steps the later runner class gives up some of the job class that the earlier one takes.
    """
    users: dict[int, list[int]] = {}
    for runner in range(source + 1):
        for job, amount in flow[runner].items():
            if amount:
                users.setdefault(job, []).append(runner)
    came_from: dict[int, tuple[int, int] | None] = {source: None}
    queue = deque([source])
    while queue:
        runner = queue.popleft()
        for job in edges[runner]:
            if room[job]:
                steps = [(runner, job)]
                back = came_from[runner]
                while back is not None:
                    steps.append(back)
                    back = came_from[back[0]]
                return steps[::-1]
            for other in users.get(job, ()):
                if other not in came_from:
                    came_from[other] = (runner, job)
                    queue.append(other)
    return None
