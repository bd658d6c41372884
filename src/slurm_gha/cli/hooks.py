"""Asks GitHub about webhooks: is there one for each scope that wants one, and do its deliveries arrive?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from slurm_gha.cli.inquiry import Answer, Verdict
from slurm_gha.config.mistakes import shown
from slurm_gha.domain.secret import Secret
from slurm_gha.github.errors import GitHubError
from slurm_gha.github.hooks import Attempt, Hook, NoHook

# Secrets shorter than this can be guessed by who has seen one delivery (characters).
SHORT = 16
# How far back deliveries are looked at (seconds).
LATELY = 86400.0


class HookDesk(Protocol):
    """What is asked of GitHub; :class:`slurm_gha.github.hooks.Hooks` fits."""

    async def find(self) -> Hook: ...

    async def attempts(self, hook: Hook, since: float) -> list[Attempt]: ...


async def ask_hook(scope: str, desk: HookDesk, now: float) -> list[Answer]:
    """What GitHub says of the scope's hook; ``now`` is seconds since the epoch."""
    subject = f"scope {scope}"
    try:
        hook = await desk.find()
        answers = [_configured(subject, hook)]
        answers.append(_arrived(subject, await desk.attempts(hook, now - LATELY)))
    except NoHook as error:
        return [Answer(Verdict.FALSE, subject, _line(error))]
    except GitHubError as error:
        return [Answer(Verdict.DOUBTFUL, subject, f"GitHub does not tell about the webhook: {_line(error)}")]
    return answers


def ask_secret(scope: str, secret: Secret) -> Answer:
    """Whether the secret is long enough to be one."""
    if len(secret.reveal()) < SHORT:
        return Answer(
            Verdict.DOUBTFUL, f"scope {scope}", f"the webhook's secret is short; take {SHORT} random characters or more"
        )
    return Answer(Verdict.TRUE, f"scope {scope}", "the webhook's secret can be read")


def _configured(subject: str, hook: Hook) -> Answer:
    place = f"webhook {_line(hook.url) or hook.path}"
    if not hook.active:
        return Answer(Verdict.FALSE, subject, f"{place} is switched off on GitHub")
    if hook.events and not {"workflow_job", "*"} & set(hook.events):
        return Answer(Verdict.FALSE, subject, f"{place} does not send the event Workflow jobs")
    if hook.content_type not in ("", "json"):
        return Answer(Verdict.FALSE, subject, f"{place} must have the content type application/json")
    return Answer(Verdict.TRUE, subject, f"{place} points here")


def _arrived(subject: str, attempts: Sequence[Attempt]) -> Answer:
    if not attempts:
        return Answer(Verdict.DOUBTFUL, subject, "the webhook has delivered nothing for a day")
    good = sum(attempt.ok for attempt in attempts)
    text = f"{good} of the webhook's {len(attempts)} deliveries of the last day got through"
    last = attempts[0]
    if not last.ok:
        return Answer(Verdict.DOUBTFUL, subject, f"{text}; the last one did not: {_line(last.status)}")
    return Answer(Verdict.TRUE, subject, text)


def _line(words: object) -> str:
    return shown(" ".join(str(words).split()), longest=300)
