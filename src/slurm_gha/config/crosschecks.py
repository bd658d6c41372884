"""Mistakes that only show when two settings are seen together.

These work on the raw document, so that they are found in the same pass as the mistakes of single settings; whatever
has the wrong type is passed over here, since the schema complains about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from slurm_gha.config.addresses import make_scope, split_url
from slurm_gha.config.boundchecks import bound_findings
from slurm_gha.config.mistakes import KeyPath, shown
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.units import parse_duration, parse_time_limit, show_duration

Finding = tuple[KeyPath, str]


def findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Every mistake between settings, with the path of the key to change."""
    yield from _service(_table(document, "service"))
    yield from _poll(_table(document, "poll"))
    yield from _duplicate_names(document, "scope")
    yield from _duplicate_names(document, "pool")
    yield from _tokens(document)
    yield from _installations(document)
    yield from _webhooks(document)
    yield from _scopes(document)
    yield from _pools(document)
    yield from _scale_sets(document)
    yield from _images(document)
    yield from _handovers(document)


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _tables(document: Mapping[str, Any], key: str) -> list[tuple[int, Mapping[str, Any]]]:
    value = document.get(key)
    return [(i, item) for i, item in enumerate(value) if isinstance(item, dict)] if isinstance(value, list) else []


def _strings(value: object) -> list[tuple[int, str]]:
    return [(i, item) for i, item in enumerate(value) if isinstance(item, str)] if isinstance(value, list) else []


def _seconds(value: object, default: float) -> float:
    try:
        return parse_duration(value) if isinstance(value, str) else default
    except ValueError:
        return default


def _service(service: Mapping[str, Any]) -> Iterator[Finding]:
    for given, missing in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        if given in service and missing not in service:
            yield ("service", given), f"needs {missing} as well"
    url = service.get("node_url")
    if isinstance(url, str):
        try:
            scheme = split_url(url).scheme
        except ValueError:
            return
        if scheme == "http" and "tls_certificate" in service:
            yield ("service", "node_url"), "must begin with https://, since tls_certificate is set"
        if scheme == "http" and "ca_file" in service:
            yield ("service", "ca_file"), "is of no use while node_url begins with http://"


def _poll(poll: Mapping[str, Any]) -> Iterator[Finding]:
    busy, idle = _seconds(poll.get("busy_interval"), 5.0), _seconds(poll.get("idle_interval"), 30.0)
    if busy > idle:
        key = "idle_interval" if "idle_interval" in poll else "busy_interval"
        yield (
            ("poll", key),
            f"idle_interval ({show_duration(idle)}) must not be shorter than busy_interval ({show_duration(busy)})",
        )


