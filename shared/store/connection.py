"""Connections to Redis, made the one way that is safe here, and its errors in our words. No keys, no commands.

redis-py retries by itself and sends a command again that may already have been carried out; a frozen server then
counts one failure twice and blocks the caller for half a minute. Retries are off and every wait has an end: whoever
calls decides what to repeat, and repeats only what is idempotent.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from shared.errors import SettingsError, StoreError
from shared.settings import Settings, parse_servers
from shared.store.cluster import Cluster
from shared.store.keys import Keys
from shared.store.sentinel import SENTINEL_S, connect_by_sentinels
from shared.store.tls import UnreadableError, in_tls, secure_options, sentinel_options, tls_remedy, uses_tls

#: Longest wait for an answer on the path of a failure, s. A healthy Redis needs less than a millisecond.
HASTY_S = 0.5

#: Longest wait for people's commands and for snapshots of many bans, s.
PATIENT_S = 5.0

#: A dead peer is noticed after 10 + 3 * 3 s when idle, after 10 s with data under way (tcp(7)).
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 3,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 10_000,
}

#: What an error means to whoever has to mend it; the first that fits, because some are kinds of others.
_REMEDIES: dict[type[Exception] | tuple[type[Exception], ...], str] = {
    UnreadableError: "{}",
    redis.exceptions.AuthenticationError: "refuses our password ({}); see redis.username and redis.password_file",
    redis.exceptions.NoPermissionError: "its ACL forbids this ({}); write its ACL file anew with pinban acl",
    redis.exceptions.OutOfMemoryError: "is full ({}); raise maxmemory",
    redis.exceptions.TimeoutError: "did not answer in time ({})",
    MasterNotFoundError: (
        "no sentinel names a master that is up ({}); a failover takes some seconds, else see redis.url"
    ),
    redis.exceptions.ReadOnlyError: "is a replica ({}); redis.url must name the master, or sentinels that know it",
    redis.exceptions.ClusterDownError: (
        "the cluster is not complete ({}); a failover takes some seconds, else see CLUSTER INFO"
    ),
    (redis.exceptions.TryAgainError, redis.exceptions.AskError): (
        "is moving what we need to another node ({}); if that stopped, redis-cli --cluster fix goes on"
    ),
    redis.exceptions.BusyLoadingError: "is loading its data; it will be ready by itself",
    redis.exceptions.ConnectionError: "cannot be reached ({}); is it running, is redis.url right?",
}


def connect(settings: Settings, who: str, timeout_s: float) -> redis.Redis:
    """A client that connects at its first command. StoreError is raised by `translated`, SettingsError here.

    `who` is shown by CLIENT LIST. Keep the client as long as anything that it made, a PubSub for one: the
    connections go with it.
    """
    options = _options(settings, who, timeout_s)
    try:
        servers = parse_servers(settings.redis.url)
        if servers is None:
            client = redis.Redis.from_url(in_tls(settings), **options, **secure_options(settings))
        else:
            if uses_tls(settings):
                options["ssl"] = True
            theirs = options | secure_options(settings) | servers.credentials
            if servers.kind == "sentinel":
                own = options | sentinel_options(settings)
                own |= {"socket_timeout": SENTINEL_S, "socket_connect_timeout": SENTINEL_S}
                client = connect_by_sentinels(servers, theirs, own)
            else:
                client = Cluster(servers.hosts, Keys(settings.redis.prefix).rev, theirs)
        client.connection_pool.make_connection()  # connects to nothing, but refuses options that there are not
    except (ValueError, TypeError) as error:
        reason = "" if "@" in settings.redis.url else f" ({error})"  # it may quote a part of the password
        raise SettingsError(
            f"redis.url = {shown_url(settings)!r} is not understood{reason}; write redis://HOST:PORT/DB"
        ) from error
    return client


def shown_url(settings: Settings) -> str:
    """The URL without its password, for people."""
    return re.sub(r"//.*@", "//", settings.redis.url)


@contextmanager
def translated(settings: Settings) -> Iterator[None]:
    """Turns whatever redis-py raises into a StoreError with the remedy in it."""
    try:
        yield
    except redis.exceptions.RedisError as error:
        raise StoreError(f"Redis at {shown_url(settings)}: {_remedy(error)}") from error
    except OSError as error:
        raise StoreError(f"Redis at {shown_url(settings)} cannot be reached ({error}); is it running?") from error


@contextmanager
def understood(settings: Settings) -> Iterator[None]:
    """For reading keys: what is there and is not what we write becomes a StoreError too."""
    with translated(settings):
        try:
            yield
        except ValueError as error:
            raise StoreError(f"Redis at {shown_url(settings)}: a key of ours holds something else ({error})") from error


def now_ms(client: redis.Redis) -> int:
    """Redis TIME, ms. To be called within `translated`."""
    seconds, microseconds = client.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


@cache
def lua(package: str, name: str) -> str:
    """The text of a Lua script that lies in a package of ours."""
    return resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")


def _options(settings: Settings, who: str, timeout_s: float) -> dict[str, Any]:
    """What every connection to Redis is made with, as redis-py calls it."""
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 2.0),
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "client_name": f"pinban-{who}",
        "protocol": 2,
    }
    if not settings.redis.url.startswith("unix:"):
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    return options


def _remedy(error: redis.exceptions.RedisError) -> str:
    text = " ".join(str(error).split())[:200]
    if "user executing the script can't" in text:
        error = redis.exceptions.NoPermissionError(text)
    if isinstance(error, redis.exceptions.ConnectionError) and (remedy := tls_remedy(text)):
        return f"{remedy} ({text})"
    if "MISCONF" in text:
        return f"cannot write to its disk ({text}); make room there, or see its log"
    found = next((remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind)), "")
    return found.format(text) or text or type(error).__name__
