"""Production wiring: edges, listeners, signals, reload and shutdown; nothing is decided here."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2

from slurm_gha import __version__
from slurm_gha.assembly import Assembly, PollPace, assemble
from slurm_gha.config.loading import load_with_tokens
from slurm_gha.config.mistakes import ConfigError
from slurm_gha.config.schema import ScopeSettings, Settings
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.handover import HandoverDirectory
from slurm_gha.controller.loop import Cadence
from slurm_gha.domain.clock import Clock, SystemClock
from slurm_gha.domain.pool import Policy, Pool
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.world import World
from slurm_gha.github.client import GitHubClient, TokenProvider
from slurm_gha.github.scope import ScopeClient
from slurm_gha.observe.correlation import Correlation
from slurm_gha.observe.events import Bus, ServiceStarted, ServiceStopped, UnexpectedError
from slurm_gha.observe.log import EventLog, LibraryHandler, configure
from slurm_gha.observe.metrics import Metrics
from slurm_gha.observe.status import BudgetStatus, Status, StatusWriter
from slurm_gha.observe.summary import summarise, waiting_job
from slurm_gha.observe.text import OWN_TOKEN
from slurm_gha.planner.actions import Plan
from slurm_gha.slurm.cluster import SlurmCluster
from slurm_gha.slurm.reasons import explain_reason
from slurm_gha.slurm.script import NodeSite, batch_script, script_values
from slurm_gha.store.errors import StoreError
from slurm_gha.store.journal import Journal
from slurm_gha.store.lock import StateLock
from slurm_gha.web.app import create_app
from slurm_gha.web.health import Health
from slurm_gha.web.serve import bind, serve

JOURNAL_NAME = "journal.sqlite"
DRAIN_NAME = "draining"
# How long closed runners stay in the journal, and how often it is tidied (seconds).
HISTORY_KEPT = 90 * 86400.0
HOUSEKEEPING = 6 * 3600.0
# How old an organisation's list of repositories may be before it is asked for again (seconds).
REPOSITORIES_MAX_AGE = 60.0


class Service:
    """One installation in production. ``config`` is read again at SIGHUP."""

    def __init__(self, config: Path, settings: Settings, tokens: Mapping[str, Secret], clock: Clock) -> None:
        self._config = config
        self._settings = settings
        self._tokens = dict(tokens)
        self._policy: Policy = settings.policy()
        self._clock = clock
        self._started_at = clock.now()
        correlation = Correlation()
        self._log: EventLog = configure(
            settings.service.log_format, settings.service.log_level, correlation=correlation
        )
        logging.basicConfig(handlers=[LibraryHandler(self._log)], force=True)
        installation = settings.service.installation
        self._metrics = Metrics(version=__version__, installation=installation, correlation=correlation)
        self._bus = Bus(self._log, self._metrics)
        self._correlation = correlation
        self._scopes: dict[str, ScopeClient] = {}
        self._latest: tuple[World, Plan] = (World(), Plan())

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises StoreError or CannotListen at the start."""
        state_dir = self._settings.service.state_dir
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(StateLock.acquire(state_dir))
            journal = stack.enter_context(Journal.open(state_dir / JOURNAL_NAME))
            listener = bind(*self._settings.service.address)
            self._correlation.seed(journal.open_records())
            async with self._github_clients():
                await self._run_with(journal, listener)

    async def _run_with(self, journal: Journal, listener: socket.socket) -> None:
        writer = StatusWriter(self._settings.service.state_dir, self._status, self._clock, self._bus)
        assembly = self._assemble(journal, writer)
        web = create_app(
            assembly.desk,
            lambda: self._health(assembly),
            self._render_metrics,
            on_error=lambda where, error: self._unexpected(f"answering {where}", error),
        )
        service = self._settings.service
        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:

                async def serve_web() -> None:
                    await serve(
                        web, listener, stop=stop, tls_certificate=service.tls_certificate, tls_key=service.tls_key
                    )

                group.start_soon(serve_web)
                group.start_soon(assembly.run)
                group.start_soon(writer.run)
                group.start_soon(self._keep_house, journal)
                self._bus.emit(
                    ServiceStarted(
                        at=self._clock.now(),
                        version=__version__,
                        installation=service.installation,
                        pid=os.getpid(),
                    )
                )
                notify("READY=1")
                async for number in signals:
                    if number != signal.SIGHUP:
                        break
                    self._reload()
                    assembly.controller.woken("")
                notify("STOPPING=1")
                self._bus.emit(ServiceStopped(at=self._clock.now(), reason=signal.Signals(number).name))
                stop.set()
                group.cancel_scope.deadline = anyio.current_time() + 0.5
        writer.write()

    def _assemble(self, journal: Journal, writer: StatusWriter) -> Assembly:
        settings = self._settings
        slurm, poll = settings.slurm, settings.poll
        cluster = SlurmCluster(
            settings.service.installation,
            bin_dir=slurm.bin_dir,
            conf=slurm.conf,
            timeout=slurm.command_timeout,
            submit_concurrency=slurm.submit_concurrency,
            on_command=self._metrics.observe_command,
        )
        handover = HandoverDirectory(slurm.handover_dir) if slurm.handover_dir is not None else None
        if handover is not None:
            handover.sweep({record.name for record in journal.open_records()})
        edges = Edges(
            cluster=cluster,
            scopes=self._scopes,
            journal=journal,
            clock=self._clock,
            bus=self._bus,
            script=self._script,
            output_path=lambda name: str(slurm.output_dir / f"{name}.log"),
            handover=handover,
            suffix=lambda: secrets.token_hex(5),
            token=lambda: Secret(f"{OWN_TOKEN}{secrets.token_urlsafe(32)}"),
            submit_concurrency=slurm.submit_concurrency,
            signal_before_end=int(slurm.signal_before_end),
        )

        def on_round(world: World, plan: Plan) -> None:
            self._latest = (world, plan)
            writer.changed()

        return assemble(
            lambda: self._policy,
            edges,
            pace=PollPace(poll.busy_interval, poll.idle_interval, poll.linger),
            cadence=Cadence(
                slurm=slurm.interval,
                slurm_idle=max(30.0, slurm.interval),
                registrations=3 * slurm.interval,
                closing=slurm.interval,
            ),
            on_round=on_round,
            draining=lambda: (settings.service.state_dir / DRAIN_NAME).exists(),
        )

    def _script(self, record: RunnerRecord, pool: Pool, secret: Secret | None) -> str:
        service, slurm = self._settings.service, self._settings.slurm
        values = script_values(
            record.name,
            pool,
            secret,
            node_dir=str(slurm.node_dir),
            node_url=service.node_url,
            ca_file=str(service.ca_file) if service.ca_file is not None else None,
            signal_before_end=slurm.signal_before_end,
            site=node_site(self._settings),
        )
        return batch_script(values)

    @asynccontextmanager
    async def _github_clients(self) -> AsyncIterator[None]:
        """One client for each API and token, so that scopes with the same token share its budget."""
        clients: dict[tuple[str, str, Path | None], GitHubClient] = {}
        async with AsyncExitStack() as stack:
            for table, scope in zip(self._settings.scope_tables, self._settings.scopes, strict=True):
                key = (scope.api_url, self._tokens[table.name].digest(), table.ca_file)
                if key not in clients:
                    http = await stack.enter_async_context(_http(table))
                    clients[key] = GitHubClient(http, scope.api_url, self._provider(table.name), self._clock)
                self._scopes[table.name] = ScopeClient(clients[key], scope, repositories_max_age=REPOSITORIES_MAX_AGE)
            yield

    def _provider(self, name: str) -> TokenProvider:
        async def token() -> Secret:
            return self._tokens[name]

        return token

    def _reload(self) -> None:
        """Take over pools, limits, timeouts and tokens; the rest needs a restart, and a bad file changes nothing."""
        try:
            settings, tokens = load_with_tokens(self._config)
        except ConfigError as error:
            self._unexpected("reading the configuration again (the old one stays in force)", error)
            return
        names = {table.name for table in settings.scope_tables}
        fixed = (settings.service, settings.slurm, settings.poll, settings.images, names)
        before = self._settings
        names_before = {table.name for table in before.scope_tables}
        if fixed != (before.service, before.slurm, before.poll, before.images, names_before):
            told = (
                "the tables service, slurm, poll and images and the list of scopes change at a restart only; "
                "pools were taken"
            )
            self._log.message(self._clock.now(), "warning", "reload_incomplete", detail=told)
            if names != set(self._tokens):
                return
        self._tokens.update(tokens)
        policy = settings.policy()
        self._policy = replace(policy, installation=self._policy.installation, max_runners=policy.max_runners)
        self._log.message(self._clock.now(), "info", "reloaded", pools=len(policy.pools))

    def _status(self) -> Status:
        world, plan = self._latest
        waiting = (waiting_job(w.job, w.reason, w.runner, w.unservable) for w in plan.waiting)
        status = summarise(
            world,
            self._policy,
            waiting,
            at=self._clock.now(),
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            budgets={name: _budget(scope) for name, scope in self._scopes.items()},
            explain=explain_reason,
        )
        self._metrics.observe_status(status)
        return status

    def _health(self, assembly: Assembly) -> Health:
        world = assembly.controller.world()
        poll = self._settings.poll
        return Health.of(world.slurm, world.scopes, self._clock.now(), recent=max(180.0, 3 * poll.idle_interval))

    def _render_metrics(self) -> bytes:
        self._status()
        return self._metrics.render()

    async def _keep_house(self, journal: Journal) -> None:
        while True:
            try:
                journal.prune(self._clock.now() - HISTORY_KEPT)
            except StoreError as error:
                self._unexpected("tidying the journal", error)
            await self._clock.sleep(HOUSEKEEPING)

    def _unexpected(self, where: str, error: BaseException) -> None:
        self._bus.emit(UnexpectedError(at=self._clock.now(), where=where, error=f"{type(error).__name__}: {error}"))


