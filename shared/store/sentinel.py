"""A client that finds its Redis by asking sentinels, and leaves a server that is not the master any more. No keys.

redis-py asks only when it connects, so it does not hear of a new master. A master that was demoted but lives keeps its
connections. So the sentinels are asked again from time to time.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from shared.settings import Address, Servers

#: Longest wait for one sentinel, s. They are asked in turn, and the one that answered comes first the next time.
SENTINEL_S = 0.2

#: How often a client that is connected asks again who the master is, s; ten times as long as the answer took, if that
#: is more, so that dead sentinels cost a tenth of the time at most.
ASK_EVERY_S = 1.0


class _Sentinels(Sentinel):
    """Asks for the address alone: from the moment of a promotion, that is the new master's."""

    def discover_master(self, service_name: str) -> Address:
        """The master's address, from whichever sentinel answers; MasterNotFoundError says what each of them said."""
        said = []
        sentinels: list[Any] = self.sentinels
        for number, sentinel in enumerate(sentinels):
            asked = sentinel.connection_pool.connection_kwargs
            try:
                found: Any = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", service_name)
            except RedisError as error:
                said.append(f"{asked['host']}:{asked['port']}: {error}")
                continue
            if found:
                self.sentinels.insert(0, self.sentinels.pop(number))
                return found[0].decode(), int(found[1])
            said.append(f"{asked['host']}:{asked['port']}: knows no master called {service_name}")
        raise MasterNotFoundError("; ".join(said))


class _Pool(SentinelConnectionPool):
    """Drops its connections when it learns of another master."""

    def __init__(self, service_name: str, sentinel_manager: Sentinel, **options: Any) -> None:
        self._ask_at = 0.0
        super().__init__(service_name, sentinel_manager, **options)  # type: ignore[no-untyped-call]

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """A connection to the master as far as we know."""
        self.ask()
        return super().get_connection(*arguments, **options)

    def ask(self) -> None:
        """Ask the sentinels who the master is, if that is due. Without an answer, a connection that works is kept."""
        began = time.monotonic()
        if self.master_address and began >= self._ask_at:
            with suppress(MasterNotFoundError):
                self.get_master_address()  # type: ignore[no-untyped-call]
            took = time.monotonic() - began
            self._ask_at = began + took + max(ASK_EVERY_S, 10 * took)


def connect_by_sentinels(servers: Servers, options: dict[str, Any], own: dict[str, Any]) -> redis.Redis:
    """A client of the master; `options` are for it, `own` for the sentinels. Connects at its first command."""
    manager = _Sentinels(servers.hosts, sentinel_kwargs=own, **options, db=servers.db)  # type: ignore[no-untyped-call]
    client: redis.Redis = manager.master_for(servers.name, connection_pool_class=_Pool)  # type: ignore[no-untyped-call]
    return client


def left_behind(client: redis.Redis, channel: redis.client.PubSub) -> str:
    """Why a subscription should not be believed any more, or "": its server is not the master.

    Always "" without sentinels, and when no sentinel answers: a subscription that works is kept.
    """
    pool = client.connection_pool
    if not isinstance(pool, _Pool):
        return ""
    pool.ask()
    connection: Any = channel.connection
    if (connection.host, connection.port) == pool.master_address:
        return ""
    return "the master is {}:{} now".format(*pool.master_address)
