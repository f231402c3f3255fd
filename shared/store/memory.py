"""What Redis says of its memory, and what in that may cost bans. Needs no right but that to INFO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import ForbiddenError
from shared.store.store import Store

#: From this share of maxmemory on the operator is warned.
_NEARLY_FULL = 0.9


def read_memory(store: Store) -> Mapping[str, Any]:
    """The section `memory` of INFO; empty when an ACL forbids to ask. StoreError when Redis fails."""
    try:
        facts: Mapping[str, Any] = store.call("INFO", "memory")
    except ForbiddenError:
        return {}
    return facts


def losses(memory: Mapping[str, Any]) -> list[str]:
    """The faults that lose bans or counts, now or soon, each with its remedy. Pure."""
    policy = str(memory.get("maxmemory_policy", ""))
    used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    found = []
    if policy.startswith("allkeys-"):
        found.append(f"Redis: maxmemory-policy {policy} may throw bans away; set volatile-ttl or noeviction")
    if most and used >= most:
        found.append(f"Redis is full: {_mib(used)} of {_mib(most)} used; raise maxmemory")
    elif most and used >= _NEARLY_FULL * most:
        found.append(f"Redis is nearly full: {_mib(used)} of {_mib(most)} used; raise maxmemory")
    return found


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
