"""What others could see while runners come and go: never a token, a claim secret, a report token, a configuration."""

from __future__ import annotations

import base64
import http.client
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.scene import LONG, Scene, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import TOKEN, free_port

# The one place in an environment where a configuration belongs: it is how actions/runner takes it without an argument.
JIT_VARIABLE = b"ACTIONS_RUNNER_INPUT_JITCONFIG="
CLAIM_SECRET = re.compile(r"^SG_SECRET='([^']+)'$", re.MULTILINE)


class Eavesdropper:
    """Stands between nodes and service, and notes what is secret there; forwards everything as it is."""

    def __init__(self) -> None:
        self.claim_secrets: set[str] = set()
        self.report_tokens: set[str] = set()
        self.configurations: set[str] = set()

    def heard(self, path: str, bearer: str, status: int, body: bytes, report_token: str | None) -> None:
        if path.endswith("/claim"):
            self.claim_secrets.add(bearer)
        if status == 200:
            self.configurations.add(body.decode().strip())
        if report_token is not None:
            self.report_tokens.add(report_token)

    @contextmanager
    def between(self, port: int, service_port: int) -> Iterator[None]:
        ear = self

        class Forward(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                connection = http.client.HTTPConnection("127.0.0.1", service_port, timeout=30)
                try:
                    connection.request("POST", self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                except OSError:
                    self.send_error(502)
                    return
                finally:
                    connection.close()
                bearer = self.headers["authorization"].removeprefix("Bearer ")
                ear.heard(self.path, bearer, answer.status, content, answer.headers["x-report-token"])
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: object) -> None:
                return

        with ThreadingHTTPServer(("127.0.0.1", port), Forward) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


class Onlooker:
    """Looks all the time, and keeps what it has seen, each text once, with where it was."""

    def __init__(self, stage: Scene) -> None:
        self._stage = stage
        self._stop = threading.Event()
        self.arguments: set[bytes] = set()
        self.environments: set[bytes] = set()
        self.open_files: dict[bytes, str] = {}
        self.listings: set[bytes] = set()
        self.looks = 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        threads = [threading.Thread(target=each) for each in (self._at_processes, self._at_slurm)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _at_processes(self) -> None:
        while not self._stop.wait(0.01):
            self.looks += 1
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self.arguments.add(_read(entry / "cmdline"))
                    if _owner(entry) == self._stage.slurm.uid:
                        self.environments.add(_read(entry / "environ"))
            self._at_files()

    def _at_files(self) -> None:
        """Files that their own mode opens to others, wherever they stand; the runner's unchanged parts left out."""
        stage = self._stage
        for place in (stage.state_dir, stage.output_dir, stage.handover_dir, stage.node_dir):
            for folder, folders, files in os.walk(place):
                folders[:] = [name for name in folders if name not in ("bin", "externals")]
                for name in files:
                    path = Path(folder, name)
                    if path.is_file() and _mode(path) & 0o044:  # a pipe would keep its reader waiting
                        self.open_files.setdefault(_read(path), str(path))

    def _at_slurm(self) -> None:
        queries = (["scontrol", "--details", "show", "job"], ["squeue", "-t", "all", "-o", "%all"])
        while not self._stop.wait(0.3):
            for query in queries:
                done = self._stage.slurm.run(*query, check=False)
                self.listings.add((done.stdout + done.stderr).encode())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except OSError:
        return 0


def pieces(secret: str) -> list[bytes]:
    """The secret itself, and as base64 and hexadecimal would hide it."""
    text = secret.encode()
    return [text, base64.b64encode(text).rstrip(b"="), text.hex().encode()]


def holding(texts: set[bytes], secrets: set[str]) -> list[bytes]:
    return [text for text in texts if any(piece in text for secret in secrets for piece in pieces(secret))]


def nothing_was_seen(stage: Scene, onlooker: Onlooker, configurations: set[str], others: set[str]) -> None:
    everything = configurations | others
    assert onlooker.looks > 20
    assert any(b"run.sh" in line for line in onlooker.arguments), "it did look while a runner ran"
    assert any(JIT_VARIABLE in text for text in onlooker.environments), "and into its environment"
    assert any(b"JobName=" in text for text in onlooker.listings)
    assert holding(onlooker.arguments, everything) == []
    assert holding(onlooker.environments, others) == []
    variables = {variable for text in onlooker.environments for variable in text.split(b"\0")}
    where = holding(variables, configurations)
    assert where, "what is looked for can be found"
    assert all(variable.startswith(JIT_VARIABLE) for variable in where)
    assert holding(onlooker.listings, everything) == []
    assert [onlooker.open_files[text] for text in holding(set(onlooker.open_files), everything)] == []
    lasting = [stage.log, *stage.output_dir.iterdir(), *stage.state_dir.iterdir()]
    lasting += [path for path in stage.slurm.directory.joinpath("log").iterdir() if path.is_file()]
    assert {path.name for path in lasting} >= {"journal.sqlite", "service.log", "slurmctld.log"}
    assert [path for path in lasting if holding({path.read_bytes()}, everything)] == []


def claim_secret(stage: Scene, name: str) -> str:
    """What the batch script holds, as its owner may read it back from Slurm."""
    text = stage.slurm.run("scontrol", "write", "batch_script", stage.slurm_id(name), "-").stdout
    found = CLAIM_SECRET.search(text)
    assert found is not None
    return found[1]


def dump(stage: Scene) -> str:
    """A step that writes its environment where we can read it."""
    return f"env -0 >>{stage.base}/environment; sleep 1"


def test_with_claims(slurm: PrivateSlurm) -> None:
    ear, port = Eavesdropper(), free_port()
    overrides = {"service": {"node_url": f"http://127.0.0.1:{port}", "log_level": "debug"}}
    with scene(slurm, overrides=overrides) as stage, ear.between(port, stage.port):
        onlooker = Onlooker(stage)
        with onlooker.looking():
            stage.fill_cluster()
            run = stage.push(workflow(a=job(dump(stage)), b=job(dump(stage), needs="a"), c=job(LONG)))
            stage.until(lambda: list(stage.live_slurm_jobs().values()) == ["PENDING"] * 2, 30, "two are pending")
            waiting = {claim_secret(stage, name) for name in stage.live_slurm_jobs()}
            stage.empty_cluster()
            stage.until_running(run, "c")
            stage.until(lambda: stage.conclusions(run).get("b"), 60, "the others are over")
            stage.github.cancel_run("lab/demo", run.id)
            assert stage.until_completed(run) == {"a": "success", "b": "success", "c": "cancelled"}
            stage.ends_clean()
        assert len(ear.configurations) == len(ear.report_tokens) == len(ear.claim_secrets) == 3
        assert waiting < ear.claim_secrets
        others = {TOKEN} | ear.claim_secrets | ear.report_tokens
        nothing_was_seen(stage, onlooker, ear.configurations, others)
        steps = set((stage.base / "environment").read_bytes().split(b"\0"))
        assert b"GITHUB_ACTIONS=true" in steps
        assert holding(steps, others | ear.configurations) == []


def test_a_wrong_secret_and_a_used_one(slurm: PrivateSlurm) -> None:
    """What somebody with a copy of the batch script could do, before, while and after its Slurm job runs: nothing."""
    with scene(slurm) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job(LONG)))
        name = stage.until_pending()
        secret, number = claim_secret(stage, name), stage.slurm_id(name)
        assert ask(stage, name, secret, number) == 503, "not before the job runs"
        assert list(stage.github.runners) == []
        stage.empty_cluster()
        stage.until_running(run, "a")
        assert ask(stage, name, secret, number) == 403, "not twice"
        assert ask(stage, name, "wrong" + secret[5:], number) == 403
        assert ask(stage, name, secret, str(int(number) + 1)) == 403
        assert len(stage.github.runners) == 1
        stage.github.cancel_run("lab/demo", run.id)
        stage.ends_clean()
        assert ask(stage, name, secret, number) == 403, "not after"
        assert secret not in stage.log.read_text()


def test_with_configurations_handed_over(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[pool(handover="stdin")], overrides={"service": {"log_level": "debug"}}) as stage:
        onlooker = Onlooker(stage)
        with onlooker.looking():
            stage.fill_cluster()
            run = stage.push(workflow(a=job(dump(stage))))
            name = stage.until_pending()
            (file,) = stage.handover_dir.iterdir()
            assert _mode(file) == 0o600
            configuration = file.read_text().strip()
            script = stage.slurm.run("scontrol", "write", "batch_script", stage.slurm_id(name), "-").stdout
            assert configuration not in script
            assert CLAIM_SECRET.search(script) is None, "there is no claim secret where nothing is claimed"
            stage.empty_cluster()
            assert stage.until_completed(run) == {"a": "success"}
            stage.ends_clean()
        nothing_was_seen(stage, onlooker, {configuration}, {TOKEN})


def ask(stage: Scene, name: str, secret: str, slurm_id: str) -> int:
    """The status of a claim."""
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=30)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        connection.request("POST", f"/v1/runners/{name}/claim", f"slurm_job_id={slurm_id}&node=n1", headers)
        return connection.getresponse().status
    finally:
        connection.close()
