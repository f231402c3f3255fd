"""A master with two replicas and three sentinels that watch them, all of them real."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.lab.loopback import addresses
from tests.lab.netns import Namespace
from tests.lab.process import Process, wait_until
from tests.lab.redis_server import RedisServer

#: What the sentinels call the master.
NAME = "house"

#: How long a server must be silent until a sentinel thinks it down, ms.
DOWN_AFTER_MS = 1_000

#: The user as which sentinels and replicas log in at the servers.
WATCHER = "watcher"


class Sentinel(Process):
    """Its socket works from every network namespace."""

    def __init__(
        self, directory: Path, host: str, master: str, namespace: Namespace | None, *, more: Sequence[str] = ()
    ) -> None:
        """`more` are further lines of sentinel.conf."""
        directory.mkdir(parents=True)
        self.host = host
        self.socket = directory / "s.sock"
        file = directory / "sentinel.conf"
        lines = [
            f"bind {host}",
            "port 26379",
            f"unixsocket {self.socket}",
            f"dir {directory}",
            "protected-mode no",
            f"sentinel announce-ip {host}",
            f"sentinel monitor {NAME} {master} 6379 2",
            f"sentinel auth-user {NAME} {WATCHER}",
            f"sentinel auth-pass {NAME} {WATCHER}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} 4000",
            f"sentinel parallel-syncs {NAME} 2",
            *more,
        ]
        file.write_text("\n".join(lines) + "\n")
        super().__init__("sentinel", ["redis-server", str(file), "--sentinel"], directory, namespace)

    def freeze(self) -> None:
        """Stop answering, while connections stay open."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def ask(self, *words: str) -> Any:
        """Its answer to SENTINEL and these words; redis.RedisError when it has none."""
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2.0) as client:
            return client.execute_command("SENTINEL", *words)


class Watched:
    """Servers and sentinels; each can be killed, frozen and started again."""

    def __init__(self, directory: Path, namespace: Namespace | None) -> None:
        hosts = addresses(6)
        self.servers: dict[str, RedisServer] = {}
        for number, host in enumerate(hosts[:3]):
            more = {"replica-announce-ip": host, "user": f"{WATCHER} on >{WATCHER} ~* &* +@all"}
            more |= {"masteruser": WATCHER, "masterauth": WATCHER}
            more |= {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
            if number:
                more["replicaof"] = f"{hosts[0]} 6379"
            self.servers[host] = RedisServer(directory / f"r{number}", namespace, bind=host, more=more)
        self.sentinels = [
            Sentinel(directory / f"s{number}", host, hosts[0], namespace) for number, host in enumerate(hosts[3:])
        ]
        self.url = f"sentinel://{','.join(hosts[3:])}/{NAME}"

    @property
    def processes(self) -> list[Process]:
        return [*(server.process for server in self.servers.values()), *self.sentinels]

    @property
    def master(self) -> RedisServer:
        """What the first sentinel that runs says."""
        sentinel = next(each for each in self.sentinels if each.running)
        host, _ = sentinel.ask("GET-MASTER-ADDR-BY-NAME", NAME)
        return self.servers[host.decode()]

    def await_whole(self) -> None:
        """Every sentinel knows all the others, and a master with two replicas that have all its data."""
        for sentinel in self.sentinels:
            wait_until(lambda s=sentinel: self._knows_all(s), "a sentinel knows everybody")  # type: ignore[misc]
        wait_until(lambda: self.in_step(self.master), "the replicas have everything")

    def await_failover(self, before: RedisServer) -> RedisServer:
        """The new master, when every sentinel names it and it is a master."""

        def over() -> bool:
            says = {bytes(s.ask("GET-MASTER-ADDR-BY-NAME", NAME)[0]).decode() for s in self.sentinels if s.running}
            return len(says) == 1 and self.servers[says.pop()] is not before and _is_master(self.master)

        wait_until(over, "another master")
        return self.master

    def blind(self, server: RedisServer) -> None:
        """Cut sentinels and replicas off from a server that serves everybody else as before."""
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", WATCHER, "-@all")
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def sight(self, server: RedisServer) -> None:
        """Undo that: the sentinels then make it a replica or a master again."""
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", WATCHER, "+@all")

    def _knows_all(self, sentinel: Sentinel) -> bool:
        facts = self._facts(sentinel)
        return facts.get("num-slaves") == "2" and facts["num-other-sentinels"] == "2" and facts["flags"] == "master"

    def _is_content(self, sentinel: Sentinel) -> bool:
        return self._facts(sentinel).get("flags") == "master"

    def _facts(self, sentinel: Sentinel) -> Mapping[str, str]:
        try:
            raw = sentinel.ask("MASTER", NAME)
        except redis.RedisError:
            return {}
        state = dict(zip(raw[::2], raw[1::2], strict=True)) if isinstance(raw, list) else raw
        return {_text(key): _text(value) for key, value in state.items()}

    def await_replica(self) -> None:
        """Another failover is possible: the sentinels agree on a master that has a replica."""
        wait_until(lambda: all(self._is_content(s) for s in self.sentinels), "the sentinels agree")
        self.await_in_step(self.master)

    def await_in_step(self, master: RedisServer) -> None:
        """All replicas, at least one, have every write that the master has taken until now."""
        with master.client() as client:
            offset = int(client.info("replication")["master_repl_offset"])

            def arrived() -> bool:
                state: Any = client.info("replication")
                behind = [state[f"slave{n}"] for n in range(state["connected_slaves"])]
                return bool(behind) and all(each["offset"] >= offset for each in behind)

            wait_until(arrived, "the replicas are in step")

    def in_step(self, master: RedisServer) -> bool:
        """Whether two replicas are up to date with it."""
        try:
            with master.client() as client:
                state: Any = client.info("replication")
        except redis.RedisError:
            return False
        behind = [state.get(f"slave{n}", {}) for n in range(2)]
        return all(each.get("state") == "online" and each["lag"] <= 1 for each in behind)


@contextmanager
def watched(directory: Path, namespace: Namespace | None = None) -> Iterator[Watched]:
    """A site that runs inside the block."""
    site = Watched(directory, namespace)
    with ExitStack() as stack:
        for process in site.processes:
            stack.callback(process.stop)
        for server in site.servers.values():
            server.start()
        for server in site.servers.values():
            server.await_ready()
        first = next(iter(site.servers))
        wait_until(lambda: site.in_step(site.servers[first]), "the replicas have everything")
        for sentinel in site.sentinels:
            sentinel.start()
        site.await_whole()
        yield site


def _is_master(server: RedisServer) -> bool:
    with server.client() as client:
        role: Any = client.role()
        return bool(role[0] == b"master")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
