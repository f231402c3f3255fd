"""What pinban asks of Redis: commands, several in one round trip, scripts, a subscription. Knows no verb of ours.

Only this package imports redis-py (and pinban/local/embedded.py, to wait for its own server). Commands are written as
redis-cli takes them; every failure is a StoreError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any, Self

import redis

from shared.errors import BadDataError, ForgottenError, StoreError
from shared.store.errors import translated
from shared.store.keys import Keys
from shared.store.sentinel import left_behind

Word = str | int | float | bytes
Command = Sequence[Word]


class Store:
    """The connection of one thread, with the names of its keys. Every method raises only StoreError."""

    def __init__(self, client: redis.Redis, keys: Keys | None = None, where: str = "") -> None:
        """`where` is the server's URL without its password, for messages."""
        self.client = client
        self.keys = keys or Keys()
        self._where = where
        self._scripts: list[Script] = []

    def call(self, *command: Word) -> Any:
        """The reply to one command."""
        with translated(self._where, str(command[1]) if len(command) > 1 else ""):
            return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def together(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands sent in one round trip; the first error among them is raised."""
        return self._pipeline(commands, transaction=False) if commands else []

    def whole(self, commands: Sequence[Command]) -> list[Any]:
        """The same, at one instant (MULTI): all keys lie in one slot. StoreFullError when Redis is full."""
        return self._pipeline(commands, transaction=True)

    def each(self, commands: Sequence[Command]) -> list[Any]:
        """As `together`, but an error of one command stands as a StoreError in the place of its reply."""
        replies = self._pipeline(commands, transaction=False, raising=False)
        return [self._told(reply) if isinstance(reply, Exception) else reply for reply in replies]

    def scan(self, pattern: str) -> Iterator[bytes]:
        """The keys that match, of all masters of a cluster; one may come twice. Goes through every key of Redis."""
        with translated(self._where):
            yield from self.client.scan_iter(match=pattern, count=1_000)

    def now_ms(self) -> int:
        """Redis TIME, ms."""
        return milliseconds(self.call("TIME"))

    def script(self, package: str, *names: str) -> Script:
        """The script in these .lua files of a package, put one after the other: functions first, the verb last."""
        made = Script(self, "".join(_lua(package, name) for name in names))
        self._scripts.append(made)
        return made

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """The replies to calls of scripts, in one round trip. The first error among them is raised; the others are
        done. A call whose key has another type has a BadDataError in the place of its reply: it must not stop the
        others.
        """
        commands = [("EVALSHA", script.sha, len(keys), *keys, *arguments) for script, keys, arguments in calls]
        replies = self.each(commands)
        if any(isinstance(reply, ForgottenError) for reply in replies):
            for script in {script for script, _, _ in calls}:
                script.load()
            replies = self.each(commands)
        for reply in replies:
            if isinstance(reply, StoreError) and not isinstance(reply, BadDataError):
                raise reply
        return replies

    def prepare(self) -> None:
        """Connect, and load all scripts made so far into Redis, so that the first failure need not wait for it."""
        for script in self._scripts:
            script.load()

    @contextmanager
    def subscribed(self, channel: str) -> Iterator[Subscription]:
        """Listen to a channel, on a connection of its own; errors of Redis inside become StoreError."""
        with translated(self._where), self.client.pubsub() as listening:  # type: ignore[no-untyped-call]
            listening.subscribe(channel)
            yield Subscription(self.client, listening)

    def close(self) -> None:
        """Close every connection."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _told(self, error: Exception) -> StoreError:
        try:
            with translated(self._where):
                raise error
        except StoreError as told:
            return told

    def _pipeline(self, commands: Sequence[Command], *, transaction: bool, raising: bool = True) -> list[Any]:
        with translated(self._where):
            pipeline = self.client.pipeline(transaction=transaction)
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute(raise_on_error=raising)


class Script:
    """A Lua script. Redis may forget it at any time; it is then loaded again, so it must be safe to repeat."""

    def __init__(self, store: Store, text: str) -> None:
        self._store = store
        self._text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def load(self) -> None:
        """Load it into Redis."""
        self._store.call("SCRIPT LOAD", self._text)

    def __call__(self, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """The reply to one call."""
        [reply] = self.many([(keys, arguments)])
        if isinstance(reply, BadDataError):
            raise reply
        return reply

    def many(self, calls: Sequence[tuple[Sequence[str], Sequence[Word]]]) -> list[Any]:
        """The replies to many calls in one round trip, as `Store.run` gives them."""
        return self._store.run([(self, keys, arguments) for keys, arguments in calls])


#: A script, its keys, its arguments.
Call = tuple[Script, Sequence[str], Sequence[Word]]


class Subscription:
    """A channel that is listened to. For use inside `Store.subscribed`, which translates errors."""

    def __init__(self, client: redis.Redis, listening: redis.client.PubSub) -> None:
        self._client = client
        self._listening = listening

    def next(self, within_s: float) -> tuple[str, bytes] | None:
        """What came, as its type ("subscribe", "message") and data, or None when nothing came in time."""
        found: Any = self._listening.get_message(timeout=within_s)
        return None if found is None else (found["type"], found["data"])

    def waiting(self) -> bool:
        """Whether more has come already."""
        connection: Any = self._listening.connection
        return bool(connection.can_read(timeout=0))

    def left_behind(self) -> str:
        """Why the server that is listened to is not the master any more, or "" (see shared/store/sentinel.py)."""
        return left_behind(self._client, self._listening)


def milliseconds(time: Sequence[int | bytes]) -> int:
    """The reply to TIME, ms."""
    seconds, microseconds = time
    return int(seconds) * 1_000 + int(microseconds) // 1_000


def scored(reply: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Members with their scores, from the reply to a ZRANGE ... WITHSCORES; fractions are cut off, infinity is 1e18."""
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return [(member, int(min(max(float(score), -1e18), 1e18))) for member, score in pairs]


def number(reply: bytes | str | float | None, default: int = 0) -> int:
    """A whole number of at most 18 digits, or the default: a person may have written anything into a key."""
    text = reply.decode("ascii", "replace") if isinstance(reply, bytes) else str(reply)
    return int(text) if text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 18 else default


def text_of(reply: bytes | str) -> str:
    """A reply as text, whatever its bytes are."""
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply


@cache
def _lua(package: str, name: str) -> str:
    return resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