def _http(table: ScopeSettings) -> httpx2.AsyncClient:
    verify = ssl.create_default_context(cafile=table.ca_file) if table.ca_file is not None else True
    return httpx2.AsyncClient(verify=verify)


def _budget(scope: ScopeClient) -> BudgetStatus:
    seen = scope.budget()
    return BudgetStatus(
        remaining=seen.remaining,
        limit=seen.limit,
        reset=seen.reset,
        blocked_until=seen.blocked_until,
        counted=seen.counted,
        uncounted=seen.uncounted,
    )


def notify(message: str) -> None:
    """Tell systemd (sd_notify(3)); nothing happens where the service was not started by it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    path = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(message.encode(), path)
        except OSError:
            return


async def run_service(config: Path) -> None:
    """Run one installation until it is told to stop; raises ConfigError, StoreError or CannotListen."""
    settings, tokens = load_with_tokens(config)
    await Service(config, settings, tokens, SystemClock()).run()


def node_site(settings: Settings) -> NodeSite:
    """What the scripts of all pools are told of the nodes."""
    images, slurm = settings.images, settings.slurm
    hidden = (settings.service.state_dir, slurm.output_dir, slurm.handover_dir)
    return NodeSite(
        path=tuple(map(str, slurm.node_path)),
        images_dir="" if images.dir is None else str(images.dir),
        stores_dir=str(images.stores_dir),
        mirrors=tuple(sorted(images.mirrors.items())),
        hidden=tuple(str(path) for path in hidden if path is not None),
    )
