"""What is believed of lines that may be forged: every case that matters, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from receiver.testimony import Belief, Rp, believe

ONE, TWO = "10.0.0.5", "10.0.0.6"


def rp(name: str, *addresses: str, alive: bool = True) -> Rp:
    return Rp(name, frozenset(addresses), alive)


RP1, RP2 = rp("rp1", ONE, "2001:db8::5"), rp("rp2", TWO)
DEAD1 = rp("rp1", ONE, alive=False)
LIAR = rp("rp2", TWO, ONE)

#: the RPs; what they answer; what is believed of a line of ONE, at once and when it has waited
CASES: dict[str, tuple[Sequence[Rp], Mapping[str, str], Belief | None, Belief]] = {
    "its RP saw the client": ([RP1, RP2], {"rp1": "seen"}, Belief.REAL, Belief.REAL),
    "another RP saw it": ([RP1, RP2], {"rp1": "unseen", "rp2": "seen"}, Belief.REAL, Belief.REAL),
    "its RP saw nobody": ([RP1, RP2], {"rp1": "unseen"}, Belief.FORGED, Belief.FORGED),
    "another RP saw nobody": ([RP1, RP2], {"rp2": "unseen"}, None, Belief.UNKNOWN),
    "nobody has answered": ([RP1, RP2], {}, None, Belief.UNKNOWN),
    "its RP cannot tell": ([RP1, RP2], {"rp1": "unknown"}, None, Belief.UNKNOWN),
    "its RP cannot tell, and all have answered": (
        [RP1, RP2], {"rp1": "unknown", "rp2": "unseen"}, Belief.UNKNOWN, Belief.UNKNOWN,
    ),
    "its RP says nonsense": ([RP1], {"rp1": "UNSEEN"}, Belief.UNKNOWN, Belief.UNKNOWN),
    "its enforcer is dead": ([DEAD1, RP2], {"rp2": "unseen"}, Belief.UNKNOWN, Belief.UNKNOWN),
    "nobody owns the address, and nobody saw the client": ([RP2], {"rp2": "unseen"}, Belief.FORGED, Belief.FORGED),
    "nobody owns the address, and not all have answered": (
        [RP2, rp("rp3")], {"rp2": "unseen"}, None, Belief.UNKNOWN,
    ),
    "nobody owns the address, and one cannot tell": (
        [RP2, rp("rp3")], {"rp2": "unseen", "rp3": "unknown"}, Belief.UNKNOWN, Belief.UNKNOWN,
    ),
    "nobody owns the address, but somebody saw the client": ([RP2], {"rp2": "seen"}, Belief.REAL, Belief.REAL),
    "there are no enforcers": ([], {}, Belief.UNKNOWN, Belief.UNKNOWN),
    "a liar denies a line of another": ([RP1, LIAR], {"rp2": "unseen", "rp1": "seen"}, Belief.REAL, Belief.REAL),
    "a liar speaks first": ([RP1, LIAR], {"rp2": "unseen"}, None, Belief.UNKNOWN),
    "a liar speaks for a dead RP": ([DEAD1, LIAR], {"rp2": "unseen"}, Belief.UNKNOWN, Belief.UNKNOWN),
    "a liar does not let a forged line be found out": (
        [RP1, LIAR], {"rp1": "unseen", "rp2": "unknown"}, Belief.UNKNOWN, Belief.UNKNOWN,
    ),
    "both who say they own it saw nobody": (
        [RP1, LIAR], {"rp1": "unseen", "rp2": "unseen"}, Belief.FORGED, Belief.FORGED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_line_of_a_doubted_sender_is_believed_as_far_as_kernels_bear_it_out(name: str) -> None:
    rps, answers, at_once, at_last = CASES[name]
    assert believe({ONE}, rps, answers) is at_once
    assert believe({ONE}, rps, answers, waited=True) is at_last


def test_lines_of_two_doubted_senders_are_forged_only_if_both_rps_say_so() -> None:
    assert believe({ONE, TWO}, [RP1, RP2], {"rp1": "unseen"}) is None
    assert believe({ONE, TWO}, [RP1, RP2], {"rp1": "unseen", "rp2": "unknown"}) is Belief.UNKNOWN
    assert believe({ONE, TWO}, [RP1, RP2], {"rp1": "unseen", "rp2": "unseen"}) is Belief.FORGED
    assert believe({ONE, TWO}, [RP1, RP2], {"rp1": "unseen", "rp2": "seen"}) is Belief.REAL
