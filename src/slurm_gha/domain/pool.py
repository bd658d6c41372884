"""What an administrator configures: labels to Slurm request, launcher and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from slurm_gha.domain.labels import Labels


class Launcher(StrEnum):
    """How the runner starts on the node."""

    HOST = "host"


class Handover(StrEnum):
    """How a runner gets its JIT configuration.

    CLAIM: the started Slurm job asks the service over HTTP. STDIN: minted at submission and put into a
    private file that is the batch script's standard input, for nodes that cannot reach the service.
    """

    CLAIM = "claim"
    STDIN = "stdin"


@dataclass(frozen=True, slots=True)
class SlurmRequest:
    """What one runner asks of Slurm. ``extra`` holds long options from the allow-list, as (name, value)."""

    cpus: int
    time_seconds: int
    partition: str | None = None
    memory_mb: int | None = None
    gres: tuple[str, ...] = ()
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    extra: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """One kind of runner. ``labels`` are what it registers with; durations are seconds."""

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


@dataclass(frozen=True, slots=True)
class Policy:
    """All that plan() needs to know of the configuration. Durations are seconds.

    ``withdraw_after``: how long a pending runner must have been surplus before its Slurm job is withdrawn.
    ``start_timeout``: how long a started Slurm job may take until its runner is online.
    ``unconfirmed_after``: how long an intent whose sbatch gave no clear answer is looked for in Slurm.
    ``spent_grace``: how long GitHub is given to remove an ephemeral runner's registration by itself.
    ``handover_max_age``: age at which a JIT configuration minted ahead of its start is minted again.
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
    pools_by_name: dict[str, Pool] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pools_by_name", {pool.name: pool for pool in self.pools})
