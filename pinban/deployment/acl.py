"""The ACL file of Redis: who may do what, for every role and every reverse proxy. Its only files are the passwords'.

A receiver counts and bans, an operator does that and reads everything of ours, and an enforcer reads the ledger and
writes one hash, its own: its password lies on a host that faces the internet.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from shared.errors import PinbanError
from shared.store import Keys

#: What shows who we are, whether Redis lives, and where it is when there are several. CLIENT SETINFO is left out: a
#: Redis before 7.2 does not start with it in the file, and redis-py works without it.
_CONNECTION = "ping select client|setname role cluster|slots"

#: What a daemon writes its own hash with (shared/nodes.py).
_NODE = "time multi exec hget hset pexpire sadd"

#: What the scripts do (*.lua in receiver and shared); Redis asks for the caller's rights at each of their steps.
_SCRIPTS = (
    "get set del exists incr pexpire pexpireat pttl time publish xadd hset hdel hkeys hlen pfadd pfcount"
    " zadd zrem zcard zcount zscore zrange zrevrange zrangebyscore zremrangebyscore zremrangebyrank"
)

_RECEIVER = (
    f"{_CONNECTION} asking {_NODE} {_SCRIPTS} evalsha script|load hgetall hmget hincrby scan srandmember srem info"
    " xrange xrevrange"
)

#: For people, besides that: what the commands of `pinban` ask, and what one reads with redis-cli.
_OPERATOR = (
    f"{_RECEIVER} xlen smembers zscan zmscore ttl type strlen exists dbsize subscribe unsubscribe acl|whoami acl|log"
)

#: A snapshot, the channel, the node's own hash and its answers as a witness, and nothing else.
_ENFORCER = f"{_CONNECTION} {_NODE} get zrange hgetall hdel subscribe unsubscribe"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def users(nodes: Iterable[str]) -> list[str]:
    """The names of all users for these reverse proxies; PinbanError for what cannot be one's name."""
    for node in (nodes := list(nodes)):
        if not _NAME.fullmatch(node):
            raise PinbanError(f"{node!r} is no node; give an enforcer.node, as rp1")
    return ["receiver", "operator", *(f"enforcer-{node}" for node in dict.fromkeys(nodes))]


def file_of(prefix: str, nodes: Sequence[str], hashes: dict[str, str]) -> str:
    """The whole file, for Redis 7.0 or newer: `hashes` are the SHA-256 of each user's password, in hexadecimal.

    A user without one may not log in.
    """
    keys = Keys(prefix)
    everything = f"resetkeys ~{prefix}:* ~{{{prefix}}}:* resetchannels &{keys.channel}"
    lines = [
        # Off, so that nobody can log in as it, but with its rights: Redis 7.0 reads its append-only file as this user,
        # and throws a transaction away when EXEC finds a right missing. The ledger would be gone after a restart.
        "user default off resetpass ~* &* +@all",
        _line("receiver", hashes, everything, _RECEIVER),
        _line("operator", hashes, everything, _OPERATOR),
    ]
    for user in users(nodes)[2:]:
        read = " ".join(f"%R~{key}" for key in (keys.epoch, keys.rev, keys.bans, keys.allow))
        rp = user.removeprefix("enforcer-")
        own = f"%RW~{keys.node(rp)} %RW~{keys.witness(rp)} %W~{keys.nodes}"
        lines.append(_line(user, hashes, f"resetkeys {read} {own} resetchannels &{keys.channel}", _ENFORCER))
    return "\n".join(lines) + "\n"


def hashes_of(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """The hash of each user's password: the first line of the file of that name, made with a new one if missing."""
    hashes = {}
    for name in names:
        path = directory / name
        try:
            if not path.exists():
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
            password = path.read_bytes().split(b"\n")[0].strip()
        except OSError as error:
            raise PinbanError(
                f"{path}: {error.strerror}; choose a folder for the passwords with --passwords"
            ) from error
        if not password:
            raise PinbanError(f"{path} is empty; write a password into it, or remove it and a new one is made")
        hashes[name] = hashlib.sha256(password).hexdigest()
    return hashes


def _line(name: str, hashes: dict[str, str], where: str, commands: str) -> str:
    password = f" #{hashes[name]}" if name in hashes else ""
    allowed = " ".join(f"+{command}" for command in dict.fromkeys(commands.split()))
    return f"user {name} on resetpass{password} {where} -@all {allowed}"
