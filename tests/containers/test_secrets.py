"""What others could see of runners that are containers: no more than of those that are not."""

from __future__ import annotations

from tests.containers.cases import log_of
from tests.containers.site import Images, container_pool, container_scene
from tests.e2e.scene import job, workflow
from tests.e2e.test_secrets import Eavesdropper, Onlooker, holding, nothing_was_seen

from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import TOKEN, free_port

# What the job itself can ask of its engine, and its own environment.
ASKS = "docker inspect $(docker ps -q --no-trunc); env; sleep 1"


def test_a_container_s_runner_shows_no_secret(slurm: PrivateSlurm, network: Network, images: Images) -> None:
    ear, port = Eavesdropper(), free_port()
    tables = {"service": {"node_url": f"http://127.0.0.1:{port}", "log_level": "debug"}}
    pools = [container_pool("docker")]
    with container_scene(slurm, network, images, pools, tables) as stage, ear.between(port, stage.port):
        onlooker = Onlooker(stage)
        with onlooker.looking():
            run = stage.push(workflow(a=job(ASKS)))
            assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
            stage.ends_clean()
        assert len(ear.configurations) == len(ear.report_tokens) == len(ear.claim_secrets) == 1
        others = {TOKEN} | ear.claim_secrets | ear.report_tokens
        nothing_was_seen(stage, onlooker, ear.configurations, others)
        log = log_of(stage, run)
        assert '"Image": "sha256:' in log
        assert holding({log.encode()}, others | ear.configurations) == []