def _duplicate_names(document: Mapping[str, Any], key: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, table in _tables(document, key):
        name = table.get("name")
        if isinstance(name, str):
            if name in seen:
                yield (key, index, "name"), f'there is another {key} named "{shown(name)}"; names must differ'
            seen.add(name)


def _tokens(document: Mapping[str, Any]) -> Iterator[Finding]:
    for index, scope in _tables(document, "scope"):
        given = [key for key in ("token_file", "token_env", "app_id") if key in scope]
        if len(given) > 1:
            yield ("scope", index, given[1]), f"is too much beside {given[0]}; keep one of the two"
        elif not given and "token" not in scope and "private_key_file" not in scope:
            yield (
                ("scope", index),
                "needs a token: token_file (path of a private file) or token_env (name of a variable); "
                "or a GitHub App: app_id and private_key_file",
            )
        if "app_id" in scope and "private_key_file" not in scope and "private_key" not in scope:
            yield ("scope", index, "app_id"), "needs private_key_file as well, the file with the App's private key"
        for key in ("private_key_file", "installation_id"):
            if key in scope and "app_id" not in scope:
                yield ("scope", index, key), "needs app_id as well, the GitHub App's number or client ID"


def _installations(document: Mapping[str, Any]) -> Iterator[Finding]:
    """An App has one installation on an account: scopes of that account cannot name two."""
    seen: dict[tuple[str, str, str], object] = {}
    for index, scope in _parsed_scopes(document):
        table = document["scope"][index]
        number = table.get("installation_id")
        if number is None or "app_id" not in table:
            continue
        account = scope.path.lower() if scope.kind is ScopeKind.ENTERPRISE else scope.path.lower().partition("/")[0]
        if seen.setdefault((scope.api_url, str(table["app_id"]), account), number) != number:
            yield (
                ("scope", index, "installation_id"),
                "differs from that of another scope of the same account and App; an App has one installation there",
            )


def _webhooks(document: Mapping[str, Any]) -> Iterator[Finding]:
    for index, scope in _tables(document, "scope"):
        listed = [word for _, word in _strings(scope.get("sources"))]
        keys = [key for key in ("webhook_secret_file", "webhook_secret_env", "webhook_id") if key in scope]
        if "webhook" not in listed:
            for key in keys:
                yield ("scope", index, key), 'is of no use without "webhook" in sources'
        elif "webhook_secret_file" in keys and "webhook_secret_env" in keys:
            yield ("scope", index, "webhook_secret_env"), "is too much beside webhook_secret_file; keep one of the two"
        elif not {"webhook_secret_file", "webhook_secret_env", "webhook_secret"} & scope.keys():
            yield (
                ("scope", index, "sources"),
                'needs the webhook\'s secret for "webhook": webhook_secret_file (path of a private file) or '
                "webhook_secret_env (name of a variable)",
            )
        for word in sorted({word for word in listed if listed.count(word) > 1}):
            yield ("scope", index, "sources"), f'"{shown(word)}" is there twice'


def _parsed_scopes(document: Mapping[str, Any]) -> Iterator[tuple[int, Scope]]:
    for index, table in _tables(document, "scope"):
        url, api_url = table.get("url"), table.get("api_url")
        repositories = tuple(entry for _, entry in _strings(table.get("repositories")))
        if isinstance(url, str):
            try:
                name = str(table.get("name"))
                yield index, make_scope(name, url, api_url if isinstance(api_url, str) else None, repositories)
            except ValueError:
                continue


def _scopes(document: Mapping[str, Any]) -> Iterator[Finding]:
    earlier: list[Scope] = []
    for index, scope in _parsed_scopes(document):
        table = document["scope"][index]
        entries = _strings(table.get("repositories"))
        if entries and scope.kind is ScopeKind.REPOSITORY:
            yield (
                ("scope", index, "repositories"),
                "is only for organisations and enterprises; this url is a repository",
            )
        if not entries and scope.kind is ScopeKind.ENTERPRISE:
            yield ("scope", index), "needs repositories: GitHub cannot list those of an enterprise"
        for position, entry in entries:
            place = ("scope", index, "repositories", position)
            if scope.kind is ScopeKind.ORGANISATION and "/" in entry:
                if entry.split("/")[0].lower() != scope.path.lower():
                    yield place, f'must be a repository of the organisation "{shown(scope.path)}"'
            elif scope.kind is ScopeKind.ENTERPRISE and "/" not in entry:
                yield place, 'must be written in full, as "owner/name"'
        for other in earlier:
            if _overlap(scope, other):
                yield (
                    ("scope", index, "url"),
                    f'covers jobs that scope "{shown(other.name)}" covers too; each job must belong to one scope only '
                    "(use repositories to part them)",
                )
                break
        earlier.append(scope)


def _overlap(one: Scope, other: Scope) -> bool:
    """Whether some repository's jobs would be seen through both, as far as the file tells."""
    if one.api_url.lower() != other.api_url.lower():
        return False
    first, second = _covered(one), _covered(other)
    if first is not None and second is not None:
        return not first.isdisjoint(second)
    organisation, rest, covered = (one, other, second) if first is None else (other, one, first)
    if covered is None:
        return organisation.path.lower() == rest.path.lower()
    return any(entry.split("/")[0] == organisation.path.lower() for entry in covered)


def _covered(scope: Scope) -> frozenset[str] | None:
    """The repositories of a scope; None for a whole organisation."""
    if scope.kind is ScopeKind.REPOSITORY:
        return frozenset({scope.path.lower()})
    if scope.kind is ScopeKind.ENTERPRISE:
        return frozenset(scope.repositories)
    return frozenset(scope.repositories) or None


def _pools(document: Mapping[str, Any]) -> Iterator[Finding]:
    scopes = [name for _, table in _tables(document, "scope") if isinstance(name := table.get("name"), str)]
    pools = _tables(document, "pool")
    before_end = _seconds(_table(document, "slurm").get("signal_before_end"), 60.0)
    for index, pool in pools:
        for position, name in _strings(pool.get("scopes")):
            if name not in scopes:
                known = ", ".join(f'"{shown(scope)}"' for scope in dict.fromkeys(scopes)) or "none"
                yield ("pool", index, "scopes", position), f'there is no scope "{shown(name)}"; there is: {known}'
        seen: set[str] = set()
        for position, label in _strings(pool.get("labels")):
            folded = label.strip().lower()
            if folded in seen:
                yield ("pool", index, "labels", position), f'"{shown(label)}" is there twice (case does not matter)'
            seen.add(folded)
        yield from _launcher(index, pool)
        allow = _table(pool, "allow")
        if allow.get("forks") is True and allow.get("branches"):
            yield ("pool", index, "allow", "forks"), "is of no use beside branches: no branch of a fork is among them"
        yield from bound_findings(("pool", index), pool)
        request = pool.get("slurm")
        if isinstance(request, dict):
            yield from _request(("pool", index, "slurm"), request, before_end)
    for index, table in _tables(document, "scope"):
        name = table.get("name")
        if pools and isinstance(name, str) and all(_leaves_out(pool, name) for _, pool in pools):
            yield ("scope", index, "name"), f'no pool serves the scope "{shown(name)}"; add it to scopes of a pool'


def _scale_sets(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Two pools cannot share a scale set: GitHub would not say whose a job is."""
    users = {
        str(table.get("name"))
        for _, table in _tables(document, "scope")
        if any(word == "scaleset" for _, word in _strings(table.get("sources")))
    }
    seen: dict[tuple[str, str], str] = {}
    for index, pool in _tables(document, "pool"):
        own = {name for _, name in _strings(pool.get("scopes"))} & users if "scopes" in pool else users
        name = pool.get("scale_set", pool.get("name"))
        for scope in sorted(own):
            other = seen.setdefault((scope, str(name).lower()), str(pool.get("name")))
            if isinstance(name, str) and other != str(pool.get("name")):
                key = "scale_set" if "scale_set" in pool else "name"
                yield ("pool", index, key), f'pool "{shown(other)}" has a scale set of this name in the same scope'
                break


_CONTAINER_KEYS = ("image", "image_runner_dir", "host_loopback")
_APPTAINER_KEYS = ("docker_in_job", "nvidia", "fakeroot", "scratch")


def _launcher(index: int, pool: Mapping[str, Any]) -> Iterator[Finding]:
    """A pool's launcher and the keys that only some launchers know."""
    launcher = pool.get("launcher", "host")
    if launcher == "host":
        if "runner_dir" not in pool:
            yield ("pool", index), 'needs runner_dir, an unpacked actions/runner on the nodes, for launcher = "host"'
    elif "image" not in pool:
        yield (
            ("pool", index),
            f'needs image, what the runner\'s container is made of, for launcher = "{shown(launcher)}"',
        )
    allowed = {
        "host": (),
        "apptainer": (*_CONTAINER_KEYS, *_APPTAINER_KEYS),
        "stargz": (*_CONTAINER_KEYS, "snapshotter"),
    }.get(launcher, _CONTAINER_KEYS)
    for key in (*_CONTAINER_KEYS, *_APPTAINER_KEYS, "snapshotter"):
        if key in pool and key not in allowed:
            yield ("pool", index, key), f'is of no use with launcher = "{shown(launcher)}"'


def _images(document: Mapping[str, Any]) -> Iterator[Finding]:
    """A container sees nothing of node_dir but its job's own directory."""
    node_dir = _table(document, "slurm").get("node_dir", "/tmp")  # noqa: S108
    images = _table(document, "images")
    for key in ("dir", "stores_dir"):
        path = images.get(key)
        if isinstance(path, str) and isinstance(node_dir, str) and f"{path}/".startswith(f"{node_dir.rstrip('/')}/"):
            yield ("images", key), f"must not lie in node_dir ({shown(node_dir)}), of which containers see little"


def _leaves_out(pool: Mapping[str, Any], scope: str) -> bool:
    return isinstance(pool.get("scopes"), list) and scope not in pool["scopes"]


def _request(place: KeyPath, request: Mapping[str, Any], before_end: float) -> Iterator[Finding]:
    if "mem" in request and "mem_per_cpu" in request:
        yield (*place, "mem_per_cpu"), "is too much beside mem; keep one of the two"
    names: set[str] = set()
    for position, option in _strings(request.get("extra")):
        name = option.split("=", 1)[0]
        if name in names:
            yield (*place, "extra", position), f"{shown(name)} is there twice"
        names.add(name)
    limit = request.get("time")
    try:
        seconds = parse_time_limit(limit) if isinstance(limit, str) else None
    except ValueError:
        return
    if seconds is not None and seconds <= before_end:
        yield (
            (*place, "time"),
            f"must be longer than signal_before_end in [slurm] ({show_duration(before_end)}), "
            "or every runner would be told to stop as soon as it starts",
        )


def _handovers(document: Mapping[str, Any]) -> Iterator[Finding]:
    handovers = [pool.get("handover", "claim") for _, pool in _tables(document, "pool")]
    service, slurm = _table(document, "service"), _table(document, "slurm")
    if "claim" in handovers and "node_url" not in service:
        yield (
            ("service",),
            'needs node_url, the URL at which compute nodes reach this service (or handover = "stdin" in every pool)',
        )
    if "stdin" in handovers and "handover_dir" not in slurm:
        yield ("slurm",), 'needs handover_dir, since a pool has handover = "stdin"'
    url = service.get("node_url")
    if "claim" in handovers and isinstance(url, str) and urlsafe_host(url) in ("0.0.0.0", "::"):  # noqa: S104
        yield ("service", "node_url"), "must name a host that nodes can reach, not the address for listening anywhere"


def urlsafe_host(url: str) -> str:
    """The host of a URL; empty if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
