"""The tables ``[[pool]]`` and ``[pool.slurm]``: what one kind of runner is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict

from slurm_gha.config.dynamic import DynamicSettings
from slurm_gha.config.fields import (
    AbsolutePath,
    ActorName,
    Constraint,
    Day,
    Duration,
    EventName,
    ExtraOption,
    GresList,
    ImageName,
    Label,
    Memory,
    Name,
    Names,
    Patterns,
    PoolName,
    RunnerGroup,
    ScaleSetName,
    TimeLimit,
    TimeOfDay,
    TimeZone,
    VariableName,
    VariableValue,
)
from slurm_gha.config.table import Table
from slurm_gha.domain.allow import Allow
from slurm_gha.domain.labels import normalise
from slurm_gha.domain.pool import Container, Handover, Launcher, Pool, SlurmRequest, Snapshotter
from slurm_gha.domain.warm import Hours, Warm, weekdays

_POOL: dict[str, Any] = {field.name: field.default for field in fields(Pool)}
_WARM: dict[str, Any] = {field.name: field.default for field in fields(Warm)}
_CONTAINER: dict[str, Any] = {field.name: field.default for field in fields(Container)}


class PoolSlurmSettings(Table):
    """What one runner of the pool asks of Slurm."""

    cpus: int = Field(ge=1, le=65_536, description="CPUs (`--cpus-per-task`).")
    time: TimeLimit = Field(description="Time limit of the Slurm job: `30m`, `1h30m`, `1:30:00`, `2-00:00`; from 1m.")
    mem: Memory | None = Field(
        default=None, description="Memory of the whole job: `512M`, `2G`. Without it, the partition's default."
    )
    mem_per_cpu: Memory | None = Field(default=None, description="Memory for each CPU, in place of `mem`.")
    nodes: int = Field(
        default=1,
        ge=1,
        le=65_536,
        description="Nodes of the Slurm job; the other keys are for each of them. More than 1 for the launcher `host`.",
    )
    partition: Names | None = Field(default=None, description="Partition, or several with commas between them.")
    gres: GresList = Field(
        default=(), description="Generic resources: a list or one text, such as `gpu:1` or `tmpdisk:4096`."
    )
    account: Name | None = Field(default=None, description="Account to charge.")
    qos: Name | None = Field(default=None, description="Quality of service.")
    constraint: Constraint | None = Field(default=None, description="Required features of the node.")
    extra: Annotated[tuple[ExtraOption, ...], Strict(False)] = Field(
        default=(), description="Further options of sbatch from the list below, such as `--nice=100`."
    )

    def request(self) -> SlurmRequest:
        """The request in the domain's words."""
        memory = self.mem if self.mem_per_cpu is None else self.mem_per_cpu * self.cpus
        return SlurmRequest(
            cpus=self.cpus,
            time_seconds=self.time,
            partition=self.partition,
            memory_mb=memory,
            gres=self.gres,
            account=self.account,
            qos=self.qos,
            constraint=self.constraint,
            extra=self.extra,
            nodes=self.nodes,
        )


class PoolAllowSettings(Table):
    """Whose jobs the pool's runners take. What a list leaves out is refused; a list that is left out is no limit."""

    repositories: Patterns = Field(
        default=(),
        description="Repositories, as `owner/name`; `*` stands for anything but `/`. Case does not matter.",
    )
    branches: Patterns = Field(
        default=(),
        description="Branches (or tags) of the repository itself; `*` stands for anything but `/`, `**` for anything. "
        "A pull request counts by the branch it comes from.",
    )
    events: Annotated[tuple[EventName, ...], Strict(False), Field(max_length=100)] = Field(
        default=(), description="Events that start workflows, such as `push` or `pull_request`."
    )
    actors: Annotated[tuple[ActorName, ...], Strict(False), Field(max_length=1000)] = Field(
        default=(), description="GitHub users who set the run going; apps as `name[bot]`. Case does not matter."
    )
    forks: bool = Field(default=False, description="Whether pull requests from forks may run here.")

    def allow(self) -> Allow:
        """The lists in the domain's words."""
        return Allow(
            repositories=tuple(pattern.lower() for pattern in self.repositories),
            branches=self.branches,
            events=self.events,
            actors=tuple(actor.lower() for actor in self.actors),
            forks=self.forks,
        )


