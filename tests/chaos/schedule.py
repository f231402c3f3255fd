"""Which faults happen when, drawn from a seed. Pure: the same seed and length are the same schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Faults with their weight and how long they last, s. What they do is in tests/chaos/faults.py.
KINDS = {
    "redis_frozen": (2, 1, 12),
    "redis_killed": (2, 0.1, 4),
    "redis_full": (1, 1, 5),
    "scripts_flushed": (2, 0, 0),
    "subscribers_cut": (3, 0, 0),
    "clients_cut": (2, 0, 0),
    "link_frozen": (3, 1, 12),
    "link_slow": (3, 1, 8),
    "link_cut": (3, 0, 0),
    "rp_partitioned": (3, 2, 15),
    "rp_partitioned_for_a_minute": (1, 60, 70),
    "datagrams_dropped": (2, 1, 5),
    "datagrams_doubled": (2, 1, 5),
    "datagrams_disordered": (2, 1, 5),
    "datagrams_garbled": (2, 1, 5),
    "datagrams_held_back": (2, 1, 4),
    "worker_killed": (3, 0, 0),
    "worker_stopped": (2, 1, 4),
    "arbiter_stopped": (1, 1, 6),
    "receiver_reloaded": (2, 0, 0),
    "enforcer_killed": (3, 0.1, 5),
    "enforcer_stopped": (2, 1, 10),
    "bans_flushed_in_kernel": (1, 0, 0),
    "flood": (1, 0, 0),
}

#: Between two faults, s, at most.
PAUSE_S = 3.0

#: No fault begins this long before the end, s.
REST_S = 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the schedule."""

    at_s: float
    kind: str
    lasts_s: float
    target: int  #: which RP, or which worker; taken modulo how many there are

    def __str__(self) -> str:
        return f"{self.at_s:7.1f} s  {self.kind} on {self.target} for {self.lasts_s:.1f} s"


def draw(seed: int, seconds: float) -> list[Fault]:
    """The schedule of this seed: every kind once, then by weight. Every fault is over before the end."""
    dice = random.Random(seed)
    names, weights = list(KINDS), [weight for weight, _, _ in KINDS.values()]
    once = dice.sample(names, len(names))
    schedule: list[Fault] = []
    at_s = dice.uniform(0, PAUSE_S)
    while at_s < seconds - REST_S:
        kind = once.pop() if once else dice.choices(names, weights)[0]
        _, shortest, longest = KINDS[kind]
        lasts_s = min(dice.uniform(shortest, longest), seconds - REST_S - at_s)
        schedule.append(Fault(at_s, kind, lasts_s, dice.randrange(60)))
        at_s += dice.uniform(0, PAUSE_S)
    return schedule
