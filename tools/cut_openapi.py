"""Cut GitHub's OpenAPI descriptions down to the calls this project makes and the webhooks it takes, prose stripped.

    npm install --prefix DIR @octokit/openapi @octokit/openapi-webhooks
    python tools/cut_openapi.py DIR/node_modules/@octokit/openapi tests/contract/openapi

The result holds, for each call, its parameters, request body and answers with every schema they lead to. Descriptions,
examples, titles and links are left out: they are prose, and most of the bulk.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RUNNERS = (
    ("get", "{scope}/actions/runners"),
    ("get", "{scope}/actions/runners/{runner_id}"),
    ("delete", "{scope}/actions/runners/{runner_id}"),
    ("post", "{scope}/actions/runners/generate-jitconfig"),
    ("post", "{scope}/actions/runners/registration-token"),
    ("post", "{scope}/actions/runners/remove-token"),
)
REPOSITORY = (
    ("get", "/repos/{owner}/{repo}"),
    ("get", "/repos/{owner}/{repo}/actions/runs"),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}"),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/jobs"),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/cancel"),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/force-cancel"),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/rerun-failed-jobs"),
    ("get", "/repos/{owner}/{repo}/actions/jobs/{job_id}"),
    ("get", "/repos/{owner}/{repo}/actions/jobs/{job_id}/logs"),
    ("post", "/repos/{owner}/{repo}/actions/jobs/{job_id}/rerun"),
)
HOOKS = (
    ("get", "{scope}/hooks"),
    ("post", "{scope}/hooks"),
    ("get", "{scope}/hooks/{hook_id}"),
    ("delete", "{scope}/hooks/{hook_id}"),
    ("post", "{scope}/hooks/{hook_id}/pings"),
    ("get", "{scope}/hooks/{hook_id}/deliveries"),
    ("get", "{scope}/hooks/{hook_id}/deliveries/{delivery_id}"),
    ("post", "{scope}/hooks/{hook_id}/deliveries/{delivery_id}/attempts"),
)
APP_HOOK = (
    ("get", "/app/hook/config"),
    ("patch", "/app/hook/config"),
    ("get", "/app/hook/deliveries"),
    ("get", "/app/hook/deliveries/{delivery_id}"),
    ("post", "/app/hook/deliveries/{delivery_id}/attempts"),
)
EVENTS = ("ping", *(f"workflow-job-{action}" for action in ("queued", "in-progress", "completed", "waiting")))
APPS = (
    ("get", "/app"),
    ("get", "/app/installations"),
    ("get", "/app/installations/{installation_id}"),
    ("delete", "/app/installations/{installation_id}"),
    ("put", "/app/installations/{installation_id}/suspended"),
    ("delete", "/app/installations/{installation_id}/suspended"),
    ("post", "/app/installations/{installation_id}/access_tokens"),
    ("get", "/repos/{owner}/{repo}/installation"),
    ("get", "/orgs/{org}/installation"),
    ("get", "/users/{username}/installation"),
    ("get", "/installation/repositories"),
    ("delete", "/installation/token"),
)
ACCOUNT = (("get", "/rate_limit"), ("get", "/user"), ("get", "/orgs/{org}/repos"))


def runners_of(scope: str) -> tuple[tuple[str, str], ...]:
    return tuple((method, path.replace("{scope}", scope)) for method, path in RUNNERS)


def hooks_of(scope: str) -> tuple[tuple[str, str], ...]:
    return tuple((method, path.replace("{scope}", scope)) for method, path in HOOKS)


CUTS: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "github.json": (
        "api.github.com.json",
        (*ACCOUNT, *APPS, *REPOSITORY, *runners_of("/repos/{owner}/{repo}"), *runners_of("/orgs/{org}")),
    ),
    "enterprise.json": (
        "ghec.json",
        (("get", "/enterprises/{enterprise}/installation"), *runners_of("/enterprises/{enterprise}")),
    ),
    "hooks.json": (
        "api.github.com.json",
        (*hooks_of("/repos/{owner}/{repo}"), *hooks_of("/orgs/{org}"), *APP_HOOK),
    ),
}
KEPT_OPERATION = ("operationId", "parameters", "requestBody", "responses")
PROSE = frozenset({"description", "summary", "title", "example", "examples", "externalDocs", "tags", "deprecated"})


def cut(whole: Mapping[str, Any], calls: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The part of an OpenAPI description that the calls (method, path) need."""
    paths: dict[str, Any] = {}
    for method, path in calls:
        operation = whole["paths"][path][method]
        paths.setdefault(path, {})[method] = strip({key: operation[key] for key in KEPT_OPERATION if key in operation})
    components = components_of(whole, paths)
    return {
        "openapi": whole["openapi"],
        "info": {"title": "cut", "version": whole["info"]["version"]},
        "paths": paths,
        "components": components,
    }


def cut_events(whole: Mapping[str, Any], events: tuple[str, ...]) -> dict[str, Any]:
    """The bodies of some webhooks, by the description's name of the event."""
    bodies = {
        event: strip(whole["webhooks"][event]["post"]["requestBody"]["content"]["application/json"]["schema"])
        for event in events
    }
    return {
        "info": {"title": "cut", "version": whole["info"]["version"]},
        "webhooks": bodies,
        "components": components_of(whole, bodies),
    }


def components_of(whole: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """All that the value leads to."""
    components: dict[str, Any] = {}
    open_references = list(references(value))
    while open_references:
        kind, name = open_references.pop()
        if name in components.setdefault(kind, {}):
            continue
        components[kind][name] = strip(whole["components"][kind][name])
        open_references.extend(references(components[kind][name]))
    return {kind: dict(sorted(found.items())) for kind, found in sorted(components.items())}


def strip(value: Any, *, names: bool = False) -> Any:
    """The value without prose; ``names`` says that the keys here are names of properties, not keywords."""
    if isinstance(value, dict):
        return {
            key: strip(item, names=key in ("properties", "responses", "headers", "content") and not names)
            for key, item in value.items()
            if names or (key not in PROSE and not key.startswith("x-"))
        }
    if isinstance(value, list):
        return [strip(item) for item in value]
    return value


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Every ``#/components/<kind>/<name>`` in the value."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            _, _, kind, name = reference.split("/")
            if kind != "examples":
                yield kind, name
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def main() -> None:
    """Write every cut into the directory named second, from the npm package's directory named first."""
    package, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for name, (source, calls) in CUTS.items():
        whole = json.loads((package / "generated" / source).read_text())
        text = json.dumps(cut(whole, calls), separators=(",", ":"), sort_keys=True)
        (target / name).write_text(text + "\n")
        print(f"{target / name}: {len(text)} bytes, {len(calls)} calls")
    webhooks = json.loads((package.parent / "openapi-webhooks/generated/api.github.com.json").read_text())
    text = json.dumps(cut_events(webhooks, EVENTS), separators=(",", ":"), sort_keys=True)
    (target / "events").mkdir(exist_ok=True)
    (target / "events/github.json").write_text(text + "\n")
    print(f"{target / 'events/github.json'}: {len(text)} bytes, {len(EVENTS)} events")


if __name__ == "__main__":
    main()
