"""``slurm-gha check``: is the configuration right, and is what it says true?"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import click

from slurm_gha.assembly import wanted_scale_sets
from slurm_gha.cli import hooks, inquiry, places
from slurm_gha.cli.inquiry import Answer, GitHubDesk, Verdict
from slurm_gha.cli.options import config_option
from slurm_gha.cli.queues import QueueDesk, ask_queues
from slurm_gha.config.loading import Examined, examine
from slurm_gha.config.schema import ScopeSettings, Settings
from slurm_gha.domain.clock import SystemClock
from slurm_gha.domain.scope import Source
from slurm_gha.domain.secret import Secret
from slurm_gha.github.clients import github_clients
from slurm_gha.github.errors import GitHubUnavailable
from slurm_gha.github.hooks import Hooks, TokenCaller
from slurm_gha.slurm.cluster import SlurmCluster


@click.command()
@config_option
@click.option(
    "--offline", is_flag=True, help="Look at the file and at this machine only; ask neither Slurm nor GitHub."
)
def command(config: Path, offline: bool) -> None:
    """Check a configuration, and ask Slurm and GitHub whether it is true.

    Every mistake in the file is printed at once, as file:line: key: what is wrong. Then directories, Slurm
    (sbatch --test-only for each pool) and GitHub (rate limit, permissions and webhook of each scope) are looked at.
    Run it as the user that the service runs as. Exit status: 0 if all is well, 1 if not.
    """
    examined = examine(config, os.environ)
    for mistake in examined.mistakes:
        _say(str(mistake))
    answers = [] if examined.settings is None else anyio.run(_ask, examined.settings, examined, offline)
    for answer in answers:
        _say(str(answer))
    wrong = len(examined.mistakes) + sum(answer.verdict is Verdict.FALSE for answer in answers)
    if wrong:
        _say(f"{config}: {wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
        sys.exit(1)
    _say(f"{config}: all is well{' as far as can be told offline' if offline else ''}")


async def _ask(settings: Settings, examined: Examined, offline: bool) -> list[Answer]:
    scopes, pools = len(settings.scope_tables), len(settings.pool_tables)
    counts = f"{scopes} scope{'s' * (scopes != 1)}, {pools} pool{'s' * (pools != 1)}"
    answers = [Answer(Verdict.TRUE, "configuration", f"valid; {counts}"), *places.look(settings)]
    answers += inquiry.gpu_doubts(settings.policy().pools)
    if offline:
        return answers
    cluster = SlurmCluster(
        settings.service.installation,
        bin_dir=settings.slurm.bin_dir,
        conf=settings.slurm.conf,
        timeout=settings.slurm.command_timeout,
    )
    answers += await inquiry.ask_slurm(cluster, settings.policy().pools)
    answers += await inquiry.ask_mirrors(settings.images.mirrors)
    desks = {
        table.name: open_desk(table, examined.tokens[table.name])
        for table in settings.scope_tables
        if table.name in examined.tokens
    }
    answers += await inquiry.ask_github(desks)
    queues = {
        table.name: open_queues(table, examined.tokens[table.name])
        for table in settings.scope_tables
        if Source.SCALESET in table.sources and table.name in examined.tokens
    }
    wanted = wanted_scale_sets(settings.policy(), {scope.name: scope for scope in settings.scopes})
    answers += await ask_queues(queues, wanted, settings.service.installation)
    return answers + await _ask_hooks(settings, examined)


async def _ask_hooks(settings: Settings, examined: Examined) -> list[Answer]:
    """About the webhooks of the scopes that want one, as far as their secrets and tokens can be read."""
    answers: list[Answer] = []
    for table in settings.scope_tables:
        name = table.name
        if Source.WEBHOOK not in table.sources or name not in examined.webhook_secrets or name not in examined.tokens:
            continue
        answers.append(hooks.ask_secret(name, examined.webhook_secrets[name]))
        try:
            async with github_clients([table], {name: examined.tokens[name]}, SystemClock()) as clients:
                caller = TokenCaller(clients.client(name))
                desk = Hooks(table.scope(), caller, app=clients.app(name), hook_id=table.webhook_id)
                answers += await hooks.ask_hook(name, desk, SystemClock().now())
        except GitHubUnavailable:
            continue  # said already of the scope itself
    return answers


@asynccontextmanager
async def open_desk(table: ScopeSettings, secret: Secret) -> AsyncIterator[GitHubDesk]:
    """A client for one scope, closed at the end."""
    async with github_clients([table], {table.name: secret}, SystemClock()) as clients:
        yield clients.scope(table.name)


@asynccontextmanager
async def open_queues(table: ScopeSettings, secret: Secret) -> AsyncIterator[QueueDesk]:
    """A client for one scope's scale sets, closed at the end."""
    async with github_clients([table], {table.name: secret}, SystemClock()) as clients:
        yield clients.scale_sets(table.name)


def _say(line: str) -> None:
    """One line, also on a terminal that lacks the signs."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        line = line.replace("✓", "ok").replace("✗", "NO").encode(encoding, "replace").decode(encoding)
    click.echo(line)
