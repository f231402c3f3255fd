"""Redis dies, comes back, or is late: failures wait, bans stand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.kernel import members, traces
from tests.lab.lab import Lab
from tests.lab.prober import Prober
from tests.lab.process import wait_until
from tests.lab.views import await_ban, counted, guesses, ledger, new_source, node, unanswered, window


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2) as lab:
        yield lab


@pytest.mark.row(2)
def test_failures_of_an_outage_count_afterwards_with_their_age_and_bans_stand_throughout(lab: Lab) -> None:
    banned, late = new_source(lab, 101), new_source(lab, 102)
    guesses(lab, banned, range(5))
    await_ban(lab, banned)
    prober = Prober(lab.addresses(), banned)
    probing = lab.attacker.namespace.start(prober.run)

    lab.redis.kill()
    began_ms = time.time() * 1_000
    answers = guesses(lab, late, range(3))
    ended_ms = time.time() * 1_000
    assert [answer.status for answer in answers if answer] == [403] * 3, "nginx does not notice"
    assert unanswered(lab, banned)
    wait_until(lambda: time.time() * 1_000 > ended_ms + 1_500, "an outage that shows in the ages of failures")
    assert all(banned in members(rp.host.namespace) for rp in lab.rps)

    lab.redis.start()
    lab.redis.await_ready()
    wait_until(lambda: counted(lab.redis, late) == 3, "what failed during the outage is counted")
    # nginx tells of a guess after it has answered, and Redis reads its clock after the receiver has read its own; who
    # counted by the time of counting would be later by the whole outage.
    assert all(began_ms - 50 <= at <= ended_ms + 1_000 for at in window(lab.redis, late).values())
    guesses(lab, late, range(2))
    await_ban(lab, late)
    assert ledger(lab.redis) == {banned, late}
    prober.stop()
    knocks = probing.result()
    assert knocks.sent > 100
    assert knocks.answers == []


@pytest.mark.row(1)
def test_a_receiver_and_an_enforcer_that_start_before_redis_wait_for_it(lab: Lab) -> None:
    receiver, enforcer, host = lab.receiver, lab.rps[0].enforcer, lab.rps[0].host
    assert receiver
    assert enforcer
    receiver.stop()
    enforcer.stop()
    host.namespace.run([*enforcer.argv, "--disarm"])
    assert traces(host.namespace) == []
    lab.redis.stop()

    receiver.start()
    enforcer.start()
    receiver.await_ready(lambda: receiver.status("/healthz") == 200)
    assert receiver.status("/readyz") == 503
    enforcer.await_ready(lambda: sum("-A pinban" in line for line in traces(host.namespace)) == 4)
    wait_until(lambda: "standing bans stay" in enforcer.tail(), "the enforcer says that Redis is away")

    lab.redis.start()
    lab.redis.await_ready()
    wait_until(receiver.is_ready, "the receiver is ready")
    wait_until(lambda: members(host.namespace) == ledger(lab.redis), "the enforcer has what stood in the ledger")
    source = new_source(lab, 103)
    guesses(lab, source, range(5))
    await_ban(lab, source)
    wait_until(partial(is_well, lab, "rp1"), "the enforcer is well")


def is_well(lab: Lab, name: str) -> bool:
    return node(lab.redis, name)["trouble"] == ""
