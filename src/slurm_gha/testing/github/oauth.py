"""Who is calling: the client-credentials grant of runners, and the bearer tokens of runners and jobs.

Source: actions/runner, ``src/Sdk/WebApi/WebApi/OAuth/VssOAuthConstants.cs`` and ``VssOAuthTokenResponse.cs``; the
assertion is RFC 7523's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import jwt
from jwt.types import Options
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob, SimRunner

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
RUNNER_TOKEN_LIFETIME = 3000.0
JOB_TOKEN_LIFETIME = 86_400.0
ASSERTION_MAX_LIFETIME = 3600.0
SKEW = 300.0
KNOWN_LIMIT = 4096


class UnauthorisedError(Exception):
    """The caller is nobody known, or no longer."""


class Authority:
    """Gives out bearer tokens and knows them again. Nothing is stored: a token is signed, and names what it is for."""

    def __init__(self, github: GitHub) -> None:
        self._github = github
        self._key = hashlib.sha256(f"{github.url} {github.clock.now()}".encode()).digest()
        self._seen: dict[str, float] = {}
        self._known: dict[str, Mapping[str, Any]] = {}

    def token_for_runner(self, runner: SimRunner) -> str:
        return self._sign("runner", str(runner.id), RUNNER_TOKEN_LIFETIME)

    def token_for_job(self, job: SimJob, use: str = "job") -> str:
        """``use`` is ``job`` for the job's access token to the services, ``github`` for its GITHUB_TOKEN."""
        return self._sign(use, str(job.id), JOB_TOKEN_LIFETIME)

    def runner(self, request: Request) -> SimRunner:
        """The runner that calls; UnauthorisedError if it is none, or registered no longer."""
        runner = self._github.runners.get(int(self._subject(request, "runner")))
        if runner is None:
            raise UnauthorisedError("The runner registration has been deleted from the server.")
        return runner

    def job(self, request: Request, *uses: str) -> SimJob:
        """The job whose token is shown; UnauthorisedError otherwise."""
        job = self._github.jobs.get(int(self._subject(request, *(uses or ("job",)))))
        if job is None:
            raise UnauthorisedError("The token's job is gone.")
        return job

    def signature(self, text: str) -> str:
        """What makes an address that carries its own permission unguessable."""
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=20).hexdigest()

    def _sign(self, use: str, subject: str, lifetime: float) -> str:
        now = self._github.clock.now()
        claims = {"use": use, "sub": subject, "iat": int(now), "exp": int(now + lifetime)}
        return jwt.encode(claims, self._key, algorithm="HS256")

    def _subject(self, request: Request, *uses: str) -> str:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or not text:
            raise UnauthorisedError("A bearer token is needed.")
        claims = self._known.get(text)
        if claims is None:
            options: Options = {"verify_exp": False, "verify_iat": False}
            try:
                claims = jwt.decode(text, self._key, algorithms=["HS256"], options=options)
            except jwt.InvalidTokenError as error:
                raise UnauthorisedError(f"The bearer token is not ours: {error}") from error
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[text] = claims
        if claims["use"] not in uses or claims["exp"] <= self._github.clock.now():
            raise UnauthorisedError("The bearer token has expired, or is for something else.")
        return str(claims["sub"])

    async def token(self, request: Request) -> Response:
        """POST of the token endpoint: an RSA-signed assertion in, a bearer token out."""
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "client_credentials" or form.get("client_assertion_type") != ASSERTION_TYPE:
            return _refused(
                "unsupported_grant_type", "client_credentials with a JWT bearer assertion is what is served"
            )
        try:
            runner = self._verify(form.get("client_assertion", ""))
        except (jwt.InvalidTokenError, UnauthorisedError) as error:
            return _refused("invalid_client", str(error))
        lifetime = int(RUNNER_TOKEN_LIFETIME)
        answer = {"access_token": self.token_for_runner(runner), "token_type": "access_token", "expires_in": lifetime}
        return JSONResponse(answer)

    def _verify(self, assertion: str) -> SimRunner:
        claimed: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
        runner = self._github.runner_by_client_id(str(claimed.get("sub", "")))
        if runner is None:
            raise UnauthorisedError(f"Registration {claimed.get('sub')} was not found.")
        # Times are checked below: the library would compare them with the machine's clock.
        claims = jwt.decode(
            assertion,
            runner.public_key,
            algorithms=["RS256"],
            audience=self._github.addresses.token,
            issuer=runner.client_id,
            options={
                "require": ["exp", "nbf", "aud", "iss", "sub", "jti"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        now = self._github.clock.now()
        if not claims["nbf"] - SKEW <= now < claims["exp"] + SKEW:
            raise UnauthorisedError("The assertion is not valid at this time; check the machine's clock.")
        if claims["exp"] - claims["nbf"] > ASSERTION_MAX_LIFETIME:
            raise UnauthorisedError("The assertion is valid for too long.")
        if len(self._seen) >= KNOWN_LIMIT:
            self._seen = {jti: until for jti, until in self._seen.items() if until > now}
        if claims["jti"] in self._seen:
            raise UnauthorisedError("The assertion was used before.")
        self._seen[claims["jti"]] = claims["exp"] + SKEW
        return runner


def _refused(error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status_code=400)
