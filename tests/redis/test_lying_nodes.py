"""An RP that was broken into writes what it likes where its account may: it blinds nobody for the other RPs."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from pinban.deployment.operator import Operator, Row
from receiver.probes import faults, read_paths
from receiver.probes.seen import Probes
from shared.nodes import KEPT_MS, index_nodes, read_nodes
from shared.probe import Probe
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.redis.conftest import KEYS

#: What pinban writes or has written, what is told beside it, and anything.
_NAMES = (
    "kind", "seen", "instance", "trouble", "epoch", "applied_rev", "probes_sent", "probe_every_ms", "probe_trouble",
    "clock_skew_ms", "drops", "bans", "queued", "backend", "version", "beats_sent", "name", "alive", "silent_ms",
)  # fmt: skip

names = st.sampled_from([name.encode() for name in _NAMES]) | st.binary(max_size=40)
digits = st.builds(lambda sign, digit, times: (sign + digit * times).encode(), st.sampled_from(["", "-", "0x"]),
                   st.sampled_from("019"), st.integers(0, 5_000))  # fmt: skip
words = st.sampled_from(
    [b"receiver", b"enforcer", b"nan", b"1e400", b"\x1b]52;c;eA==\x07", b"\xd9\xa3", b"\xe2\x80\xae"]
)
values = digits | words | st.binary(max_size=60) | st.just(b"x" * 100_000)

OF_RP2 = "rp2: no line of its nginx has come to rx1"

many = limits(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def honest(client: redis.Redis) -> None:
    """A receiver, and an RP whose log is cut; beside them one that the test writes."""
    client.flushall()
    now_ms = Store(client).now_ms()
    client.hset(KEYS.node("rx1"), mapping={"kind": "receiver", "seen": now_ms, "instance": "a" * 8, "drops": 0})
    facts: dict[str, str | int] = {
        "kind": "enforcer",
        "seen": now_ms,
        "instance": "b" * 8,
        "applied_rev": 0,
        "probes_sent": 100,
        "probe_every_ms": 5_000,
    }
    client.hset(KEYS.node("rp2"), mapping=facts)  # type: ignore[arg-type]
    client.sadd(KEYS.nodes, "rx1", "rp2", "rp1")
    path = {"instance": "b" * 8, "last": 20, "window": "1" * 60, "seen": now_ms - 60_000, "lag": 3}
    client.hset(KEYS.probes, "rx1 rp2", json.dumps(path))


def told(settings: Settings, client: redis.Redis) -> Row:
    """What status says, after it was looked at that all receivers and operators still see the other RP."""
    status = Operator(settings).status()
    json.dumps(status)
    others = {node["name"]: node for node in status["nodes"]}
    assert (others["rx1"]["alive"], others["rp2"]["alive"]) == (True, True)
    assert others["rp2"]["probes_sent"] == 100
    assert any(problem.startswith(OF_RP2) for problem in status["problems"])
    store = Store(client)
    assert any(fault.text.startswith(OF_RP2) for fault in faults(read_paths(store), read_nodes(store)))
    index_nodes(store)
    assert any(fault.text.startswith(OF_RP2) for fault in faults(read_paths(store), read_nodes(store)))
    return status


@many
@given(held=st.dictionaries(names, values, min_size=1, max_size=30))
@example(held={b"kind": b"enforcer", b"seen": b"9" * 5_000})
@example(held={b"kind": b"enforcer", b"beats_sent": b"9" * 5_000})
@example(held={b"silent_ms": b"x", b"name": b"rp2", b"alive": b""})
@example(held={b"no": b"kind"})
@example(held={b"f%d" % n: b"1" for n in range(5_000)})
def test_whatever_the_hash_of_one_node_holds_the_others_are_told_of(
    settings: Settings, client: redis.Redis, held: dict[bytes, bytes]
) -> None:
    honest(client)
    client.hset(KEYS.node("rp1"), mapping=held)  # type: ignore[arg-type]
    [row] = [node for node in told(settings, client)["nodes"] if node["name"] not in ("rx1", "rp2")]
    assert row["name"] == "rp1"
    assert 0 <= row["silent_ms"] <= KEPT_MS
    assert all(len(str(value)) <= 2_000 for value in row.values())


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seen", "9" * 5_000, "seen is '99999999999999999999'"),
        ("drops", "-1", "drops is '-1'"),
        ("kind", "", "whether it is a receiver or an enforcer"),
        ("trouble", "x" * 9_000, "trouble has 9000 bytes"),
        ("alive", "1", "it has a field 'alive'"),
        ("Two words", "1", "it has a field 'Two words'"),
    ],
)
def test_a_node_that_writes_nonsense_is_the_problem_and_the_remedy_is_named(
    settings: Settings, client: redis.Redis, field: str, value: str, said: str
) -> None:
    honest(client)
    good: dict[str, str | int] = {
        "kind": "enforcer",
        "seen": Store(client).now_ms(),
        "epoch": "",
        "applied_rev": 0,
        "probes_sent": -1,
    }
    client.hset(KEYS.node("rp1"), mapping=good)  # type: ignore[arg-type]
    assert not any("rp1" in problem for problem in told(settings, client)["problems"])
    client.hset(KEYS.node("rp1"), field, value)
    [problem] = [each for each in told(settings, client)["problems"] if "is not as pinban writes it" in each]
    assert problem.startswith("rp1: ")
    assert said in problem
    assert problem.endswith("Then ACL SETUSER enforcer-rp1 off. Else DEL {pinban}:node:rp1")


@many
@given(names=st.sets(st.binary(max_size=40) | st.text(max_size=9).map(str.encode), max_size=20), many=st.booleans())
def test_whatever_names_stand_in_the_index_of_nodes_the_others_are_told_of(
    settings: Settings, client: redis.Redis, names: set[bytes], many: bool
) -> None:
    honest(client)
    client.sadd(KEYS.nodes, *names, *([f"n{n}" for n in range(1_100)] if many else ["n"]), b"x" * 100_000)
    told(settings, client)


def test_an_enforcer_that_calls_itself_a_receiver_does_not_hide_that_there_is_none(
    settings: Settings, client: redis.Redis
) -> None:
    now_ms = Store(client).now_ms()
    for name in ("rp1", "rp2"):
        client.hset(KEYS.node(name), mapping={"kind": "enforcer", "seen": now_ms})
    client.hset(KEYS.node("rp1"), "kind", "receiver")
    client.set(KEYS.heartbeat, f"rx1/17 {now_ms - 60_000}")
    assert any("no receiver is alive" in problem for problem in Operator(settings).status()["problems"])
    client.set(KEYS.heartbeat, f"rx1/17 {now_ms}")
    assert not any("no receiver is alive" in problem for problem in Operator(settings).status()["problems"])


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70) | st.just(10**4_000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
paths = st.fixed_dictionaries({}, optional=dict.fromkeys(("instance", "last", "window", "seen", "lag"), json_values))


@many
@given(path=paths.map(lambda path: json.dumps(path).encode()) | st.binary(max_size=60))
@example(path=b'{"seen": "x"}')
@example(path=b'{"instance": "c", "last": 1, "seen": 1, "lag": 1}')
@example(path=b'{"instance": "c", "last": 1e300, "window": "1", "seen": 1, "lag": 1}')
def test_whatever_the_path_of_one_rp_holds_probes_of_all_are_noted(
    settings: Settings, client: redis.Redis, path: bytes
) -> None:
    honest(client)
    client.hset(KEYS.node("rp1"), mapping={"kind": "enforcer", "seen": Store(client).now_ms(), "probes_sent": 100})
    client.hset(KEYS.probes, mapping={"rx1 rp1": path, "rx1 \x1b[2J": path, "": path})
    told(settings, client)
    probes, instance = Probes(Store(client), "rx1"), secrets.token_hex(4)
    for rp in ("rp1", "rp2"):
        probes.note(Probe(rp, instance, 100, 0))
    probes.flush()
    found = {path.rp: path for path in read_paths(Store(client)) if path.receiver == "rx1"}
    assert all((found[rp].instance, found[rp].last) == (instance, 100) for rp in ("rp1", "rp2"))


def test_a_hash_of_probes_of_another_type_leaves_the_rest_of_status(settings: Settings, client: redis.Redis) -> None:
    honest(client)
    client.set(KEYS.probes, "x")
    status = Operator(settings).status()
    assert [node["name"] for node in status["nodes"]] == ["rp2", "rx1"]
    assert any(problem.startswith("rp2: no line of its nginx") for problem in status["problems"])
