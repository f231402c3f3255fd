"""Hostile input on a real receiver: forged logs, floods of strangers, of new addresses and of garbage.

Where something is counted, it is counted to the last datagram.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Redis, Settings
from shared.store.connection import connect
from shared.store.keys import Keys
from shared.store.store import Store
from tests.lab.datagrams import Sender, failure
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import (
    any_drops,
    await_witnesses,
    counted,
    dropped_everywhere,
    ledger,
    node,
    number,
    operate,
    patient,
)

KEYS = Keys()

LIMIT = 100

#: What a datagram can become, as the receiver's hash names it; and a failure.
OUTCOMES = (
    "refused", "malformed", "ignored", "abandoned", "wrong_pin", "pin_prompt", "refused_otherwise", "unknown_alias",
    "registration", "joined", "other",
)  # fmt: skip
ENDS = ("counted", "expired", "queue_dropped", "queued")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    settings = {
        "receiver": {"doubt_above": LIMIT, "doubt_for": "1m"},
        "ignoreip": ["127.0.0.0/8", "192.0.2.0/24"],
    }
    with patient(Lab(rps=2, settings=settings)) as lab:
        await_witnesses(lab)
        yield lab


def totals(lab: Lab) -> dict[str, int]:
    return {name: int(value) for name, value in node(lab.redis, "rx1").items() if value.isdigit()}


def arrived(lab: Lab, sent: int) -> bool:
    now = totals(lab)
    return now["received"] + now["drops"] >= sent and now["queued"] == 0


def poured(lab: Lab, datagrams: Iterable[bytes], *, rp: int = 0, source: str = "", per_ms: int = 5) -> dict[str, int]:
    """Send these; what became of them, by outcome, when all are dealt with. Both equations hold."""
    before = totals(lab)
    with Sender(lab.rps[rp].host.namespace, source=source) as sender:
        sent = sender.pour(datagrams, per_ms)
    wait_until(partial(arrived, lab, before["received"] + before["drops"] + sent), "all is dealt with")
    became = {name: value - before.get(name, 0) for name, value in totals(lab).items()}
    assert sent == became["received"] + became["drops"]
    assert became["received"] == sum(became[outcome] for outcome in OUTCOMES)
    assert became["failures"] == sum(became[end] for end in ENDS)
    return became


def said(lab: Lab, words: str) -> int:
    """In how many lines the receiver's log says so."""
    assert lab.receiver
    return lab.receiver.log.read_text(errors="replace").count(words)


