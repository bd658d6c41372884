"""How the batch script comes to its JIT configuration: every answer, and none."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.unit.node_bench import CONFIG, QUICK, Bench, open_bench, service

from slurm_gha.controller.desk import Claimed, ClaimRefused, DemandGone, TryLater
from slurm_gha.domain.pool import Handover
from slurm_gha.domain.secret import Secret

KEEP_CONFIG = 'printf "%s" "$ACTIONS_RUNNER_INPUT_JITCONFIG" >"$HOME/jit"\n' + QUICK


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        yield bench


def test_a_claim_brings_the_configuration_and_the_runner_reports(bench: Bench) -> None:
    bench.install_runner(KEEP_CONFIG)
    job = bench.run()
    assert job.code == 0, job.output
    assert bench.desk.claims == [("sg-test-small-x1", bench.secret, job.job_id, "n1")]
    assert (bench.home / "jit").read_text() == CONFIG
    assert bench.desk.reports == [
        ("launched", "", bench.desk.token),
        ("listening", "", bench.desk.token),
        ("job_started", "build (1, a)", bench.desk.token),
        ("job_finished", "Succeeded", bench.desk.token),
        ("ended", "0", bench.desk.token),
    ]
    assert "Running job: build (1, a)" in job.output
    assert bench.nothing_left()


def test_demand_gone_is_a_quiet_end(bench: Bench) -> None:
    bench.desk.answers = [DemandGone("x")]
    job = bench.run()
    assert job.code == 0
    assert "nothing to do" in job.output
    assert "Listening" not in job.output
    assert bench.desk.reports == []
    assert bench.nothing_left()


def test_a_refused_claim_fails_with_its_own_code_and_is_not_repeated(bench: Bench) -> None:
    bench.desk.answers = [ClaimRefused("its claim has been used")]
    job = bench.run()
    assert job.code == 77
    assert f"the service at {bench.url} refused the claim of sg-test-small-x1" in job.output
    assert "has been used" not in job.output
    assert len(bench.desk.claims) == 1
    assert bench.nothing_left()


def test_try_later_is_obeyed(bench: Bench) -> None:
    bench.desk.answers = [TryLater(2.0), bench.desk.grant()]
    began = time.monotonic()
    job = bench.run()
    assert job.code == 0, job.output
    assert time.monotonic() - began >= 2.0
    assert len(bench.desk.claims) == 2


def test_an_error_of_the_service_is_tried_again(bench: Bench) -> None:
    bench.desk.answers = [RuntimeError("a bug"), bench.desk.grant()]
    job = bench.run()
    assert job.code == 0, job.output
    assert len(bench.desk.claims) == 2


def test_an_unreachable_service_is_given_up_with_curls_own_words(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    job = bench.run(bench.values(node_url=f"http://127.0.0.1:{port}", claim_patience=1))
    assert job.code == 69
    assert f"the service at http://127.0.0.1:{port} cannot be reached: curl: (7)" in job.output
    assert "given up after 1 s" in job.output
    assert bench.nothing_left()


def test_a_service_that_comes_up_late_is_found(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    job = bench.start(bench.values(node_url=f"http://127.0.0.1:{port}"))
    job.until(lambda: (job.job_dir / "lock").exists())
    with service(bench.desk, port=port):
        assert job.wait() == 0, job.output
    assert len(bench.desk.claims) == 1


def test_what_is_not_the_service_is_named_as_such(bench: Bench) -> None:
    job = bench.run(bench.values(node_url=f"{bench.url}/elsewhere"))
    assert job.code == 77
    assert f"{bench.url}/elsewhere answered with HTTP status 404: is that the service?" in job.output
    bench.desk.answers = [Claimed(Secret("<html>Please log in</html>"), Secret("t" * 20))]
    job = bench.run()
    assert job.code == 77
    assert "something that is not a configuration" in job.output
    assert "<html>" not in job.output
    assert bench.nothing_left()


@pytest.mark.parametrize("delay", [0.0, 30.0], ids=["between two tries", "while the service thinks"])
def test_a_signal_ends_a_claim_at_once(bench: Bench, delay: float) -> None:
    bench.desk.answers = [TryLater(60)]
    bench.desk.delay = delay
    job = bench.start()
    job.until(lambda: len(bench.desk.claims) == 1)
    began = time.monotonic()
    job.signal(signal.SIGTERM)
    assert job.wait() == 143
    assert time.monotonic() - began < 20  # neither the 30 s nor the 60 s that it would have waited
    assert "stopped by SIGTERM before the runner was started" in job.output
    assert bench.nothing_left()


def test_https_with_a_certificate_authority_of_the_sites_own(bench: Bench, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    with service(bench.desk, tls=(certificate, key)) as url:
        assert bench.run(bench.values(node_url=url, ca_file=str(certificate))).code == 0
        stranger = bench.run(bench.values(node_url=url, claim_patience=0))
    assert stranger.code == 69
    assert "curl: (60)" in stranger.output
    assert len(bench.desk.claims) == 1


def test_a_configuration_handed_over_on_standard_input_needs_no_network(bench: Bench, tmp_path: Path) -> None:
    bench.install_runner(KEEP_CONFIG)
    handed = tmp_path / "x.jit"
    handed.write_text(CONFIG + "\n")
    handed.chmod(0o600)
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in [
        "bash",
        "cat",
        "chmod",
        "cp",
        "date",
        "dirname",
        "flock",
        "grep",
        "ln",
        "mkdir",
        "mv",
        "readlink",
        "rm",
        "sleep",
        "stat",
    ]:
        found = next(p for p in (Path("/usr/bin") / name, Path("/bin") / name) if p.exists())
        (commands / name).symlink_to(found)
    values = bench.values(handover=Handover.STDIN, node_url=None, secret=None)
    job = bench.run(values, stdin=handed, environment={"PATH": str(commands)})
    assert job.code == 0, job.output
    assert (bench.home / "jit").read_text() == CONFIG
    assert not handed.exists()
    assert bench.desk.reports == []
    assert bench.nothing_left()


@pytest.mark.parametrize("text", ["", "\n", "not a configuration\n"])
def test_nothing_useful_on_standard_input_is_told(bench: Bench, tmp_path: Path, text: str) -> None:
    handed = tmp_path / "x.jit"
    handed.write_text(text)
    job = bench.run(bench.values(handover=Handover.STDIN), stdin=handed)
    assert job.code == 66
    assert "no configuration on standard input" in job.output
    assert bench.nothing_left()


def test_a_device_on_standard_input_is_not_removed(bench: Bench) -> None:
    job = bench.run(bench.values(handover=Handover.STDIN))
    assert job.code == 66
    assert os.path.exists(os.devnull)


def test_the_users_own_curlrc_is_not_read(bench: Bench) -> None:
    (bench.home / ".curlrc").write_text('trace-ascii = "/dev/stderr"\n')
    job = bench.run()
    assert job.code == 0
    assert "Authorization" not in job.output


def _certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "tls.pem", directory / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
