"""What the configuration file may hold: one model a table, each field with its meaning for the reference page."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from slurm_gha.config.addresses import make_scope
from slurm_gha.config.fields import (
    AbsolutePath,
    ApiUrl,
    AppId,
    Duration,
    EnvironmentName,
    GitHubUrl,
    Installation,
    ListenAddress,
    NodeDir,
    NodeUrl,
    ProxyUrl,
    Repository,
    ScopeName,
    SlurmPath,
    TimeZone,
)
from slurm_gha.config.images import ImageSettings
from slurm_gha.config.pools import PoolSettings
from slurm_gha.config.table import Table
from slurm_gha.domain.pool import Policy, Share
from slurm_gha.domain.scope import Scope, Source
from slurm_gha.domain.units import parse_address

_POLICY: dict[str, Any] = {field.name: field.default for field in fields(Policy)}


class ServiceSettings(Table):
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
    max_runners_per_repository: int | None = Field(
        default=None, ge=1, le=100_000, description="Most runners of any one repository, in all pools together."
    )
    timezone: TimeZone = Field(default="UTC", description="Time zone of hours in pools, such as `Europe/Berlin`.")
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


class PollSettings(Table):
    """How often GitHub is asked for queued jobs."""

    busy_interval: Duration = Field(
        default=5.0, ge=1, description="Time between two looks while there is work, or was lately."
    )
    idle_interval: Duration = Field(default=30.0, ge=1, description="Time between two looks while there is no work.")
    linger: Duration = Field(
        default=300.0, description="How long after the last work the looks go on at `busy_interval`."
    )
    backstop_interval: Duration = Field(
        default=600.0,
        ge=10,
        description="Time between two looks at scopes that GitHub brings news of by itself (`sources`).",
    )


class WebhookSettings(Table):
    """What is done about deliveries of webhooks that got lost."""

    catch_up_interval: Duration = Field(
        default=600.0,
        ge=30,
        description="Time between two looks at GitHub's history of deliveries, for those that never arrived.",
    )


class SlurmSettings(Table):
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


def _policy_duration(name: str, description: str) -> Any:
    return Field(default=_POLICY[name], description=description)


class TimeoutSettings(Table):
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
    reassignment_grace: Duration = _policy_duration(
        "reassignment_grace",
        "How long runners stay for a job that a scale set lost before any runner had it: GitHub assigns it anew, "
        "unless somebody has cancelled it.",
    )


class ScopeSettings(Table):
    """A repository, organisation or enterprise whose jobs are run. At least one."""

    name: ScopeName = Field(description="Name of the scope within this file.")
    url: GitHubUrl = Field(
        description="Its address on GitHub: `https://HOST/OWNER/NAME`, `https://HOST/ORGANISATION` or "
        "`https://HOST/enterprises/NAME`."
    )
    token_file: AbsolutePath | None = Field(
        default=None,
        description="File with nothing but the token, closed to others. One of `token_file`, `token_env`, `app_id`.",
    )
    token_env: EnvironmentName | None = Field(
        default=None, description="Environment variable of the service that holds the token."
    )
    app_id: AppId | None = Field(
        default=None, description="In place of a token: the GitHub App to sign in as, by its number or its client ID."
    )
    private_key_file: AbsolutePath | None = Field(
        default=None, description="File with the App's private key (PEM, as GitHub hands it out), closed to others."
    )
    installation_id: int | None = Field(
        default=None,
        ge=1,
        description="Number of the App's installation on the account in `url`; found by itself if left out.",
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        description="HTTP proxy on the way to GitHub, in place of what HTTPS_PROXY and NO_PROXY of the service say.",
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

    sources: Annotated[tuple[Annotated[Source, Strict(False)], ...], Strict(False), Field(min_length=1)] = Field(
        default=(Source.POLL,),
        description="Where news of jobs comes from. Beside another source the poll is slow (`backstop_interval`); "
        "it may be left out then.",
    )
    webhook_secret_file: AbsolutePath | None = Field(
        default=None,
        description="File with nothing but the secret of the scope's webhook, closed to others. One of "
        '`webhook_secret_file`, `webhook_secret_env`, for `sources` with "webhook".',
    )
    webhook_secret_env: EnvironmentName | None = Field(
        default=None, description="Environment variable of the service that holds the webhook's secret."
    )
    webhook_id: int | None = Field(
        default=None,
        ge=1,
        description="Number of the webhook on GitHub, if it cannot be known by its URL, which ends with "
        "`/v1/webhooks/NAME`.",
    )

    max_runners: int | None = Field(
        default=None, ge=1, le=100_000, description="Most runners of the scope, in all pools together."
    )
    weight: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Its share of the runners while other scopes want some too: with 2, twice as many as one with 1.",
    )

    def share(self) -> Share:
        """What it may have of all runners."""
        return Share(self.weight, self.max_runners)

    def scope(self) -> Scope:
        """The scope this table means."""
        return replace(
            make_scope(self.name, self.url, self.api_url, self.repositories), sources=frozenset(self.sources)
        )


class Settings(Table):
    """The whole file."""

    service: ServiceSettings
    poll: PollSettings = PollSettings()
    webhook: WebhookSettings = WebhookSettings()
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
        pools = tuple(
            table.pool(names, signal_before_end=self.slurm.signal_before_end, timezone=self.service.timezone)
            for table in self.pool_tables
        )
        queued = [table.name for table in self.scope_tables if Source.SCALESET in table.sources]
        return Policy(
            installation=self.service.installation,
            pools=pools,
            max_runners=self.service.max_runners,
            max_runners_per_repository=self.service.max_runners_per_repository,
            shares={table.name: table.share() for table in self.scope_tables},
            scale_sets=frozenset((scope, pool.name) for scope in queued for pool in pools if scope in pool.scopes),
            **self.timeouts.model_dump(),
        )
