"""The service signs in as a GitHub App: jobs run by every source, a new key is taken over, and none of it is seen."""

from __future__ import annotations

import re
import signal
import stat

import pytest
from tests.e2e.scene import Scene, job, pool, scene, workflow
from tests.e2e.test_secrets import Eavesdropper, Onlooker, nothing_was_seen

from slurm_gha.github.installation import SETTLING
from slurm_gha.testing.github.apps import TOKEN_LIFETIME, new_key
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import free_port

ASSERTION = re.compile(rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.")


def key_lines(pem: str) -> set[str]:
    """Each line of a private key that says something; a part of it is as bad as the whole."""
    return {line for line in pem.splitlines() if len(line) == 64}


def installation_tokens(stage: Scene) -> set[str]:
    return {text for text, token in list(stage.github.tokens.items()) if token.installation is not None}


def age(stage: Scene) -> float:
    """Seconds since the newest installation token was given out."""
    ends = [token.expires_at for token in list(stage.github.tokens.values()) if token.expires_at is not None]
    return stage.clock.now() - (max(ends) - TOKEN_LIFETIME)


def told_of_queued(stage: Scene) -> list[int]:
    """The jobs whose queueing a delivery told of."""
    return [line["job_id"] for line in stage.events("delivery_taken") if line["action"] == "queued"]


@pytest.mark.parametrize("sources", [("poll", "webhook"), ("scaleset",)], ids="+".join)
def test_jobs_run_before_and_after_a_change_of_the_key(slurm: PrivateSlurm, sources: tuple[str, ...]) -> None:
    """The first job is found by the poll or told by the queue, the second is pushed or told by the queue."""
    ear, port = Eavesdropper(), free_port()
    overrides = {"service": {"node_url": f"http://127.0.0.1:{port}", "log_level": "debug"}}
    # The service renews its access to the queues for every runner: with the key of that moment.
    behaviour = Behaviour(scale_sets=ScaleSetBehaviour(admin_token_lifetime=5.0))
    options = {"pools": [pool("small")], "overrides": overrides, "behaviour": behaviour}
    with scene(slurm, start=False, sources=sources, app=True, **options) as stage, ear.between(port, stage.port):
        assert stage.app is not None
        apps, number = stage.github.apps, stage.app.id
        (installation,) = apps.of(number)
        onlooker = Onlooker(stage)
        with onlooker.looking():
            stage.github.hooks.weather.vanished = 1.0
            first = stage.push(workflow(a=job("sleep 6")))
            stage.github.hooks.weather.vanished = 0.0
            stage.start_service()
            assert stage.service is not None
            assert stage.until_completed(first) == {"a": "success"}
            seen = key_lines(stage.key_file.read_text()) | installation_tokens(stage)
            assert told_of_queued(stage) == [], "it was found without"

            private_key, public_key = new_key()
            apps.add_key(number, public_key)
            stage.write_secret(stage.key_file, private_key)
            stage.service.send_signal(signal.SIGHUP)
            stage.until(lambda: stage.events("reloaded"), 20, "the new key is read")
            apps.remove_key(number)
            stage.until(lambda: age(stage) > SETTLING, 15, "the token is no new one")
            apps.revoke(installation.id)  # what goes on from here, goes on by the new key

            second = stage.push(workflow(b=job("sleep 1")))
            assert stage.until_completed(second) == {"b": "success"}
            assert told_of_queued(stage) == ([stage.job(second, "b").id] if "webhook" in sources else [])
            stage.ends_clean()
            seen |= key_lines(private_key) | installation_tokens(stage)
        assert len([each for each in seen if each.startswith("ghs_")]) >= 2, "one by each key"
        assert len(seen) > 40
        nothing_was_seen(stage, onlooker, ear.configurations, seen | ear.claim_secrets | ear.report_tokens)
        lasting = [stage.log, *stage.output_dir.iterdir(), *stage.state_dir.iterdir()]
        assert "status.json" in {path.name for path in lasting}
        assert [path for path in lasting if ASSERTION.search(path.read_bytes())] == []
        assert stat.S_IMODE(stage.key_file.stat().st_mode) == 0o600
        assert stage.key_file.stat().st_uid == stage.slurm.uid
        assert stage.outcomes() == ["finished"] * 2
