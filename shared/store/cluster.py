"""A client of a Redis Cluster that looks like one of a single server. No keys, no commands of ours.

redis-py's own connects when it is made, blocks for seconds while a node is away, and has no EVALSHA in pipelines. Here
every wait has an end, and a command is sent again only when a node said that it had not carried it out: after a
redirection, or while a slot is being moved.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.client import Pipeline
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError, TryAgainError

from shared.settings import Address

#: A command and redis-py's options for its reply.
_Command = tuple[tuple[Any, ...], dict[str, Any]]

#: How often a command may be sent: redirections lead to the right node in two, a slot on the move may need more.
_TURNS = 6

#: Rest before a slot is tried again while it is being moved, s.
_REST_S = 0.03

#: The errors after which a node cannot be used now.
_NODE_FAILED = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, ClusterDownError)

#: Commands without a key, by their first word. They go to the node of the ledger.
_KEYLESS = frozenset(
    ("ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "INFO", "LATENCY", "PING", "ROLE", "SCRIPT", "TIME")
)


class Cluster(redis.Redis):
    """For one thread. Keep it as long as anything that it made is in use: its end closes the connections."""

    def __init__(self, seeds: Sequence[Address], home: str, options: dict[str, Any]) -> None:
        """`home` is a key, or what its braces hold: its node answers what has no key, and serves subscriptions."""
        super().__init__(host=seeds[0][0], port=seeds[0][1], **options)
        self._options = options
        self._home = key_slot(home.encode())
        self._nodes: dict[Address, redis.Redis] = {}
        self._seeds = tuple(seeds)
        self._ask: list[Address] = list(seeds)  #: nodes that may know the map; one that failed is asked last
        self._map: dict[int, Address] = {}  #: slot -> its master; empty when it has to be learned

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command where it belongs."""
        if args[0] == "SCRIPT LOAD":
            return self._everywhere(*args)
        [reply] = self.send([(args, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Pipeline:  # noqa: ARG002  redis-py's
        """Commands for any nodes, or for one node if it is a transaction."""
        return _ClusterPipeline(self, transaction=bool(transaction))

    def pubsub(self, **options: Any) -> Any:
        """A subscription at the ledger's node: it hears what any node publishes."""
        return self._node(self._master(self._home)).pubsub(**options)  # type: ignore[no-untyped-call]

    def scan_iter(self, match: Any = None, count: Any = None, _type: Any = None, **options: Any) -> Iterator[Any]:
        """The keys of all masters, or of one if the pattern begins with a hash tag."""
        tagged = re.match(r"\{([^}*?\[\\]+)\}", str(match))
        self._master(self._home)
        masters = {self._master(key_slot(tagged[1].encode()))} if tagged else set(self._map.values())
        for address in sorted(masters):
            yield from self._node(address).scan_iter(match=match, count=count, _type=_type, **options)

    def close(self) -> None:
        """Close every connection."""
        super().close()
        for node in self._nodes.values():
            node.close()

    def send(self, commands: Sequence[_Command]) -> list[Any]:
        """Send each command to the node of its key, and again where it is redirected to; replies in order.

        A reply may be an error of that command. Raises when a node does not answer.
        """
        replies: list[Any] = [None] * len(commands)
        slots = [self._slot(args) for args, _ in commands]
        due = {n: (self._master(slot), False) for n, slot in enumerate(slots)}
        for _ in range(_TURNS):
            together: dict[tuple[Address, bool], list[int]] = {}
            for n, target in due.items():
                together.setdefault(target, []).append(n)
            due = {}
            for (address, asking), numbers in together.items():
                answers = self._deliver(address, [commands[n] for n in numbers], asking=asking)
                for n, answer in zip(numbers, answers, strict=True):
                    replies[n] = answer
                    if elsewhere := self._redirected(slots[n], address, answer):
                        due[n] = elsewhere
            if not due:
                return replies
            if any(isinstance(replies[n], TryAgainError) for n in due):
                time.sleep(_REST_S)
        return replies

    def transact(self, commands: Sequence[_Command]) -> list[Any]:
        """Send commands to the node of the first one's key as one transaction; raises the first error."""
        address = self._master(self._slot(commands[0][0]))
        failed: RedisError | None = None
        for _ in range(_TURNS):
            pipeline: Any = self._node(address).pipeline(transaction=True)
            for args, options in commands:
                pipeline.execute_command(*args, **options)
            try:
                return list(pipeline.execute())
            except MovedError as error:
                failed, self._map = error, {}
                address = error.host or address[0], error.port
            except (AskError, TryAgainError) as error:  # some keys are elsewhere already: wait for the rest
                failed = error
                time.sleep(_REST_S)
            except _NODE_FAILED:
                self._doubt(address)
                raise
        assert failed
        raise failed

    def _deliver(self, address: Address, commands: Sequence[_Command], *, asking: bool) -> list[Any]:
        """One round trip to a node; errors of commands are among the replies."""
        pipeline: Any = self._node(address).pipeline(transaction=False)
        for args, options in commands:
            if asking:
                pipeline.execute_command("ASKING")
            pipeline.execute_command(*args, **options)
        try:
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        except _NODE_FAILED:
            self._doubt(address)
            raise
        return replies[1::2] if asking else replies

    def _redirected(self, slot: int, address: Address, answer: object) -> tuple[Address, bool] | None:
        """Where a command has to go after this answer, and whether with ASKING; None when the answer stands."""
        match answer:
            case MovedError():
                self._map = {}  # to be learned at the next command; this one knows
                return (answer.host or address[0], answer.port), False
            case AskError():
                return (answer.host or address[0], answer.port), True
            case TryAgainError():
                return self._master(slot), False
            case ClusterDownError():
                self._doubt(address)
        return None

    def _slot(self, args: tuple[Any, ...]) -> int:
        word = str(args[0]).partition(" ")[0].upper()
        if word in _KEYLESS or len(args) < 2:
            return self._home
        if word in ("EVALSHA", "EVAL"):
            return self._of(args[3]) if int(args[2]) else self._home
        return self._of(args[1])

    def _of(self, key: Any) -> int:
        return key_slot(key if isinstance(key, bytes) else str(key).encode())

    def _master(self, slot: int) -> Address:
        if not self._map:
            self._learn()
        try:
            return self._map[slot]
        except KeyError:
            self._map = {}
            raise ClusterDownError(f"CLUSTERDOWN no node serves slot {slot}") from None

    def _learn(self) -> None:
        """Ask one node after the other who serves what, until one knows at least the ledger's node."""
        failed: RedisError = redis.exceptions.ConnectionError("no node of the cluster knows its slots")
        for address in list(self._ask):
            try:
                [rows] = self._deliver(address, [(("CLUSTER SLOTS",), {})], asking=False)
            except _NODE_FAILED as error:
                failed = error
                continue
            if isinstance(rows, RedisError):
                raise rows
            found = {slot: _address(row[2], address) for row in rows for slot in range(row[0], row[1] + 1)}
            if self._home in found:
                self._map = found
                nodes = [_address(node, address) for row in rows for node in row[2:]]
                self._ask = list(dict.fromkeys((address, *nodes, *self._seeds)))
                self._forget({address, *nodes, *self._seeds})
                return
        raise failed

    def _forget(self, known: set[Address]) -> None:
        """Close the connections to nodes that have left the cluster."""
        for address in self._nodes.keys() - known:
            self._nodes.pop(address).close()

    def _doubt(self, address: Address) -> None:
        """A node failed: learn the map again, from the others first."""
        self._map = {}
        self._ask = [*(each for each in self._ask if each != address), address]

    def _node(self, address: Address) -> redis.Redis:
        if address not in self._nodes:
            host, port = address
            self._nodes[address] = redis.Redis(host=host, port=port, **self._options)
        return self._nodes[address]

    def _everywhere(self, *args: Any) -> Any:
        """Send to every master, those behind a failing one too; raises the last error."""
        self._master(self._home)
        failed: Exception | None = None
        for address in sorted(set(self._map.values())):
            [reply] = self._attempt(address, args)
            failed = reply if isinstance(reply, Exception) else failed
        if failed:
            raise failed
        return reply

    def _attempt(self, address: Address, args: tuple[Any, ...]) -> list[Any]:
        try:
            return self._deliver(address, [(args, {})], asking=False)
        except _NODE_FAILED as error:
            return [error]


class _ClusterPipeline(Pipeline):
    """Collects commands as redis-py's own does, and has the cluster send them."""

    def __init__(self, cluster: Cluster, *, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._whole = transaction
        self._cluster = cluster

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The replies, in order."""
        commands, self.command_stack = list(self.command_stack), []
        if not commands:
            return []
        if self._whole:
            return self._cluster.transact(commands)
        replies = self._cluster.send(commands)
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, ResponseError):
                    raise reply
        return replies


def _address(node: Sequence[Any], asked: Address) -> Address:
    """A node of a row of CLUSTER SLOTS; one that does not know its own address is the one that was asked."""
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return (asked[0] if host in (None, "", "?") else host, int(node[1]))
