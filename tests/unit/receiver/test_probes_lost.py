"""When a log path counts as cut, as lossy, or as fine: by numbers, not by clocks."""

from __future__ import annotations

import pytest

from receiver.probes.lost import Fault, LogPath, decode_path, faults, never_answered
from shared.nodes import ALIVE_MS, Node

RX1 = Node("rx1", 0, {"kind": "receiver"})


def enforcer(sent: int = 100, *, every_ms: int = 5_000, trouble: str = "", silent_ms: int = 0, **more: str) -> Node:
    fields = {"kind": "enforcer", "instance": "0123abcd", "probes_sent": str(sent), "probe_every_ms": str(every_ms)}
    return Node("rp1", silent_ms, fields | {"probe_trouble": trouble} | more)


def path(last: int = 100, window: str = "1" * 60, *, receiver: str = "rx1", instance: str = "0123abcd") -> LogPath:
    return LogPath("rp1", receiver, instance, last, window, 15_400, 3)


def kinds(paths: list[LogPath], *nodes: Node) -> list[str]:
    return [fault.kind for fault in faults(paths, nodes)]


def test_all_is_well_while_numbers_keep_up() -> None:
    assert kinds([path()], RX1, enforcer()) == []
    assert kinds([path(95)], RX1, enforcer()) == [], "two rounds may be under way"


def test_three_answered_rounds_that_did_not_come_are_a_cut() -> None:
    [fault] = faults([path(94)], [RX1, enforcer()])
    assert (fault.kind, fault.rp, fault.receiver) == ("cut", "rp1", "rx1")
    assert fault.text == "rp1: no line of its nginx has come to rx1 for 15s; requests go uncounted"


def test_fast_probes_are_given_as_many_as_five_seconds_hold() -> None:
    assert kinds([path(51)], RX1, enforcer(every_ms=200)) == []
    assert kinds([path(50)], RX1, enforcer(every_ms=200)) == ["cut"]


def test_a_round_that_five_seconds_hold_in_part_is_waited_for() -> None:
    assert kinds([path(93)], RX1, enforcer(every_ms=1_500)) == [], "in 5 s three rounds come and a fourth begins"
    assert kinds([path(92)], RX1, enforcer(every_ms=1_500)) == ["cut"]


def test_the_numbers_of_an_earlier_start_say_nothing_about_this_one() -> None:
    assert kinds([path(9_000, instance="fffffff0")], RX1, enforcer(5)) == []
    assert kinds([path(9_000, instance="fffffff0")], RX1, enforcer(6)) == ["cut"]
    assert kinds([path(5)], RX1, enforcer(6)) == []


def test_an_rp_that_no_receiver_ever_saw_is_cut() -> None:
    assert kinds([], RX1, enforcer(5)) == []
    [fault] = faults([], [RX1, enforcer(6)])
    assert fault == Fault("cut", "rp1", "", fault.text)
    assert "is the address in its access_log right?" in fault.text


def test_each_receiver_has_a_log_path_of_its_own_and_a_dead_one_has_none() -> None:
    both = [path(50), path(100, receiver="rx2")]
    rx2 = Node("rx2", 0, {"kind": "receiver"})
    assert [(f.kind, f.receiver) for f in faults(both, [RX1, rx2, enforcer()])] == [("cut", "rx1")]
    dead = Node("rx1", ALIVE_MS + 1, {"kind": "receiver"})
    assert kinds(both, dead, rx2, enforcer()) == []


@pytest.mark.parametrize(
    "node",
    [
        enforcer(silent_ms=ALIVE_MS + 1),
        enforcer(-1),
        Node("rp1", 0, {"kind": "enforcer"}),
        enforcer(probes_sent="nonsense"),
        Node("rp1", 0, {"kind": "receiver", "probes_sent": "100"}),
    ],
    ids=["dead", "off", "of an older version", "garbled", "a receiver"],
)
def test_nobody_is_missed_who_sends_no_probes(node: Node) -> None:
    assert kinds([path(1, "0" * 60)], RX1, node) == []


def test_more_than_one_in_twenty_missing_is_lossy() -> None:
    assert kinds([path(window="10" * 3 + "1" * 54)], RX1, enforcer()) == []
    [fault] = faults([path(window="10" * 4 + "1" * 52)], [RX1, enforcer()])
    assert fault.kind == "lossy"
    assert "4 of the last 60 probes through its nginx did not come to rx1" in fault.text


def test_a_cut_that_is_over_does_not_make_the_log_path_lossy() -> None:
    healed = path(window="1" * 20 + "0" * 30 + "1" * 10)
    assert (healed.missing, healed.scattered) == (30, 0)
    assert kinds([healed], RX1, enforcer()) == []
    assert kinds([path(window="1001" * 15)], RX1, enforcer()) == ["lossy"]


def test_an_nginx_that_ceased_to_answer_is_a_fault_and_one_that_never_did_is_none() -> None:
    mute = "nginx does not answer ([Errno 111] Connection refused) when asked for a probe"
    assert [f.text for f in faults([path()], [RX1, enforcer(100, trouble=mute)])] == [f"rp1: {mute}"]
    assert kinds([path()], RX1, enforcer(0, trouble=mute)) == ["mute"], "an earlier start was answered"
    assert kinds([], RX1, enforcer(0, trouble=mute)) == []
    assert never_answered(enforcer(0, trouble=mute), []) == mute
    assert never_answered(enforcer(0, trouble=mute), [path()]) == ""
    assert never_answered(enforcer(1, trouble=mute), []) == ""


def test_what_redis_holds_is_read_or_left() -> None:
    value = b'{"instance":"0123abcd","last":7,"window":"1101","seen":1000,"lag":4}'
    assert decode_path(b"rx1 rp1", value, 1_500) == LogPath("rp1", "rx1", "0123abcd", 7, "1101", 500, 4)
    unknown = decode_path("rx1 rp1", value.replace(b":4}", b":-1}"), 500)
    assert unknown is not None
    assert (unknown.lag_ms, unknown.silent_ms) == (None, 0)
    for garbage in (b"", b"\xff", b"[]", b'{"instance":1}', b"null"):
        assert decode_path(b"rx1 rp1", garbage, 0) is None
