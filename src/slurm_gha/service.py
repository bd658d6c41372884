"""Production wiring: edges, listeners, signals, reload and shutdown; nothing is decided here."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import anyio

from slurm_gha import __version__
from slurm_gha.assembly import Assembly, Hooked, PollPace, Queued, assemble
from slurm_gha.config.loading import load_webhook_secrets, load_with_tokens
from slurm_gha.config.mistakes import ConfigError
from slurm_gha.config.schema import Settings
from slurm_gha.controller.deliveries import DeliveryDesk
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.handover import HandoverDirectory
from slurm_gha.controller.loop import Cadence
from slurm_gha.controller.scalesets import ScaleSetBook
from slurm_gha.domain.clock import Clock, SystemClock
from slurm_gha.domain.pool import Policy, Pool
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.scope import Source
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.world import World
from slurm_gha.github.clients import GitHubClients, github_clients
from slurm_gha.github.hooks import Hooks, TokenCaller
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.github.scope import ScopeClient
from slurm_gha.observe.correlation import Correlation
from slurm_gha.observe.events import Bus, ServiceStarted, ServiceStopped, UnexpectedError
from slurm_gha.observe.log import EventLog, LibraryHandler, configure
from slurm_gha.observe.metrics import Metrics
from slurm_gha.observe.status import BudgetStatus, Status, StatusWriter
from slurm_gha.observe.summary import summarise, waiting_job
from slurm_gha.observe.text import OWN_TOKEN
from slurm_gha.planner.actions import Cause, Plan
from slurm_gha.slurm.cluster import SlurmCluster
from slurm_gha.slurm.reasons import explain_reason
from slurm_gha.slurm.script import NodeSite, batch_script, script_values
from slurm_gha.store.deliveries import DeliveryBook
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

    def __init__(
        self,
        config: Path,
        settings: Settings,
        secrets_of_scopes: Mapping[str, Secret],
        clock: Clock,
        webhook_secrets: Mapping[str, Secret] | None = None,
    ) -> None:
        self._config = config
        self._settings = settings
        self._secrets = dict(secrets_of_scopes)
        self._webhook_secrets = dict(webhook_secrets or {})
        self._deliveries: DeliveryDesk | None = None
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
        self._queues: dict[str, ScaleSetClient] = {}
        self._book: ScaleSetBook | None = None
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
            async with github_clients(self._settings.scope_tables, self._secrets, self._clock) as clients:
                for name in clients.names:
                    self._scopes[name] = clients.scope(name, repositories_max_age=REPOSITORIES_MAX_AGE)
                for scope in self._settings.scopes:
                    if Source.SCALESET in scope.sources:
                        self._queues[scope.name] = clients.scale_sets(scope.name)
                await self._run_with(journal, listener, clients)

    async def _run_with(self, journal: Journal, listener: socket.socket, clients: GitHubClients) -> None:
        writer = StatusWriter(self._settings.service.state_dir, self._status, self._clock, self._bus)
        assembly = self._assemble(journal, writer, clients)
        self._book = assembly.book
        web = create_app(
            assembly.desk,
            lambda: self._health(assembly),
            self._render_metrics,
            on_error=lambda where, error: self._unexpected(f"answering {where}", error),
            deliveries=assembly.deliveries,
        )
        self._deliveries = assembly.deliveries
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
                    self._reload(clients)
                    assembly.controller.woken("")
                notify("STOPPING=1")
                await assembly.leave()
                self._bus.emit(ServiceStopped(at=self._clock.now(), reason=signal.Signals(number).name))
                stop.set()
                group.cancel_scope.deadline = anyio.current_time() + 0.5
        writer.write()

    def _assemble(self, journal: Journal, writer: StatusWriter, clients: GitHubClients) -> Assembly:
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
            scale_sets=self._queues,
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
            pace=PollPace(poll.busy_interval, poll.idle_interval, poll.linger, poll.backstop_interval),
            cadence=Cadence(
                slurm=slurm.interval,
                slurm_idle=max(30.0, slurm.interval),
                registrations=3 * slurm.interval,
                closing=slurm.interval,
            ),
            on_round=on_round,
            draining=lambda: (settings.service.state_dir / DRAIN_NAME).exists(),
            hooked=self._hooked(clients),
            queued=self._queued(),
        )

    def _hooked(self, clients: GitHubClients) -> Hooked:
        """What webhooks need of the configuration; a scope's secret is read again at each reload."""
        scopes = {scope.name: scope for scope in self._settings.scopes}
        return Hooked(
            scopes,
            lambda: self._webhook_secrets,
            {
                table.name: Hooks(
                    scopes[table.name],
                    TokenCaller(clients.client(table.name)),
                    app=clients.app(table.name),
                    hook_id=table.webhook_id,
                )
                for table in self._settings.scope_tables
                if Source.WEBHOOK in table.sources
            },
            self._settings.webhook.catch_up_interval,
        )

    def _queued(self) -> Queued | None:
        """What scale sets need, where any scope has them."""
        if not self._queues:
            return None
        scopes = {scope.name: scope for scope in self._settings.scopes}
        owner = f"slurm-gha {self._settings.service.installation} on {socket.gethostname()}"
        return Queued(scopes, self._queues, owner)

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

    def _reload(self, clients: GitHubClients) -> None:
        """Take over pools, limits, timeouts and tokens; the rest needs a restart, and a bad file changes nothing."""
        try:
            settings, found = load_with_tokens(self._config)
            webhook_secrets = load_webhook_secrets(self._config)
        except ConfigError as error:
            self._unexpected("reading the configuration again (the old one stays in force)", error)
            return
        names = {table.name for table in settings.scope_tables}
        fixed = (settings.service, settings.slurm, settings.poll, settings.images, _pushes(settings), names)
        before = self._settings
        names_before = {table.name for table in before.scope_tables}
        if fixed != (before.service, before.slurm, before.poll, before.images, _pushes(before), names_before):
            told = (
                "the tables service, slurm, poll, webhook and images, the list of scopes and their sources change at "
                "a restart only; pools were taken"
            )
            self._log.message(self._clock.now(), "warning", "reload_incomplete", detail=told)
            if names != set(clients.names):
                return
        self._webhook_secrets.update(webhook_secrets)
        held_back = clients.take(settings.scope_tables, found)
        if held_back:
            told = f"as before until a restart, for more than a token or key changed: {', '.join(sorted(held_back))}"
            self._log.message(self._clock.now(), "warning", "reload_incomplete", detail=told)
        policy = settings.policy()
        self._policy = replace(policy, installation=self._policy.installation, max_runners=policy.max_runners)
        self._log.message(self._clock.now(), "info", "reloaded", pools=len(policy.pools))

    def _status(self) -> Status:
        world, plan = self._latest
        waiting = (
            waiting_job(
                w.job,
                w.reason,
                w.runner,
                w.unservable,
                refused=w.cause is Cause.REFUSED,
                cause=w.cause.value if w.cause is not None else "",
            )
            for w in plan.waiting
        )
        status = summarise(
            world,
            self._policy,
            waiting,
            at=self._clock.now(),
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            budgets={name: _budget(scope) for name, scope in self._scopes.items()},
            sources={scope.name: tuple(sorted(scope.sources)) for scope in self._settings.scopes},
            deliveries=self._deliveries.last if self._deliveries is not None else {},
            explain=explain_reason,
            scale_sets=self._book.status() if self._book is not None else (),
        )
        self._metrics.observe_status(status)
        return status

    def _health(self, assembly: Assembly) -> Health:
        world = assembly.controller.world()
        poll = self._settings.poll
        recent = max(180.0, 3 * poll.idle_interval)
        pushed = {
            scope.name: 3 * poll.backstop_interval if Source.POLL in scope.sources else float("inf")
            for scope in self._settings.scopes
            if scope.pushed
        }
        return Health.of(world.slurm, world.scopes, self._clock.now(), recent=recent, slower=pushed)

    def _render_metrics(self) -> bytes:
        self._status()
        return self._metrics.render()

    async def _keep_house(self, journal: Journal) -> None:
        book = DeliveryBook(journal)
        while True:
            try:
                journal.prune(self._clock.now() - HISTORY_KEPT)
                book.prune(self._clock.now())
            except StoreError as error:
                self._unexpected("tidying the journal", error)
            await self._clock.sleep(HOUSEKEEPING)

    def _unexpected(self, where: str, error: BaseException) -> None:
        self._bus.emit(UnexpectedError(at=self._clock.now(), where=where, error=f"{type(error).__name__}: {error}"))


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
    settings, secrets_of_scopes = load_with_tokens(config)
    await Service(config, settings, secrets_of_scopes, SystemClock(), load_webhook_secrets(config)).run()


def _pushes(settings: Settings) -> tuple[object, ...]:
    """What of webhooks changes at a restart only."""
    return (settings.webhook, *((table.name, table.sources, table.webhook_id) for table in settings.scope_tables))


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