def anonymous_kb(pid: int) -> int:
    """Memory of a process that is its own: not the spool, which all workers share."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_a_forged_log_bans_so_many_and_no_more_and_no_other_sender_is_hindered(lab: Lab) -> None:
    victims = [f"198.18.{n >> 8}.{n & 255}" for n in range(2_000)]
    lines = (failure(victim, f"{victim}-{turn}") for victim in victims for turn in range(5))
    begun = time.monotonic()
    became = poured(lab, lines)
    assert became["wrong_pin"] == 10_000
    assert became["bans"] <= LIMIT
    assert LIMIT // 2 < len(ledger(lab.redis)) <= LIMIT
    forger = lab.rps[0].host.inside
    status = operate(lab, "status")
    assert status.returncode == 1
    assert re.search(rf"lines of {re.escape(forger)} may be forged.*they ban only whom an enforcer sees", status.stdout)
    assert 1 <= said(lab, "ERROR") <= 2 * (time.monotonic() - begun + 2), "one a second and worker"
    rows = json.loads(operate(lab, "bans", "--json").stdout)
    assert sum(row["simulated"] for row in rows) > 1_000
    poured(lab, (failure("203.0.113.70", f"honest-{n}") for n in range(5)), rp=1)
    wait_until(partial(dropped_everywhere, lab, "203.0.113.70"), "an honest sender's guesser is dropped")
    poured(lab, (failure("203.0.113.71", f"hidden-{n}") for n in range(5)), rp=0)
    assert "203.0.113.71" not in ledger(lab.redis)


def test_the_forger_is_trusted_again_when_it_was_quiet(lab: Lab) -> None:
    """Two minutes pass by making all that the doubt remembers so much older."""
    forger = lab.rps[0].host.inside
    with lab.redis.client() as client:
        for key in (KEYS.doubted, KEYS.sender(forger)):
            for member, at in client.zrange(key, 0, -1, withscores=True):
                client.zadd(key, {member: at - 121_000})
    poured(lab, (failure("203.0.113.72", f"seen-{n}") for n in range(5)), rp=0)
    wait_until(partial(dropped_everywhere, lab, "203.0.113.72"), "it is dropped")
    assert "may be forged" not in operate(lab, "status").stdout


@pytest.mark.row(15)
def test_ten_thousand_datagrams_of_spoofed_senders_are_refused_unread(lab: Lab) -> None:
    """From 10.89.0.0/16, which is not in receiver.senders: forged failures that would be a thousand bans."""
    host = lab.rps[0].host.namespace
    host.configure("route add local 10.89.0.0/16 dev lo")
    lab.core.namespace.configure("route add 10.89.0.0/16 dev inside")
    before, lines, begun = totals(lab), said(lab, "refused a datagram"), time.monotonic()
    for n in range(200):
        with Sender(host, source=f"10.89.{n % 7}.{n + 1}") as sender:
            sender.pour((failure(f"198.19.{n}.{k // 5}", f"spoofed-{n}-{k}") for k in range(50)), per_ms=5)
    wait_until(lambda: totals(lab)["refused"] == before["refused"] + 10_000, "all are refused")
    assert totals(lab)["failures"] == before["failures"]
    elapsed_s = time.monotonic() - begun
    assert 1 <= said(lab, "refused a datagram") - lines <= 2 * (elapsed_s + 2), "one a second and worker"


def garbage(number: int) -> Iterator[bytes]:
    """Empty, binary, truncated, bent, of the longest kind that UDP has, and with terminal codes."""
    dice = random.Random(5)
    real = failure("203.0.113.80", "0123456789abcdef" * 2)
    for n in range(number):
        match n % 6:
            case 0:
                yield b""
            case 1:
                yield dice.randbytes(dice.randrange(1, 1_400))
            case 2:
                yield real[: dice.randrange(len(real))]
            case 3:
                yield real.replace(b'"ip":"', b'"ip":"\x1b[2J\n')
            case 4:
                yield b"\0" * dice.randrange(2_000)
            case _:
                yield real[:-1] + b" " * (65_507 - len(real) if n % 60 == 5 else 4_000)


@pytest.mark.row(14)
def test_a_flood_of_malformed_empty_binary_truncated_and_65507_byte_datagrams_is_counted_and_hardly_logged(
    lab: Lab,
) -> None:
    assert lab.receiver
    workers, before, begun = lab.receiver.workers(), said(lab, "cannot read a line"), time.monotonic()
    became = poured(lab, garbage(12_000), per_ms=2)
    assert became["malformed"] + became["drops"] == 12_000
    assert became["malformed"] > 11_000
    elapsed_s = time.monotonic() - begun
    assert 1 <= said(lab, "cannot read a line") - before <= 2 * (elapsed_s + 2), "one a second and worker"
    assert "\x1b" not in lab.receiver.log.read_text(errors="replace")
    assert lab.receiver.workers() == workers
    assert counted(lab.redis, "203.0.113.80") == 0


def ban_by_force(lab: Lab, networks: Iterable[str]) -> None:
    """Write into the ledger past all that asks whether one may."""
    settings = Settings(redis=Redis(url=f"unix://{lab.redis.socket}"))
    with connect(settings, "test", 2.0).client as client:
        writer = Ledger(Store(client))
        for network in networks:
            writer.ban(NewBan(Network(network), 300_000, "pin", "[]", "test"))


def flooding(n: int) -> str:
    """One address after another, every other of a /48 of its own."""
    return f"3fff:{n >> 16:x}:{n & 65535:x}:1::7" if n % 2 else f"100.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"


#: Addresses of the flood, one failure each; half of them IPv6.
MANY = int(os.environ.get("PINBAN_TEST_FLOOD", "30000"))


def test_a_flood_of_new_addresses_is_counted_exactly_and_its_memory_ends_with_the_window(lab: Lab) -> None:
    assert lab.receiver
    workers = lab.receiver.workers()
    own_kb = {pid: anonymous_kb(pid) for pid in workers}
    with lab.redis.client() as client:
        used = int(client.info("memory")["used_memory"])
        lines = (failure(flooding(n), f"new-{n}", alias="meet.alice") for n in range(MANY))
        became = poured(lab, lines, per_ms=4)
        assert became["wrong_pin"] + became["drops"] == MANY
        assert became["counted"] > 0.9 * MANY
        cost = (int(client.info("memory")["used_memory"]) - used) / became["counted"]
        assert cost < 900, f"{cost:.0f} bytes an address"
        for family in ("count", "window"):
            keys = list(client.scan_iter(f"pinban:{family}:*", count=10_000))
            assert len(keys) >= became["counted"]
            assert all(0 < client.pttl(key) <= 300_000 for key in keys[:: max(len(keys) // 300, 1)])
    assert lab.receiver.workers() == workers
    assert all(anonymous_kb(pid) - own_kb[pid] < 24_000 for pid in workers)
    assert became["bans"] == 0


@pytest.mark.row(18)
def test_an_allow_listed_address_that_fails_a_hundred_times_is_banned_on_neither_side(lab: Lab) -> None:
    ignored, allowed = "192.0.2.7", "203.0.113.90"
    assert operate(lab, "allow", allowed).returncode == 0
    wait_until(lambda: poured(lab, [failure(allowed, os.urandom(8).hex())])["ignored"] == 1, "the receiver knows it")
    for address in (ignored, allowed):
        became = poured(lab, (failure(address, f"{address}-{n}") for n in range(100)))
        assert became["ignored"] == 100
        assert address not in ledger(lab.redis)
    exempt = exempt_by(lab)
    ban_by_force(lab, [ignored, allowed, "203.0.113.91"])
    wait_until(partial(dropped_everywhere, lab, "203.0.113.91"), "the event after them is applied")
    assert not any(any_drops(lab, address) for address in (ignored, allowed))
    wait_until(lambda: exempt_by(lab) == [before + 2 for before in exempt], "both counted that they exempt two")


def exempt_by(lab: Lab) -> list[int]:
    return [number(lab.redis, rp.host.name, "exempt") for rp in lab.rps]


@pytest.mark.row(24)
def test_duplicated_and_reordered_datagrams_count_once_each(lab: Lab) -> None:
    """As a network may deliver them, and two sockets at once."""
    guesser = "203.0.113.95"
    dice = random.Random(7)
    lines = [failure(guesser, f"dup-{n}") for n in range(4)] * 25
    dice.shuffle(lines)
    for rp in (0, 1):
        poured(lab, lines, rp=rp)
    assert counted(lab.redis, guesser) == 4
    assert guesser not in ledger(lab.redis)
    poured(lab, [failure(guesser, "dup-4")] * 3)
    assert guesser in ledger(lab.redis)
