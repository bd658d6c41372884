"""What an administrator configures: labels to Slurm request, launcher and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from slurm_gha.domain.allow import EVERYTHING, Allow
from slurm_gha.domain.labels import Labels
from slurm_gha.domain.warm import NEVER, Warm


class Launcher(StrEnum):
    """How the runner starts on the node.

    HOST: directly, from a directory. DOCKER, PODMAN, STARGZ: as a container of an engine of the job's own, whose
    socket the job's steps may use. APPTAINER: as an Apptainer container, with or without such an engine beside it.
    """

    HOST = "host"
    DOCKER = "docker"
    PODMAN = "podman"
    APPTAINER = "apptainer"
    STARGZ = "stargz"


class Snapshotter(StrEnum):
    """What mounts an image lazily for the launcher STARGZ."""

    STARGZ = "stargz"
    SOCI = "soci"


@dataclass(frozen=True, slots=True)
class Container:
    """How the runner's container is made; not for the launcher HOST.

    ``image``: a name of the catalogue, a registry's reference, or (APPTAINER) a path on the node.
    ``runner_dir``: where the image has its runner, unless the pool names one on the node.
    ``docker_in_job``: whether an APPTAINER job gets a Docker socket. ``host_loopback``: whether jobs may reach what
    listens on the node's loopback interface. ``scratch_mb``: size of an APPTAINER job's writable layer; 0 leaves it
    to the node's disk.
    """

    image: str
    runner_dir: str = "/home/runner"
    docker_in_job: bool = False
    host_loopback: bool = False
    nvidia: bool = False
    fakeroot: bool = False
    scratch_mb: int = 0
    snapshotter: Snapshotter = Snapshotter.STARGZ


class Handover(StrEnum):
    """How a runner gets its JIT configuration.

    CLAIM: the started Slurm job asks the service over HTTP. STDIN: minted at submission and put into a
    private file that is the batch script's standard input, for nodes that cannot reach the service.
    """

    CLAIM = "claim"
    STDIN = "stdin"


@dataclass(frozen=True, slots=True)
class SlurmRequest:
    """What one runner asks of Slurm. ``extra`` holds long options from the allow-list, as (name, value).

    CPUs, memory and gres are those of each of its nodes.
    """

    cpus: int
    time_seconds: int
    partition: str | None = None
    memory_mb: int | None = None
    gres: tuple[str, ...] = ()
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    extra: tuple[tuple[str, str | None], ...] = ()
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class GpuBound:
    """Most GPUs of a type, in Slurm's spelling, that a job may ask for on each node; of any type where it is empty."""

    count: int
    type: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most that a job may ask for by its labels, on each node. What is None may not be asked for at all.

    ``memory_per_cpu_mb``: by which a job's memory grows with its CPUs, unless it asks for its memory too.
    ``least_seconds``: a time limit must be longer than this.
    """

    cpus: int | None = None
    memory_mb: int | None = None
    time_seconds: int | None = None
    nodes: int | None = None
    gpus: tuple[GpuBound, ...] = ()
    tmpdisk_mb: int | None = None
    memory_per_cpu_mb: int | None = None
    least_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """One kind of runner. ``labels`` are what it registers with; durations are seconds.

    ``runner_dir`` is a runner on the node, "" for the one in the container's image. ``dynamic``: what jobs may ask for
    by their labels; None: nothing. ``scale_set``: the name of its scale set in scopes that use them, "" for the pool's
    own name; ``runner_group``: of the scale set, by name, in place of the id.
    """

    name: str
    scopes: frozenset[str]
    labels: Labels
    request: SlurmRequest
    runner_dir: str
    launcher: Launcher = Launcher.HOST
    handover: Handover = Handover.CLAIM
    max_runners: int = 10
    idle_timeout: float = 300.0
    runner_group_id: int = 1
    environment: tuple[tuple[str, str], ...] = ()
    container: Container | None = None
    scale_set: str = ""
    runner_group: str = ""
    dynamic: Bounds | None = None
    allow: Allow = EVERYTHING
    max_runners_per_repository: int | None = None
    warm: Warm = NEVER

    @property
    def scale_set_name(self) -> str:
        """What its scale sets are called on GitHub."""
        return self.scale_set or self.name


@dataclass(frozen=True, slots=True)
class Share:
    """What a scope may have of all runners: in proportion to ``weight`` while others want some too; None: no limit."""

    weight: float = 1.0
    max_runners: int | None = None


_EQUAL_SHARE = Share()


@dataclass(frozen=True, slots=True)
class Policy:
    """All that plan() needs to know of the configuration. Durations are seconds.

    ``withdraw_after``: how long a pending runner must have been surplus before its Slurm job is withdrawn.
    ``start_timeout``: how long a started Slurm job may take until its runner is online.
    ``unconfirmed_after``: how long an intent whose sbatch gave no clear answer is looked for in Slurm.
    ``spent_grace``: how long GitHub is given to remove an ephemeral runner's registration by itself.
    ``handover_max_age``: age at which a JIT configuration minted ahead of its start is minted again.
    ``shares``: by scope, where they are not the usual. ``scale_sets``: the (scope, pool) whose runners are registered
    through a scale set.
    """

    installation: str
    pools: tuple[Pool, ...]
    max_runners: int = 1000
    withdraw_after: float = 10.0
    start_timeout: float = 600.0
    unconfirmed_after: float = 60.0
    spent_grace: float = 60.0
    retry_after: float = 30.0
    handover_max_age: float = 2400.0
    max_runners_per_repository: int | None = None
    shares: Mapping[str, Share] = field(default_factory=dict)
    scale_sets: frozenset[tuple[str, str]] = frozenset()
    pools_by_name: dict[str, Pool] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pools_by_name", {pool.name: pool for pool in self.pools})

    def share_of(self, scope: str) -> Share:
        """The share of a scope."""
        return self.shares.get(scope, _EQUAL_SHARE)
