"""A client that finds its Redis by asking sentinels, and leaves a master that is one no more. No keys.

redis-py asks when it connects and then never again: nobody tells it of a new master. A server that was demoted but
lives keeps its connections, so the sentinels are asked again from time to time.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import ResponseError
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from shared.servers import Servers

#: Longest wait for one sentinel, s. They are asked in turn, and the one that answered comes first the next time.
SENTINEL_S = 0.2

#: How often a client that is connected asks again who the master is, s.
ASK_EVERY_S = 10.0


class _Pool(SentinelConnectionPool):
    """Lets go of its connections when it learns of another master."""

    def __init__(self, service_name: str, sentinel_manager: Sentinel, **options: Any) -> None:
        self._asked_at = time.monotonic()
        super().__init__(service_name, sentinel_manager, **options)  # type: ignore[no-untyped-call]

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """A connection to the master as far as we know."""
        if time.monotonic() - self._asked_at > ASK_EVERY_S:
            self._asked_at = time.monotonic()
            with suppress(MasterNotFoundError):  # without sentinels, what works goes on
                self.get_master_address()  # type: ignore[no-untyped-call]
        return super().get_connection(*arguments, **options)


def connect_by_sentinels(servers: Servers, options: dict[str, Any], own: dict[str, Any]) -> redis.Redis:
    """A client of the master; `options` are for it, `own` for the sentinels. Connects at its first command."""
    manager = Sentinel(servers.hosts, sentinel_kwargs=own, **options, db=servers.db)  # type: ignore[no-untyped-call]
    client: redis.Redis = manager.master_for(servers.name, connection_pool_class=_Pool)  # type: ignore[no-untyped-call]
    return client


def left_behind(client: redis.Redis, channel: redis.client.PubSub) -> str:
    """Why a subscription should not be believed any more, or "": its server is not the master.

    Always "" without sentinels, and when no sentinel answers: what works goes on.
    """
    pool = client.connection_pool
    if not isinstance(pool, SentinelConnectionPool):
        return ""
    try:
        host, port = pool.get_master_address()  # type: ignore[no-untyped-call]
    except MasterNotFoundError:
        return ""
    connection: Any = channel.connection
    if (connection.host, connection.port) != (host, port):
        return f"the master is {host}:{port} now"
    try:
        role = client.role()[0]
    except ResponseError:  # an ACL may forbid to ask
        return ""
    return "" if role == b"master" else f"{host}:{port} is no master any more"
