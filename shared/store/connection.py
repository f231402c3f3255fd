"""Connections to Redis, made the one way that is safe here. No commands.

redis-py retries by itself and sends a command again that may already have been carried out; a frozen server then
counts one failure twice and blocks the caller for half a minute. Retries are off and every wait has an end: the
caller decides what to repeat, and repeats only what is idempotent.
"""

from __future__ import annotations

import re
import socket
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import SettingsError
from shared.settings import Settings, parse_servers
from shared.store.cluster import Cluster
from shared.store.keys import Keys
from shared.store.sentinel import SENTINEL_S, connect_by_sentinels
from shared.store.store import Store
from shared.store.tls import check_secrets, in_tls, secure_options, sentinel_options, uses_tls

#: Longest wait for an answer between a failure and its ban, s. A healthy Redis needs less than a millisecond.
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


def connect(settings: Settings, who: str, timeout_s: float) -> Store:
    """A store that connects at its first command. SettingsError for a URL that redis-py does not accept.

    `who` is shown by CLIENT LIST.
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
        client.connection_pool.make_connection()  # does not connect, but refuses options that do not exist
    except (ValueError, TypeError) as error:
        reason = "" if "@" in settings.redis.url else f" ({error})"  # it may quote a part of the password
        raise SettingsError(
            f"redis.url = {shown_url(settings)!r} is not understood{reason}; write redis://HOST:PORT/DB"
        ) from error
    return Store(client, Keys(settings.redis.prefix), shown_url(settings))


def check_redis(settings: Settings) -> None:
    """SettingsError when no connection can be made with these settings: a bad URL, or files that cannot be read.

    It connects to nothing. For the start, a reload and `pinban check`: after that, faults are logged and tried again.
    """
    check_secrets(settings)
    connect(settings, "check", HASTY_S).close()


def shown_url(settings: Settings) -> str:
    """The URL without its password, for people."""
    return re.sub(r"//.*@", "//", settings.redis.url)


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
