"""Loopback addresses that no other site of the lab has, on this host or in a namespace."""

from __future__ import annotations

import itertools
import os

_serials = itertools.count()


def addresses(count: int) -> list[str]:
    """So many of 127.0.0.0/8, chosen by the id of this process, so that runs beside it use others. At most 50."""
    high, low = divmod(os.getpid() % (253 * 256), 256)
    first = 50 * (next(_serials) % 5) + 1
    return [f"127.{high + 1}.{low}.{first + n}" for n in range(count)]
