"""Turns what redis-py raises into our errors, with a remedy. Connects to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.sentinel import MasterNotFoundError

from shared.errors import BadDataError, ForbiddenError, ForgottenError, StoreError, StoreFullError
from shared.store.tls import UnreadableError, tls_remedy

#: What an error means to the person who has to fix it. The first that fits counts: some are kinds of others.
_REMEDIES: dict[type[Exception] | tuple[type[Exception], ...], str] = {
    UnreadableError: "{}",
    redis.exceptions.AuthenticationError: "refuses our password ({}); see redis.username and redis.password_file",
    redis.exceptions.NoPermissionError: "its ACL forbids this ({}); write its ACL file again with pinban acl",
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


#: What Redis says when a key holds something else than the command or script expects.
_BAD_DATA = ("WRONGTYPE", "value is not an integer", "value is not a valid float")


@contextmanager
def translated(where: str, asked: str = "") -> Iterator[None]:
    """Turns what redis-py raises into a StoreError that names the server; `where` is its URL without a password.

    ForbiddenError and StoreFullError, which some callers can live with, are kinds of it. `asked` is the key of the
    command.
    """
    try:
        yield
    except redis.exceptions.RedisError as error:
        kind = _kind(error)
        key = f"{asked}: " if asked and kind is BadDataError else ""
        raise kind(f"Redis at {where}: {key}{_remedy(error)}") from error
    except OSError as error:
        raise StoreError(f"Redis at {where} cannot be reached ({error}); is it running?") from error


def _kind(error: redis.exceptions.RedisError) -> type[StoreError]:
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return StoreFullError
    if any(sign in str(error) for sign in _BAD_DATA):
        return BadDataError
    if isinstance(error, redis.exceptions.NoScriptError):
        return ForgottenError
    return ForbiddenError if _is_forbidden(error) else StoreError


def _is_forbidden(error: redis.exceptions.RedisError) -> bool:
    return isinstance(error, redis.exceptions.NoPermissionError) or "user executing the script can't" in str(error)


def _remedy(error: redis.exceptions.RedisError) -> str:
    text = " ".join(str(error).split())[:200]
    if _is_forbidden(error):
        return _REMEDIES[redis.exceptions.NoPermissionError].format(text)
    if isinstance(error, redis.exceptions.ConnectionError) and (remedy := tls_remedy(text)):
        return f"{remedy} ({text})"
    if "MISCONF" in text:
        return f"cannot write to its disk ({text}); make room there, or see its log"
    if "WRONGTYPE" in text:
        return f"a key of ours has another type than pinban writes ({text}); delete it"
    found = next((remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind)), "")
    return found.format(text) or text or type(error).__name__
