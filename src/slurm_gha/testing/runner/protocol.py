"""The runner's side of its protocol with the service: sign in, session, long poll, job, results.

Shared by the stand-in runner (a process) and the virtual one (a task in a simulation).
Source: actions/runner, ``src/Sdk/WebApi/WebApi/BrokerHttpClient.cs``, ``src/Sdk/RSWebApi/RunServiceHttpClient.cs``,
``src/Sdk/WebApi/WebApi/ResultsHttpClient.cs``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import anyio
import httpx2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.secret import Secret

VERSION = "2.330.0"
POLL_TIMEOUT = 100.0
TIMEOUT = 30.0
ASSERTION_LIFETIME = 300
ACQUIRE_PAUSES = (1.0, 5.0, 10.0, 20.0)
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_RECEIVER = "twirp/results.services.receiver.Receiver/"
_STEPS = "twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate"
Message = Mapping[str, Any]


class ProtocolError(Exception):
    """The service answered, and not with what was asked for; ``status`` is that of the answer, 0 for none."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ConfigurationError(ProtocolError):
    """The JIT configuration is not one."""


class SignInError(ProtocolError):
    """The service does not know this runner (any longer), or its key."""


class SessionConflictError(ProtocolError):
    """A session is open for this runner already."""


class SessionLostError(ProtocolError):
    """The session is over: closed by the service, or the runner was removed."""


class VersionDeprecatedError(ProtocolError):
    """The service no longer serves this version of the runner."""


