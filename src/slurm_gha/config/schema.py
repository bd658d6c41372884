"""What the configuration file may hold: one model a table, each field with its meaning for the reference page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from slurm_gha.config.addresses import make_scope
from slurm_gha.config.cvmfs import CvmfsTable
from slurm_gha.config.fields import (
    AbsolutePath,
    ApiUrl,
    Constraint,
    Duration,
    EnvironmentName,
    ExtraOption,
    GitHubUrl,
    GresList,
    ImageName,
    Installation,
    Label,
    ListenAddress,
    Memory,
    MirrorUrl,
    Name,
    Names,
    NodeDir,
    NodeUrl,
    PoolName,
    RegistryHost,
    Repository,
    ScopeName,
    SlurmPath,
    TimeLimit,
    VariableName,
    VariableValue,
)
from slurm_gha.config.units import parse_address
from slurm_gha.domain.labels import normalise
from slurm_gha.domain.pool import Container, Handover, Launcher, Policy, Pool, SlurmRequest, Snapshotter
from slurm_gha.domain.scope import Scope

_POLICY: dict[str, Any] = {field.name: field.default for field in fields(Policy)}
_POOL: dict[str, Any] = {field.name: field.default for field in fields(Pool)}
_CONTAINER: dict[str, Any] = {field.name: field.default for field in fields(Container)}


class _Table(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False
    )


class ServiceSettings(_Table):
    """The service itself."""

    installation: Installation = Field(
        description="Identity of this installation: part of every runner's name, and all that tells its runners from "
        "those of others. No two services may share it; never change it while runners exist."
    )
    state_dir: AbsolutePath = Field(
        default=Path("/var/lib/slurm-gha"),
        description="Private directory of the service for its journal, lock and status file; on a local disk.",
    )
    listen: ListenAddress = Field(
        default="0.0.0.0:8480",  # nodes have to reach it; what they ask for needs a secret of its own
        description="Address and port of the HTTP server that nodes, health checks and metrics use.",
    )
    node_url: NodeUrl | None = Field(
        default=None,
        description='URL at which compute nodes reach `listen`. Needed by pools whose handover is "claim".',
    )
    log_format: Literal["human", "json"] = Field(default="human", description="Form of the log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines that are logged."
    )
    max_runners: int = Field(
        default=_POLICY["max_runners"], ge=1, le=100_000, description="Most runners of all pools together."
    )
    tls_certificate: AbsolutePath | None = Field(
        default=None, description="Certificate (PEM) of the HTTP server; with `tls_key` it speaks HTTPS."
    )
    tls_key: AbsolutePath | None = Field(default=None, description="Private key (PEM) of `tls_certificate`.")
    ca_file: AbsolutePath | None = Field(
        default=None, description="Certificate authority (PEM, a path on the nodes) by which nodes check `node_url`."
    )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        return parse_address(self.listen)


class PollSettings(_Table):
    """How often GitHub is asked for queued jobs."""

    busy_interval: Duration = Field(
        default=5.0, ge=1, description="Time between two looks while there is work, or was lately."
    )
    idle_interval: Duration = Field(default=30.0, ge=1, description="Time between two looks while there is no work.")
    linger: Duration = Field(
        default=300.0, description="How long after the last work the looks go on at `busy_interval`."
    )


class SlurmSettings(_Table):
    """How Slurm is used."""

    output_dir: SlurmPath = Field(
        description="Directory for the output of the Slurm jobs; nodes write it, so on a shared filesystem."
    )
    handover_dir: SlurmPath | None = Field(
        default=None,
        description="Private directory on a shared filesystem for configurations handed over on standard input. "
        'Needed by pools whose handover is "stdin".',
    )
    node_dir: NodeDir = Field(
        default=Path("/tmp"),  # noqa: S108 – each job makes a private directory in it
        description="Directory on each node in which every runner gets a private directory for its life; short, on a "
        "local disk.",
    )
    interval: Duration = Field(default=5.0, ge=1, description="Time between two listings of the Slurm jobs.")
    command_timeout: Duration = Field(
        default=30.0, ge=1, description="Time after which a Slurm command without an answer is given up."
    )
    submit_concurrency: int = Field(default=8, ge=1, le=64, description="Most sbatch commands at the same time.")
    bin_dir: AbsolutePath | None = Field(default=None, description="Directory of the Slurm commands, if not on PATH.")
    conf: AbsolutePath | None = Field(
        default=None, description="Path of slurm.conf, if not the built-in one (becomes SLURM_CONF)."
    )
    node_path: Annotated[tuple[AbsolutePath, ...], Strict(False)] = Field(
        default=(), description="Directories put in front of PATH on the nodes, where engines are not on it."
    )
    signal_before_end: Duration = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="How long before its time limit a runner is told to cancel its job, so that GitHub hears of it.",
    )


class ImageSettings(_Table):
    """Images of runners: where they are, and what makes them quick to get. Only for container launchers."""

    dir: AbsolutePath | None = Field(
        default=None,
        description="The catalogue of images that `slurm-gha image` keeps, on a filesystem that nodes share.",
    )
    stores_dir: AbsolutePath = Field(
        default=Path("/run/slurm-gha/stores"), description="Where nodes have the images' read-only stores mounted."
    )
    mirrors: dict[RegistryHost, MirrorUrl] = Field(
        default_factory=dict,
        description="Pull-through caches by registry. One that does not answer costs a direct pull, not the job.",
    )
    cvmfs: CvmfsTable | None = Field(default=None, description="Table `[images.cvmfs]`, see below.")


def _policy_duration(name: str, description: str) -> Any:
    return Field(default=_POLICY[name], description=description)


class TimeoutSettings(_Table):
    """How long the service waits before it acts on what it sees."""

    withdraw_after: Duration = _policy_duration(
        "withdraw_after", "How long a pending runner must have been unneeded before its Slurm job is cancelled."
    )
    start_timeout: Duration = Field(
        default=_POLICY["start_timeout"],
        ge=10,
        description="How long a started Slurm job may take until its runner is online.",
    )
    unconfirmed_after: Duration = Field(
        default=_POLICY["unconfirmed_after"],
        ge=1,
        description="How long Slurm is searched for a submission that got no clear answer.",
    )
    spent_grace: Duration = _policy_duration(
        "spent_grace", "How long GitHub may take to remove the registration of a runner that is done."
    )
    retry_after: Duration = Field(
        default=_POLICY["retry_after"],
        ge=1,
        description="Time between two tries to deregister or cancel the same runner.",
    )
    handover_max_age: Duration = Field(
        default=_POLICY["handover_max_age"],
        ge=60,
        le=3600,
        description="Age at which a configuration handed over in advance is renewed; GitHub refuses it after an hour.",
    )


class ScopeSettings(_Table):
    """A repository, organisation or enterprise whose jobs are run. At least one."""

    name: ScopeName = Field(description="Name of the scope within this file.")
    url: GitHubUrl = Field(
        description="Its address on GitHub: `https://HOST/OWNER/NAME`, `https://HOST/ORGANISATION` or "
        "`https://HOST/enterprises/NAME`."
    )
    token_file: AbsolutePath | None = Field(
        default=None, description="File with nothing but the token, closed to others. One of `token_file`, `token_env`."
    )
    token_env: EnvironmentName | None = Field(
        default=None, description="Environment variable of the service that holds the token."
    )
    api_url: ApiUrl | None = Field(
        default=None, description="Base of the REST API, if not the usual one of the host in `url`."
    )
    ca_file: AbsolutePath | None = Field(
        default=None, description="Certificate authority (PEM) for a GitHub server with a certificate of its own."
    )
    repositories: Annotated[tuple[Repository, ...], Strict(False), Field(max_length=10_000)] = Field(
        default=(),
        description="For an organisation: only these repositories. For an enterprise: the repositories to look at.",
    )

    def scope(self) -> Scope:
        """The scope this table means."""
        return make_scope(self.name, self.url, self.api_url, self.repositories)


class PoolSlurmSettings(_Table):
    """What one runner of the pool asks of Slurm."""

    cpus: int = Field(ge=1, le=65_536, description="CPUs (`--cpus-per-task`).")
    time: TimeLimit = Field(description="Time limit of the Slurm job: `30m`, `1h30m`, `1:30:00`, `2-00:00`; from 1m.")
    mem: Memory | None = Field(
        default=None, description="Memory of the whole job: `512M`, `2G`. Without it, the partition's default."
    )
    mem_per_cpu: Memory | None = Field(default=None, description="Memory for each CPU, in place of `mem`.")
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
        )


class PoolSettings(_Table):
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
    idle_timeout: Duration = Field(
        default=_POOL["idle_timeout"], ge=1, description="How long a runner may be online without a job."
    )
    runner_group_id: int = Field(
        default=_POOL["runner_group_id"], ge=1, description="Runner group on GitHub; 1 is the default group."
    )
    environment: dict[VariableName, VariableValue] = Field(
        default_factory=dict,
        description="Environment variables for the runner and its jobs. Everybody's jobs can read them: no secrets.",
    )
    slurm: PoolSlurmSettings = Field(description="Table `[pool.slurm]`, see below.")

    def pool(self, scopes: Sequence[str]) -> Pool:
        """The pool in the domain's words; ``scopes`` are all that the file names."""
        return Pool(
            name=self.name,
            scopes=frozenset(scopes if self.scopes is None else self.scopes),
            labels=normalise(self.labels),
            request=self.slurm.request(),
            runner_dir="" if self.runner_dir is None else str(self.runner_dir),
            launcher=self.launcher,
            handover=self.handover,
            max_runners=self.max_runners,
            idle_timeout=self.idle_timeout,
            runner_group_id=self.runner_group_id,
            environment=tuple(sorted(self.environment.items())),
            container=self._container(),
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


class Settings(_Table):
    """The whole file."""

    service: ServiceSettings
    poll: PollSettings = PollSettings()
    slurm: SlurmSettings
    images: ImageSettings = ImageSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    scope_tables: Annotated[tuple[ScopeSettings, ...], Strict(False)] = Field(alias="scope", min_length=1)
    pool_tables: Annotated[tuple[PoolSettings, ...], Strict(False)] = Field(alias="pool", min_length=1)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes, in the file's order."""
        return tuple(table.scope() for table in self.scope_tables)

    def policy(self) -> Policy:
        """All that plan() needs to know of this file."""
        names = [table.name for table in self.scope_tables]
        return Policy(
            installation=self.service.installation,
            pools=tuple(table.pool(names) for table in self.pool_tables),
            max_runners=self.service.max_runners,
            **self.timeouts.model_dump(),
        )
