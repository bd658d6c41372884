"""Slurm through its commands: the only place that starts a subprocess."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.runner import name_prefix
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm import commands, parse
from slurm_gha.slurm.errors import SlurmError, SlurmUnreachable, SubmissionRefused
from slurm_gha.slurm.parse import Partition, Silence

OnCommand = Callable[[str, float, int | None], None]
"""Told of every command: its name, how many seconds it took, its exit code (None if it was killed at its time-out)."""

_OUR_NAME = re.compile(r"[a-z0-9-]+")
_COULD_NOT_EXECUTE = frozenset({126, 127})


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a command said; ``exit_code`` is None when it ran into the time-out and was killed."""

    exit_code: int | None
    output: str
    errors: str


class SlurmCluster:
    """Fits :class:`slurm_gha.controller.ports.Cluster`.

    ``bin_dir``: where Slurm's commands are, if they are not found by PATH. ``conf``: slurm.conf, if it is not the
    site's default (else ``SLURM_CONF`` of the service's environment counts). ``timeout``: seconds that a command may
    take; then it is killed. ``submit_concurrency``: how many sbatch run at the same time.
    """

    def __init__(
        self,
        installation: str,
        *,
        bin_dir: Path | None = None,
        conf: Path | None = None,
        timeout: float = 30.0,
        submit_concurrency: int = 8,
        on_command: OnCommand | None = None,
    ) -> None:
        self._prefix = name_prefix(installation)
        self._bin_dir = bin_dir
        self._timeout = timeout
        self._limit = submit_concurrency
        self._limiter: anyio.CapacityLimiter | None = None
        self._on_command = on_command
        self._calls: Counter[str] = Counter()
        self._accounting_disabled = False
        self._setpriv = shutil.which("setpriv")
        account = pwd.getpwuid(os.geteuid())
        place = str(conf) if conf is not None else os.environ.get("SLURM_CONF")
        self._environment = commands.environment(
            home=account.pw_dir, user=account.pw_name, conf=place, epoch_times=False, bin_dir=bin_dir
        )
        self._reading_environment = commands.environment(
            home=account.pw_dir, user=account.pw_name, conf=place, epoch_times=True
        )

    @property
    def calls(self) -> Mapping[str, int]:
        """How many times each command has been run."""
        return MappingProxyType(self._calls)

    async def submit(self, submission: Submission) -> int:
        """Submit one job and give its id.

        Raises SubmissionRefused with Slurm's own words; SlurmUnreachable, ``unclear`` if the job may exist after all.
        """
        try:
            argv = commands.sbatch(submission)
        except ValueError as error:
            raise SubmissionRefused(str(error)) from None
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._limit)
        async with self._limiter:
            answer = await self._run(argv, self._environment, submission.script)
        if answer.exit_code == 0:
            slurm_id = parse.submitted_id(answer.output)
            if slurm_id is None:
                raise SlurmUnreachable(f"sbatch gave no job id but {answer.output[:200]!r}", unclear=True)
            return slurm_id
        said = parse.words(answer.errors)
        why = parse.silence(answer.errors)
        if answer.exit_code is None:
            raise SlurmUnreachable(self._too_slow("sbatch", said), unclear=True)
        if answer.exit_code < 0:
            raise SlurmUnreachable(f"sbatch was killed by signal {-answer.exit_code}", unclear=True)
        if why is not None or answer.exit_code in _COULD_NOT_EXECUTE:
            raise SlurmUnreachable(f"sbatch: {said}", unclear=why is Silence.UNCLEAR)
        raise SubmissionRefused(said or f"sbatch ended with exit code {answer.exit_code} and said nothing")

    async def list_jobs(self) -> tuple[SlurmJob, ...]:
        """Every job of this installation that Slurm still lists, ended ones too: one squeue, however many."""
        return tuple(job for job in parse.listing(await self._read(commands.squeue())) if self._is_ours(job.name))

    async def look_up(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        """The last known state of these jobs: one sacct and one squeue for each 500 of them.

        The database may lag behind slurmctld, or be out of order, or not exist: what it says counts when it says that
        a job has ended. Else slurmctld is asked, and a job that it does not know either has state ``GONE``.
        An id that now belongs to another user's job, or another's name, is ``GONE`` as well.
        """
        found: dict[int, SlurmJob] = {}
        for batch in commands.batches(ids):
            recorded = await self._recorded(batch)
            known = {number: job for number, job in recorded.items() if job.stage is SlurmStage.ENDED}
            rest = [number for number in batch if number not in known]
            try:
                known |= {job.id: job for job in await self._listed(rest)} if rest else {}
            except SlurmUnreachable:
                if not known and not found:
                    raise
                batch = tuple(known)  # what the database said is said; the others are left out
            for number in batch:
                job = known.get(number)
                found[number] = job if job is not None and self._may_be_ours(job) else _gone(number, recorded)
        return found

    async def cancel(self, ids: Sequence[int]) -> None:
        """Cancel jobs; one that has ended already, or that Slurm does not know, is no error."""
        for batch in commands.batches(ids):
            answer = await self._run(commands.scancel(batch), self._reading_environment)
            if answer.exit_code == 0:
                continue
            lines = [line for line in answer.errors.splitlines() if not parse.is_unknown_job(line)]
            said = parse.words("\n".join(lines))
            if answer.exit_code is None:
                raise SlurmUnreachable(self._too_slow("scancel", said))
            if parse.silence(said) is not None or answer.exit_code in _COULD_NOT_EXECUTE:
                raise SlurmUnreachable(f"scancel: {said}")
            if said:
                raise SlurmError(f"scancel: {said}")

    async def test_only(self, request: SlurmRequest) -> str:
        """What Slurm says to this request without running it; raises SubmissionRefused."""
        answer = await self._run(commands.sbatch_test(request), self._environment, "#!/bin/sh\ntrue\n")
        said = parse.words(answer.errors)
        if answer.exit_code == 0:
            return said
        if answer.exit_code is None:
            raise SlurmUnreachable(self._too_slow("sbatch", said))
        if parse.silence(answer.errors) is not None or answer.exit_code in _COULD_NOT_EXECUTE:
            raise SlurmUnreachable(f"sbatch: {said}")
        raise SubmissionRefused(said)

    async def partitions(self) -> tuple[Partition, ...]:
        """The partitions that this user can see."""
        return parse.partitions(await self._read(commands.sinfo()))

    async def live_jobs(self) -> tuple[SlurmJob, ...]:
        """Every job of this user that has not ended, of this installation or not: one squeue."""
        jobs = parse.listing(await self._read(commands.squeue()))
        return tuple(job for job in jobs if job.stage is not SlurmStage.ENDED)

    async def name(self) -> str:
        """The cluster's name, which jobs have in ``SLURM_CLUSTER_NAME``."""
        name = parse.cluster_name(await self._read(commands.configuration()))
        if not name:
            raise SlurmUnreachable("scontrol does not tell the cluster's name")
        return name

    async def version(self) -> str:
        """Slurm's version, for example ``22.05.8``."""
        text = await self._read(commands.version())
        return text.split()[-1] if text.split() else ""

    async def _recorded(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        """What the accounting database says of these jobs: nothing, if there is none or it does not answer."""
        if self._accounting_disabled:
            return {}
        answer = await self._run(commands.sacct(ids), self._reading_environment)
        if answer.exit_code != 0:
            # A site may switch accounting on, but not without restarting slurmctld: asking again is not worth it.
            self._accounting_disabled = parse.accounting_is_disabled(answer.errors)
            return {}
        return parse.accounting(answer.output)

    async def _listed(self, ids: Collection[int]) -> tuple[SlurmJob, ...]:
        argv = commands.squeue_jobs(ids)
        answer = await self._run(argv, self._reading_environment)
        if answer.exit_code == 0:
            return parse.listing(answer.output)
        # The answer to a question for a single unknown id.
        if answer.exit_code is not None and parse.is_unknown_job(answer.errors):
            return ()
        raise self._unreadable("squeue", answer)

    async def _read(self, argv: list[str]) -> str:
        answer = await self._run(argv, self._reading_environment)
        if answer.exit_code != 0:
            raise self._unreadable(argv[0], answer)
        return answer.output

    def _unreadable(self, name: str, answer: _Answer) -> SlurmUnreachable:
        said = parse.words(answer.errors)
        if answer.exit_code is None:
            return SlurmUnreachable(self._too_slow(name, said))
        return SlurmUnreachable(f"{name}: {said or f'exit code {answer.exit_code}'}")

    def _too_slow(self, name: str, said: str) -> str:
        return f"{name} gave no answer within {self._timeout:g} s" + (f"; it said: {said}" if said else "")

    def _is_ours(self, name: str) -> bool:
        return name.startswith(self._prefix) and _OUR_NAME.fullmatch(name) is not None

    def _may_be_ours(self, job: SlurmJob) -> bool:
        """slurmdbd learns a job's name a little later than its id."""
        return job.name == "" or self._is_ours(job.name)

    def _command(self, argv: list[str]) -> list[str]:
        if self._bin_dir is not None:
            program = str(self._bin_dir / argv[0])
        else:
            program = shutil.which(argv[0]) or shutil.which(argv[0], path=self._environment["PATH"]) or argv[0]
        # If the service is killed, no sbatch of it may submit anything any more: the kernel kills it too. (That signal
        # hangs on the *thread* that started the child; trio starts children from threads that come and go.)
        if self._setpriv is not None and _on_asyncio():
            return [self._setpriv, "--pdeathsig", "KILL", "--", program, *argv[1:]]
        return [program, *argv[1:]]

    async def _run(self, argv: list[str], environment: Mapping[str, str], text: str = "") -> _Answer:
        self._calls[argv[0]] += 1
        began = anyio.current_time()
        exit_code: int | None = None
        try:
            answer = await self._converse(argv, environment, text)
            exit_code = answer.exit_code
        finally:
            if self._on_command is not None:
                self._on_command(argv[0], anyio.current_time() - began, exit_code)
        return answer

    async def _converse(self, argv: list[str], environment: Mapping[str, str], text: str) -> _Answer:
        output, errors = bytearray(), bytearray()
        try:
            process = await anyio.open_process(self._command(argv), env=environment, cwd="/")
        except OSError as error:
            raise SlurmUnreachable(f"{argv[0]} cannot be run: {error.strerror}: {error.filename}") from None
        # Leaving the block by time-out or cancellation kills the child and waits for its end.
        async with process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            with anyio.move_on_after(self._timeout) as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(_drain, process.stdout, output)
                    group.start_soon(_drain, process.stderr, errors)
                    await _feed(process.stdin, text.encode())
                await process.wait()
            if scope.cancelled_caught:
                process.kill()
        exit_code = None if scope.cancelled_caught else process.returncode
        return _Answer(exit_code, output.decode(errors="replace"), errors.decode(errors="replace"))


def _gone(number: int, recorded: Mapping[int, SlurmJob]) -> SlurmJob:
    before = recorded.get(number)
    if before is None or before.stage is SlurmStage.ENDED:
        return SlurmJob(id=number, name="", state="GONE")
    return replace(before, state="GONE", reason=f"unknown to slurmctld; accounting still says {before.state}")


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _drain(stream: ByteReceiveStream, into: bytearray) -> None:
    async for chunk in stream:
        into += chunk


async def _feed(stream: ByteSendStream, content: bytes) -> None:
    """Write and close; a child that does not want to hear us will say why on its standard error."""
    try:
        if content:
            await stream.send(content)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    await stream.aclose()