class PoolWarmSettings(Table):
    """Hours of the week with a number of idle runners of their own. As many tables as needed; the largest counts."""

    days: Annotated[tuple[Day, ...], Strict(False)] = Field(
        default=("mon", "tue", "wed", "thu", "fri", "sat", "sun"), min_length=1, description="Days on which they begin."
    )
    start: TimeOfDay = Field(alias="from", description="When they begin: `08:00`.")
    end: TimeOfDay = Field(
        alias="to", description="When they end; what is not after `from` is on the next day. `24:00` is midnight."
    )
    min_idle: int = Field(ge=0, le=10_000, description="Runners kept free in these hours, in each scope.")

    def hours(self) -> Hours:
        """The hours in the domain's words."""
        return Hours(weekdays(self.days), self.start, self.end, self.min_idle)


class PoolSettings(Table):
    """One kind of runner. At least one; where several fit a job, the first in the file is taken."""

    name: PoolName = Field(description="Name of the pool; part of its runners' names.")
    labels: Annotated[tuple[Label, ...], Strict(False)] = Field(
        min_length=1,
        max_length=100,
        description="Labels of its runners. It takes jobs whose `runs-on` labels are all here; case does not matter.",
    )
    runner_dir: AbsolutePath | None = Field(
        default=None,
        description="Directory on the nodes with an unpacked actions/runner; read, never written. The launcher "
        '"host" needs it; others take the runner in the image without it.',
    )
    scopes: Annotated[tuple[str, ...], Strict(False)] | None = Field(
        default=None, min_length=1, description="Names of the scopes it serves; all of them if left out."
    )
    launcher: Annotated[Launcher, Strict(False)] = Field(
        default=Launcher.HOST,
        description="How the runner starts on the node. `host`: directly, from `runner_dir`. `docker`, `podman`, "
        "`stargz`: as a container of an engine of the job's own. `apptainer`: as an Apptainer container.",
    )
    image: ImageName | None = Field(
        default=None,
        description="Image of the runner's container: a name of the catalogue, a reference such as "
        "`ghcr.io/actions/actions-runner:latest`, or (`apptainer`) a path on the nodes or `docker://…`.",
    )
    image_runner_dir: AbsolutePath = Field(
        default=Path(_CONTAINER["runner_dir"]),
        description="Where the image has its runner, unless `runner_dir` is set.",
    )
    docker_in_job: bool = Field(
        default=False, description="Whether jobs of the launcher `apptainer` get a Docker socket; others have one."
    )
    host_loopback: bool = Field(
        default=False,
        description="Whether containers may reach what listens on the node's loopback interface (as 10.0.2.2).",
    )
    nvidia: bool = Field(
        default=False, description="Whether `apptainer` brings the node's NVIDIA driver along (`--nv`)."
    )
    fakeroot: bool = Field(default=False, description="Whether jobs of `apptainer` are root in their container.")
    scratch: Memory | None = Field(
        default=None,
        description="Size of the writable layer of an `apptainer` job, in an image file of its own; without it, the "
        "node's disk is the limit.",
    )
    snapshotter: Annotated[Snapshotter, Strict(False)] = Field(
        default=Snapshotter.STARGZ, description="What mounts images lazily for the launcher `stargz`."
    )
    handover: Annotated[Handover, Strict(False)] = Field(
        default=Handover.CLAIM,
        description="How a runner gets its configuration. `claim`: the started Slurm job asks the service over HTTP. "
        "`stdin`: made at submission, for nodes that cannot reach the service.",
    )
    max_runners: int = Field(
        default=_POOL["max_runners"], ge=1, le=100_000, description="Most runners at the same time."
    )
    max_runners_per_repository: int | None = Field(
        default=None, ge=1, le=100_000, description="Most runners of the pool that any one repository may have."
    )
    min_idle: int = Field(
        default=_WARM["min_idle"],
        ge=0,
        le=10_000,
        description="Runners kept free ahead of demand, in each scope, outside of the hours in `[[pool.warm]]`.",
    )
    timezone: TimeZone | None = Field(
        default=None, description="Time zone of the hours in `[[pool.warm]]`; without it, the service's."
    )
    recycle_after: Duration = Field(
        default=_WARM["recycle_after"],
        ge=60,
        le=2400,
        description="Age at which an idle runner that is kept ready is replaced by a new one.",
    )
    idle_timeout: Duration = Field(
        default=_POOL["idle_timeout"], ge=1, description="How long a runner may be online without a job."
    )
    runner_group_id: int = Field(
        default=_POOL["runner_group_id"], ge=1, description="Runner group on GitHub; 1 is the default group."
    )
    scale_set: ScaleSetName | None = Field(
        default=None,
        description='Name of its runner scale set in scopes whose `sources` have "scaleset"; the pool\'s name if left '
        "out. Jobs may ask for it by this name or by the labels.",
    )
    runner_group: RunnerGroup | None = Field(
        default=None, description="Runner group of its scale set by name, in place of `runner_group_id`."
    )
    environment: dict[VariableName, VariableValue] = Field(
        default_factory=dict,
        description="Environment variables for the runner and its jobs. Everybody's jobs can read them: no secrets.",
    )
    slurm: PoolSlurmSettings = Field(description="Table `[pool.slurm]`, see below.")
    dynamic: DynamicSettings | None = Field(
        default=None,
        description="Table `[pool.dynamic]`, see below: what jobs may ask for by their labels. Without it, nothing.",
    )
    allow: PoolAllowSettings = Field(
        default_factory=PoolAllowSettings, description="Table `[pool.allow]`, see below: who may run."
    )
    warm: Annotated[tuple[PoolWarmSettings, ...], Strict(False)] = Field(
        default=(), description="Tables `[[pool.warm]]`, see below: when to keep more runners, or fewer, ready."
    )

    def pool(self, scopes: Sequence[str], *, signal_before_end: float = 0.0, timezone: str = "UTC") -> Pool:
        """The pool in the domain's words; ``scopes`` are all that the file names.

        ``signal_before_end``: seconds before its time limit at which a runner is told to stop. ``timezone``: the
        service's.
        """
        return Pool(
            name=self.name,
            scopes=frozenset(scopes if self.scopes is None else self.scopes),
            labels=normalise(self.labels),
            request=self.slurm.request(),
            runner_dir="" if self.runner_dir is None else str(self.runner_dir),
            launcher=self.launcher,
            handover=self.handover,
            max_runners=self.max_runners,
            max_runners_per_repository=self.max_runners_per_repository,
            idle_timeout=self.idle_timeout,
            runner_group_id=self.runner_group_id,
            environment=tuple(sorted(self.environment.items())),
            container=self._container(),
            scale_set=self.scale_set or "",
            runner_group=self.runner_group or "",
            allow=self.allow.allow(),
            warm=Warm(
                min_idle=self.min_idle,
                hours=tuple(table.hours() for table in self.warm),
                timezone=self.timezone or timezone,
                recycle_after=self.recycle_after,
            ),
            dynamic=None if self.dynamic is None else self.dynamic.bounds(self.slurm.mem_per_cpu, signal_before_end),
        )

    def _container(self) -> Container | None:
        if self.launcher is Launcher.HOST or self.image is None:
            return None
        return Container(
            image=self.image,
            runner_dir=str(self.image_runner_dir),
            docker_in_job=self.docker_in_job,
            host_loopback=self.host_loopback,
            nvidia=self.nvidia,
            fakeroot=self.fakeroot,
            scratch_mb=self.scratch or 0,
            snapshotter=self.snapshotter,
        )
