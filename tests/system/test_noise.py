"""Noise and strangers: on the socket, on the channel, on the HTTP port. Each is counted, none has an effect."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterator
from functools import partial

import msgpack
import pytest

from bench.latency import measure
from tests.lab.datagrams import Sender, failure
from tests.lab.half_open import half_open
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, counted, guesses, ledger, new_source, number, operate

NOISE = 10_000


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2) as lab:
        yield lab


def noise(seed: int) -> Iterator[bytes]:
    """Random bytes, torn and bent pieces of real lines; none is a line of ours."""
    dice = random.Random(seed)
    real = failure("203.0.113.200", "0123456789abcdef" * 2)
    for n in range(NOISE):
        match n % 4:
            case 0:
                yield dice.randbytes(dice.randrange(1, 1_400))
            case 1:
                yield real[: dice.randrange(len(real))]
            case 2:
                at = dice.randrange(29, len(real))
                yield real[:at] + dice.randbytes(3) + real[at:]
            case _:
                yield real.replace(b'"ip":"203.0.113.200"', b'"ip":"%d"' % dice.randrange(1 << 40))


def bad_events(seed: int) -> Iterator[bytes]:
    """None that the Lua scripts could have written: random, torn, and of the wrong types or sizes."""
    dice = random.Random(seed)
    real = msgpack.packb(["ban/1", "0" * 16, 1, "203.0.113.201", 60_000, "pin"])
    bent: tuple[object, ...] = (
        ["ban/1", "e", 1, "nonsense", 1, "pin"],
        ["ban/1", "e", -1, "203.0.113.1", 1, "x"],
        {"ban/1": 1},
        [[[]]],
        None,
    )
    for n in range(NOISE):
        match n % 4:
            case 0:
                yield b"\xc1" + dice.randbytes(dice.randrange(200))
            case 1:
                yield real[: dice.randrange(1, len(real))]
            case 2:
                yield dice.randbytes(dice.randrange(600, 2_000))
            case _:
                yield msgpack.packb(bent[n // 4 % len(bent)])


def has_counted(lab: Lab, name: str, bad: int) -> bool:
    return number(lab.redis, name, "bad_events") == bad


def is_banned_as_always(lab: Lab, last: int) -> None:
    source = new_source(lab, last)
    assert guesses(lab, source, range(5)).count(None) == 0
    await_ban(lab, source)


@pytest.mark.row(14)
def test_ten_thousand_random_datagrams_are_counted_and_do_no_harm(lab: Lab) -> None:
    assert lab.receiver
    workers = lab.receiver.workers()
    before = {word: number(lab.redis, "rx1", word) for word in ("received", "malformed")}
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour(noise(seed=1), per_ms=5)
    wait_until(lambda: number(lab.redis, "rx1", "received") == before["received"] + NOISE, "all noise is received")
    malformed = number(lab.redis, "rx1", "malformed") - before["malformed"]
    outcomes = json.loads(operate(lab, "status", "--json").stdout)["nodes"]
    rx1 = next(node for node in outcomes if node["name"] == "rx1")
    named = (
        "refused",
        "malformed",
        "ignored",
        "abandoned",
        "wrong_pin",
        "pin_prompt",
        "refused_otherwise",
        "unknown_alias",
    )
    assert rx1["received"] == sum(rx1[word] for word in (*named, "registration", "joined", "other", "probe"))
    assert malformed > 0.6 * NOISE
    assert lab.receiver.workers() == workers
    assert number(lab.redis, "rx1", "drops") == 0
    assert ledger(lab.redis) <= {"203.0.113.200"}, "at most the address that stood in the bent lines"
    is_banned_as_always(lab, 101)


@pytest.mark.row(27)
def test_ten_thousand_random_events_are_counted_and_do_no_harm(lab: Lab) -> None:
    before = [number(lab.redis, rp.host.name, "bad_events") for rp in lab.rps]
    begun = [[number(lab.redis, rp.host.name, word) for word in ("gaps", "resyncs")] for rp in lab.rps]
    with lab.redis.client() as client:
        pipeline = client.pipeline(transaction=False)
        for event in bad_events(seed=2):
            pipeline.publish("pinban:events", event)
        pipeline.execute()
    for rp, already in zip(lab.rps, before, strict=True):
        wait_until(partial(has_counted, lab, rp.host.name, already + NOISE), f"{rp.host.name} counted them")
        assert rp.enforcer
        assert rp.enforcer.running
        assert rp.enforcer.tail().count("Traceback") == 0
    after = [[number(lab.redis, rp.host.name, word) for word in ("gaps", "resyncs")] for rp in lab.rps]
    assert after == begun, "garbage is no gap"
    is_banned_as_always(lab, 102)


@pytest.mark.row(15)
def test_a_stranger_on_the_inside_network_is_refused_and_counted(lab: Lab) -> None:
    """The attacker's network does not reach the receiver at all; this one does, and is not in senders."""
    stranger, victim = "10.88.0.9", "203.0.113.202"
    host = lab.rps[0].host.namespace
    host.configure(f"addr add {stranger}/32 dev inside")
    lab.core.namespace.configure(f"route add {stranger}/32 dev inside")
    before = number(lab.redis, "rx1", "refused")
    with Sender(host, source=stranger) as sender:
        sender.pour((failure(victim, f"stranger-{n}") for n in range(500)), per_ms=5)
    wait_until(lambda: number(lab.redis, "rx1", "refused") == before + 500, "all are refused")
    assert counted(lab.redis, victim) == 0
    assert victim not in ledger(lab.redis)


def test_hundreds_of_half_open_requests_delay_no_ban(lab: Lab) -> None:
    """Bans with them and without by turns, so that whatever slows this machine slows both."""
    assert lab.receiver
    workers, without, beside = lab.receiver.workers(), list[float](), list[float]()
    for turn in range(3):
        without += latencies(lab, f"203.{10 + turn}")
        with half_open(lab):
            beside += latencies(lab, f"203.{20 + turn}")
    assert statistics.median(beside) < 10 * statistics.median(without), (beside, without)
    assert lab.receiver.workers() == workers
    wait_until(lambda: lab.receiver is not None and lab.receiver.status("/healthz") == 200, "health answers again")


def latencies(lab: Lab, network: str) -> list[float]:
    return [ms for each in measure(lab, 20, network).of.values() for ms in each]
