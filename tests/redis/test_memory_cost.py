"""What counting costs in memory: in Redis for each address, in the receiver nothing that grows."""

from __future__ import annotations

import os
import time

import redis

from bench.memory import LIMIT, measure
from receiver.failures import Failure, pack
from receiver.spool.slots import QUEUE_LENGTH, RECORD_BYTES, Spool
from shared.addresses import Network
from shared.settings.schema import Settings


def test_an_address_that_fails_once_costs_no_more_than_the_limit(settings: Settings, client: redis.Redis) -> None:
    used = measure(client, settings, 100_000)
    print(f"\n{used.line()}")
    assert 100 < used.each <= LIMIT


def test_the_receivers_spool_takes_no_more_memory_however_many_failures_pass() -> None:
    spool = Spool(1)
    slot = spool.slots[0]
    received_ms = time.monotonic_ns() // 1_000_000
    records = [
        pack(Failure(Network("203.0.113.7"), "pin", f"{n:032x}", "rp1", "meet", received_ms)) for n in range(512)
    ]

    def pour(number: int) -> int:
        """Queue and settle so many failures; the bytes that the spool then has from the system."""
        for _ in range(0, number, len(records)):
            slot.commit({"received": len(records), "wrong_pin": len(records)}, records)
            head, oldest = slot.oldest(len(records))
            slot.settle(head, ["counted"] * len(oldest), 0)
        return os.fstat(spool.file).st_blocks * 512

    once = pour(2 * QUEUE_LENGTH)
    assert QUEUE_LENGTH * RECORD_BYTES <= once <= 2 * QUEUE_LENGTH * RECORD_BYTES
    assert pour(20 * QUEUE_LENGTH) == once
    assert spool.totals()["queued"] == 0
