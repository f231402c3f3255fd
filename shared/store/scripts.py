"""Calling one Lua script many times in one round trip. Knows no script."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import redis


class Script:
    """A script that is called many times at once. To be used within `translated`; safe to repeat if the script is."""

    def __init__(self, client: redis.Redis, text: str, keys: int) -> None:
        """`keys` is how many of a call's arguments are keys."""
        self._client = client
        self._text = text
        self._keys = keys
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def load(self) -> None:
        """Have Redis know the script before it is needed."""
        self._client.script_load(self._text)

    def __call__(self, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        """The reply to each call. Raises the first error that is one."""
        replies = self._send(calls)
        if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
            self.load()
            replies = self._send(calls)  # whole: the script must not mind
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _send(self, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._sha, self._keys, *call)
        return pipeline.execute(raise_on_error=False)