class JobGoneError(ProtocolError):
    """The job is not this runner's (any longer)."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A JIT configuration, unpacked: ``files`` by name, as they are to be written into the runner's root."""

    agent_id: int
    agent_name: str
    work_folder: str
    broker_url: str
    client_id: str
    token_url: str
    github_url: str
    files: Mapping[str, Secret] = field(repr=False)

    @classmethod
    def decode(cls, jit: Secret) -> Configuration:
        """Read the text that ``--jitconfig`` takes; the error never holds it."""
        try:
            packed = json.loads(base64.b64decode(jit.reveal()))
            files = {str(name): base64.b64decode(text).decode() for name, text in packed.items()}
            runner, data = json.loads(files[".runner"]), json.loads(files[".credentials"])["Data"]
            return cls(
                agent_id=int(runner["AgentId"]),
                agent_name=str(runner["AgentName"]),
                work_folder=str(runner["WorkFolder"]),
                broker_url=str(runner["ServerUrlV2"]),
                client_id=str(data["clientId"]),
                token_url=str(data["authorizationUrl"]),
                github_url=str(runner["GitHubUrl"]),
                files={name: Secret(text) for name, text in files.items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigurationError("the JIT configuration is not base64 of GitHub's JSON") from None

    def key(self) -> rsa.RSAPrivateKey:
        """The private key of ``.credentials_rsaparams``."""
        given = json.loads(self.files[".credentials_rsaparams"].reveal())
        number = {name: int.from_bytes(base64.b64decode(text), "big") for name, text in given.items()}
        return rsa.RSAPrivateNumbers(
            p=number["p"],
            q=number["q"],
            d=number["d"],
            dmp1=number["dp"],
            dmq1=number["dq"],
            iqmp=number["inverseQ"],
            public_numbers=rsa.RSAPublicNumbers(number["exponent"], number["modulus"]),
        ).private_key(unsafe_skip_rsa_key_validation=True)


@dataclass(frozen=True, slots=True)
class JobOffer:
    """A job is there for this runner."""

    id: str
    run_service_url: str
    billing_owner_id: str
    should_acknowledge: bool


@dataclass(frozen=True, slots=True)
class JobCancellation:
    """The running job is to stop."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobLease:
    """A job taken, and how to speak of it to the services."""

    message: Message = field(repr=False)
    run_service_url: str

    @property
    def job_id(self) -> str:
        return str(self.message["jobId"])

    @property
    def plan_id(self) -> str:
        return str(self.message["plan"]["planId"])

    @property
    def name(self) -> str:
        return str(self.message["jobDisplayName"])

    @property
    def locked_until(self) -> float:
        return _time(self.message["lockedUntil"])

    @property
    def results_url(self) -> str:
        return str(self.message["variables"]["system.github.results_endpoint"]["value"])

    @property
    def token(self) -> Secret:
        (endpoint,) = (each for each in self.message["resources"]["endpoints"] if each["name"] == "SystemVssConnection")
        return Secret(endpoint["authorization"]["parameters"]["AccessToken"])


class RunnerConnection:
    """One runner's conversation with the service. Raises ProtocolError subclasses, and httpx2's own for no answer."""

    def __init__(
        self, client: httpx2.AsyncClient, configuration: Configuration, clock: Clock, *, version: str = VERSION
    ) -> None:
        self._client, self._configuration, self._clock = client, configuration, clock
        self._version = version
        self._token = Secret("")
        self._token_until = 0.0
        self.session_id: str | None = None

    async def open_session(self) -> str:
        """Go online."""
        agent = {
            "id": self._configuration.agent_id,
            "name": self._configuration.agent_name,
            "version": self._version,
            "osDescription": "Linux",
        }
        body = {"ownerName": self._configuration.agent_name, "agent": agent, "useFipsEncryption": True}
        answer = await self._call("POST", self._broker("session"), body)
        if answer.status_code == 409:
            raise SessionConflictError(_text(answer), status=409)
        self.session_id = str(_checked(answer)["sessionId"])
        return self.session_id

    async def close_session(self) -> None:
        """Go offline; the service removes an ephemeral runner that has had its job."""
        if self.session_id is not None:
            self.session_id = None
            with contextlib.suppress(SignInError):  # a registration that is gone has no session either
                await self._call("DELETE", self._broker("session"))

    async def poll(self, *, busy: bool = False) -> JobOffer | JobCancellation | None:
        """One long poll (the service ends it after about 50 s); None when there was no news."""
        answer = await self._call("GET", self._broker("message"), query=self._about(busy), timeout=POLL_TIMEOUT)
        if answer.status_code == 202 or (answer.is_success and not answer.content):
            return None
        if not answer.is_success:
            raise _broker_error(answer)
        message = _checked(answer)
        try:
            return _news(message)
        except (ValueError, KeyError, TypeError):
            raise ProtocolError("the message is not one of the broker's") from None

    async def take(self, offer: JobOffer) -> JobLease:
        """Acknowledge the offer and acquire the job; JobGoneError when another has it by now.

        Acquiring is repeated when no clear answer came: the service may have given the job away to us already.
        """
        if offer.should_acknowledge:
            with contextlib.suppress(ProtocolError, httpx2.HTTPError):
                about = self._about(busy=False)
                await self._call("POST", self._broker("acknowledge"), {"runnerRequestId": offer.id}, query=about)
        for pause in ACQUIRE_PAUSES:
            try:
                return await self._acquire(offer)
            except (JobGoneError, SignInError):
                raise
            except (ProtocolError, httpx2.HTTPError):
                await self._clock.sleep(pause)
        return await self._acquire(offer)

    async def _acquire(self, offer: JobOffer) -> JobLease:
        body = {"jobMessageId": offer.id, "runnerOS": "Linux", "billingOwnerId": offer.billing_owner_id}
        answer = await self._call("POST", offer.run_service_url + "acquirejob", body)
        if answer.status_code in (404, 409, 422):
            raise JobGoneError(_text(answer), status=answer.status_code)
        return JobLease(_checked(answer), offer.run_service_url)

    async def renew(self, job: JobLease) -> float:
        """Keep the job for another while; until when."""
        body = {"planId": job.plan_id, "jobId": job.job_id}
        answer = await self._call("POST", job.run_service_url + "renewjob", body)
        if answer.status_code == 404:
            raise JobGoneError(_text(answer), status=404)
        return _time(_checked(answer)["lockedUntil"])

    async def complete(
        self, job: JobLease, result: str, outputs: Mapping[str, str] | None = None, steps: Sequence[Message] = ()
    ) -> None:
        """Say how the job ended: ``result`` is a TaskResult's word, as are the steps' conclusions."""
        body = {
            "planId": job.plan_id,
            "jobId": job.job_id,
            "conclusion": result,
            "outputs": {name: {"value": value} for name, value in (outputs or {}).items()},
            "stepResults": list(steps),
            "billingOwnerId": job.message.get("billingOwnerId"),
        }
        answer = await self._call("POST", job.run_service_url + "completejob", body)
        if answer.status_code == 404:
            raise JobGoneError(_text(answer), status=404)
        _checked(answer)

    # Results

    async def update_steps(self, job: JobLease, steps: Sequence[Message], order: int) -> None:
        """Show the steps so far; ``steps`` in the results service's own form."""
        await self._results(job, _STEPS, {"steps": list(steps), "change_order": order})

    async def upload_log(self, job: JobLease, text: str) -> None:
        """The job's whole log."""
        signed = await self._results(job, _RECEIVER + "GetJobLogsSignedBlobURL", {})
        await self._put(str(signed["logs_url"]), text)
        lines = {"line_count": text.count("\n"), "uploaded_at": ""}
        await self._results(job, _RECEIVER + "CreateJobLogsMetadata", lines)

    async def upload_summary(self, job: JobLease, step_id: str, text: str) -> None:
        """What a step wrote into GITHUB_STEP_SUMMARY."""
        asked = {"step_backend_id": step_id}
        signed = await self._results(job, _RECEIVER + "GetStepSummarySignedBlobURL", asked)
        await self._put(str(signed["summary_url"]), text)
        size = {**asked, "size": len(text.encode()), "uploaded_at": ""}
        await self._results(job, _RECEIVER + "CreateStepSummaryMetadata", size)

    async def _results(self, job: JobLease, method: str, body: Message) -> Message:
        about = {"workflow_run_backend_id": job.plan_id, "workflow_job_run_backend_id": job.job_id}
        headers = {"Authorization": f"Bearer {job.token.reveal()}"}
        url = job.results_url + method
        return _checked(await self._send("POST", url, json={**about, **body}, headers=headers))

    async def _put(self, url: str, text: str) -> None:
        headers = {"x-ms-blob-type": "BlockBlob"}
        answer = await self._send("PUT", url, content=text.encode(), headers=headers)
        if not answer.is_success:
            raise ProtocolError(f"upload: {answer.status_code}", status=answer.status_code)

    # Calls

    def _broker(self, path: str) -> str:
        return self._configuration.broker_url + path

    def _about(self, busy: bool) -> dict[str, str]:
        return {
            "sessionId": self.session_id or "",
            "status": "Busy" if busy else "Online",
            "runnerVersion": self._version,
            "os": "Linux",
            "architecture": "X64",
            "disableUpdate": "true",
        }

    async def _call(
        self,
        method: str,
        url: str,
        body: Message | None = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> httpx2.Response:
        """One call with the runner's token; signs in first when there is none, and once more when it is refused."""
        for attempt in (1, 2):
            if self._clock.now() >= self._token_until:
                await self._sign_in()
            headers = {
                "Authorization": f"Bearer {self._token.reveal()}",
                "User-Agent": f"stand-in-runner/{self._version}",
            }
            answer = await self._send(method, url, timeout, json=body, params=query, headers=headers)
            if answer.status_code != 401:
                break
            if attempt == 2:
                raise SignInError(_text(answer), status=401)
            self._token_until = 0.0
        return answer

    async def _send(self, method: str, url: str, timeout: float = TIMEOUT, **content: Any) -> httpx2.Response:
        """One exchange. Timed by the event loop's clock: a service in the same process has no network to time out."""
        try:
            with anyio.fail_after(timeout):
                return await self._client.request(method, url, timeout=None, **content)
        except TimeoutError:
            raise ProtocolError(f"no answer within {timeout:g} s") from None

    async def _sign_in(self) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(),
        }
        answer = await self._send("POST", self._configuration.token_url, data=form)
        if answer.status_code in (400, 401):
            raise SignInError(_text(answer), status=answer.status_code)
        granted = _checked(answer)
        self._token = Secret(str(granted["access_token"]))
        self._token_until = self._clock.now() + float(granted["expires_in"]) - 60

    def _assertion(self) -> str:
        now, who = int(self._clock.now()), self._configuration.client_id
        header = {"alg": "RS256", "typ": "JWT"}
        claims = {
            "iss": who,
            "sub": who,
            "aud": self._configuration.token_url,
            "nbf": now,
            "exp": now + ASSERTION_LIFETIME,
            "jti": secrets.token_hex(16),
        }
        signed = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = self._configuration.key().sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return b".".join((signed, _base64url(signature))).decode()


def _time(text: str) -> float:
    """Seconds since 1970 of a time as the services write it."""
    return datetime.fromisoformat(text).timestamp()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _text(answer: httpx2.Response) -> str:
    """What an error answer says; never a whole page."""
    try:
        body = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}"
    fields = ("errorMessage", "error_description", "message", "msg")
    said = next((str(body[each]) for each in fields if isinstance(body, dict) and body.get(each)), "")
    return said[:300] or f"HTTP {answer.status_code}"


def _checked(answer: httpx2.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise ProtocolError(f"{answer.request.url.path}: {_text(answer)}", status=answer.status_code)
    try:
        body = answer.json()
    except ValueError:
        raise ProtocolError(f"{answer.request.url.path}: the answer is not JSON", status=answer.status_code) from None
    if not isinstance(body, dict):
        raise ProtocolError(f"{answer.request.url.path}: the answer is not an object", status=answer.status_code)
    return body


def _news(message: Message) -> JobOffer | JobCancellation | None:
    body = json.loads(message["body"])
    match message["messageType"]:
        case "RunnerJobRequest":
            return JobOffer(
                str(body["runner_request_id"]),
                str(body["run_service_url"]),
                str(body.get("billing_owner_id") or ""),
                bool(body.get("should_acknowledge")),
            )
        case "JobCancellation":
            return JobCancellation(str(body["jobId"]))
        case _:
            return None


def _broker_error(answer: httpx2.Response) -> ProtocolError:
    try:
        kind = answer.json().get("errorKind")
    except (ValueError, AttributeError):
        kind = None
    found = {
        "RunnerVersionTooOld": VersionDeprecatedError,
        "RunnerSessionInvalid": SessionLostError,
        "RunnerNotFound": SessionLostError,
    }.get(str(kind), ProtocolError)
    return found(_text(answer), status=answer.status_code)
