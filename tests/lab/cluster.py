"""A Redis Cluster: three masters, each with a replica, all of them real; slots move as an operator moves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.lab.loopback import addresses
from tests.lab.netns import Namespace
from tests.lab.process import wait_until
from tests.lab.redis_server import RedisServer

#: How long a node must be silent until the others think it down, ms.
NODE_TIMEOUT_MS = 2_000

_MASTERS = 3
_SLOTS = 16_384


class Cluster:
    """Masters and replicas; each can be killed, frozen and started again."""

    def __init__(self, directory: Path, namespace: Namespace | None, replicas: int, node_timeout_ms: int) -> None:
        self.servers: dict[str, RedisServer] = {}
        for number, host in enumerate(addresses(_MASTERS + replicas)):
            more = {
                "cluster-enabled": "yes",
                "cluster-node-timeout": str(node_timeout_ms),
                "cluster-announce-ip": host,
                "repl-diskless-sync-delay": "0",
            }
            self.servers[host] = RedisServer(directory / f"c{number}", namespace, bind=host, more=more)
        #: More than the first: a client that knows only one node finds nothing when that one is dead.
        self.url = f"cluster://{','.join(list(self.servers)[:2])}"

    def form(self) -> None:
        """Make one cluster of the servers; returns when all of them agree."""
        hosts = list(self.servers)
        for number, host in enumerate(hosts):
            self.ask(host, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            if number:
                self.ask(hosts[0], "CLUSTER", "MEET", host, "6379")
            if number < _MASTERS:
                first, last = (_SLOTS * n // _MASTERS for n in (number, number + 1))
                self.ask(host, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last - 1))
        wait_until(lambda: all(len(self.nodes(host)) == len(hosts) for host in hosts), "they have met")
        for number, host in enumerate(hosts[_MASTERS:]):
            self._replicate(host, self._id(hosts[number]))
        self.await_whole()

    def await_whole(self) -> None:
        """Every server runs, says that all slots are served, and replicas have a link to their masters."""
        wait_until(lambda: all(self._is_well(host) for host in self.servers), "the cluster is whole")

    def await_heir(self, host: str) -> None:
        """Return when a replica has taken over from a master that is gone."""
        others = [each for each in self.servers if each != host]
        wait_until(lambda: any(self._says_failed(other, host) for other in others), "it is missed")
        wait_until(lambda: all(self._serves_all(other) for other in others), "a replica took over")

    def holder(self, slot: int) -> str:
        """The host of the master that serves a slot."""
        for host in self.servers:
            if self.servers[host].process.running:
                rows: Any = self.ask(host, "CLUSTER", "SLOTS")
                return str(next(row[2][0].decode() for row in rows if row[0] <= slot <= row[1]))
        raise AssertionError

    def slot(self, key: str) -> int:
        return key_slot(key.encode())

    def begin_to_move(self, slot: int, target: str) -> str:
        """Open a slot for moving; returns the server that still has it."""
        source = self.holder(slot)
        self.ask(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", self._id(source))
        self.ask(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", self._id(target))
        return source

    def finish_to_move(self, slot: int, source: str, target: str) -> int:
        """Move the keys of an open slot and close it (redis.io, live resharding); returns how many keys."""
        moved = 0
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", str(slot), "10"):
            self.ask(source, "MIGRATE", target, "6379", "", "0", "5000", "KEYS", *keys)
            moved += len(keys)
        for host in (target, source, *self.servers):
            if self._is_master(host):
                self.ask(host, "CLUSTER", "SETSLOT", str(slot), "NODE", self._id(target))
        # The target has taken a new epoch. If the next node took one before it heard of that, two nodes could each say
        # for ever that the other one has the slot.
        wait_until(lambda: len(set(map(self._epoch, self.servers))) == 1, "all know of it")
        return moved

    def move(self, slot: int, target: str) -> int:
        """Move a slot with its keys to another master; returns how many keys."""
        return self.finish_to_move(slot, self.begin_to_move(slot, target), target)

    @contextmanager
    def joined(self, directory: Path) -> Iterator[str]:
        """A further master, without slots, inside the block; it must have none again at the end."""
        [host] = addresses(1)
        first = next(iter(self.servers))
        more = {"cluster-enabled": "yes", "cluster-node-timeout": "20000", "cluster-announce-ip": host}
        guest = RedisServer(directory, bind=host, more=more)
        guest.start()
        try:
            guest.await_ready()
            self.servers[host] = guest
            self.ask(first, "CLUSTER", "MEET", host, "6379")
            wait_until(
                lambda: all(len(self.nodes(each)) == len(self.servers) for each in self.servers), "they have met"
            )
            self.await_whole()
            yield host
            gone = self._id(host)
            del self.servers[host]
            for each in self.servers:
                self.ask(each, "CLUSTER", "FORGET", gone)
        finally:
            self.servers.pop(host, None)
            guest.stop()

    def another(self, slot: int) -> str:
        """A master that does not serve this slot."""
        return next(host for host in self.servers if self._is_master(host) and host != self.holder(slot))

    def nodes(self, host: str) -> list[str]:
        """The nodes that a server knows, itself among them (CLUSTER NODES)."""
        lines: bytes = self.ask(host, "CLUSTER", "NODES")
        return [line for line in lines.decode().splitlines() if "handshake" not in line]

    def ask(self, host: str, *words: str | bytes) -> Any:
        """A server's answer, as it came."""
        with self.servers[host].client(timeout=6.0) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def _id(self, host: str) -> str:
        return str(self.ask(host, "CLUSTER", "MYID").decode())

    def _replicate(self, host: str, master: str) -> None:
        def follows() -> bool:
            try:
                self.ask(host, "CLUSTER", "REPLICATE", master)
            except redis.ResponseError:  # it has not heard of its master yet
                return False
            return True

        wait_until(follows, f"{host} replicates")

    def _facts(self, host: str, *words: str) -> Mapping[str, str]:
        text: bytes = self.ask(host, *words)
        return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)

    def _epoch(self, host: str) -> str:
        return self._facts(host, "CLUSTER", "INFO")["cluster_current_epoch"]

    def _serves_all(self, host: str) -> bool:
        facts = self._facts(host, "CLUSTER", "INFO")
        return (facts["cluster_state"], facts["cluster_slots_ok"]) == ("ok", str(_SLOTS))

    def _is_well(self, host: str) -> bool:
        try:
            facts = self._facts(host, "INFO", "replication")
            linked = facts["role"] == "master" or facts["master_link_status"] == "up"
            return linked and self._serves_all(host)
        except redis.RedisError:
            return False

    def _is_master(self, host: str) -> bool:
        server = self.servers[host]
        return server.process.running and self._facts(host, "INFO", "replication")["role"] == "master"

    def _says_failed(self, host: str, gone: str) -> bool:
        return any(gone in line and "fail" in line.split()[2] for line in self.nodes(host))


@contextmanager
def cluster(
    directory: Path, namespace: Namespace | None = None, *, replicas: int = 0, node_timeout_ms: int = NODE_TIMEOUT_MS
) -> Iterator[Cluster]:
    """A cluster that runs inside the block."""
    site = Cluster(directory, namespace, replicas, node_timeout_ms)
    with ExitStack() as stack:
        for server in site.servers.values():
            stack.callback(partial(server.process.stop))
            server.start()
        for server in site.servers.values():
            server.await_ready()
        site.form()
        yield site
