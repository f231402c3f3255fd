"""The operator's commands against a real Redis, as a person or a script runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from pinban.cli import main
from pinban.deployment.operator import Operator
from receiver.failures import Failure
from receiver.probes.seen import Probes
from receiver.store.counters import Counters
from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan
from shared.nodes import ALIVE_MS, KEPT_MS, NodeWriter, index_nodes, read_nodes
from shared.probe import Probe
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS, A, B, Run, as_json, history, text

RECEIVER: dict[str, str | int] = {"kind": "receiver", "version": "1", "drops": 0, "queued": 0}


def report(settings: Settings, client: redis.Redis, name: str, **fields: str | int) -> None:
    NodeWriter(Store(client), name, f"instance-{name}").write(fields)


def enforcer(client: redis.Redis, **changed: str | int) -> dict[str, str | int]:
    fields: dict[str, str | int] = {
        "kind": "enforcer", "version": "1", "backend": "iptables", "bans": 1, "trouble": "",
        "epoch": text(client, KEYS.epoch), "applied_rev": text(client, KEYS.rev) or 0,
    }  # fmt: skip
    return fields | changed


def test_with_all_well_status_says_so_and_exits_with_zero(
    run: Run, settings: Settings, client: redis.Redis, ledger: Ledger
) -> None:
    ledger.ban(NewBan(A, 60_000, "pin", "[]", "rx1"))
    report(settings, client, "rx1", **RECEIVER)
    report(settings, client, "rp1", **enforcer(client))
    found = as_json(run("status", "--json"))
    assert (found["ledger"]["rev"], found["ledger"]["bans"], found["problems"]) == (1, 1, [])
    assert [(node["name"], node["alive"]) for node in found["nodes"]] == [("rp1", True), ("rx1", True)]
    shown = run("status")
    assert shown.exit_code == 0
    assert "revision 1" in shown.output
    assert "!" not in shown.output


def test_with_no_daemon_status_says_so_and_exits_with_one(run: Run) -> None:
    problems = as_json(run("status", "--json"), code=1)["problems"]
    assert any("no receiver is alive" in problem for problem in problems)
    assert any("no enforcer is alive" in problem for problem in problems)
    shown = run("status")
    assert shown.exit_code == 1
    assert "! no receiver is alive" in shown.output
    assert "no daemon has reported in the last day" in shown.output


def test_status_tells_of_a_silent_daemon_and_of_one_in_trouble(
    run: Run, settings: Settings, client: redis.Redis
) -> None:
    report(settings, client, "rx1", **RECEIVER)
    report(settings, client, "rp1", **enforcer(client, trouble="set pinban4 is full"))
    client.hset(KEYS.node("rx1"), "seen", Store(client).now_ms() - ALIVE_MS - 60_000)
    problems = as_json(run("status", "--json"), code=1)["problems"]
    assert any(problem.startswith("rx1 has been silent for 1m") for problem in problems)
    assert "rp1: set pinban4 is full" in problems


def test_status_tells_of_an_enforcer_that_stays_behind(
    run: Run, settings: Settings, client: redis.Redis, ledger: Ledger
) -> None:
    ledger.ban(NewBan(A, 60_000, "pin", "[]", "rx1"))
    client.delete(KEYS.history)
    client.xadd(KEYS.history, {"event": "ban"}, id=f"{Store(client).now_ms() - 60_000}-0")  # the change is a minute old
    report(settings, client, "rx1", **RECEIVER)
    report(settings, client, "rp1", **enforcer(client, applied_rev=0))
    [problem] = as_json(run("status", "--json"), code=1)["problems"]
    assert problem == "rp1 is at revision 0, the ledger at 1"


def test_what_once_happened_is_a_note_and_no_problem(run: Run, settings: Settings, client: redis.Redis) -> None:
    report(settings, client, "rx1", **(RECEIVER | {"drops": 7, "refused": 2}))
    report(settings, client, "rp1", **enforcer(client, backend="dry-run"))
    notes = as_json(run("status", "--json"))["notes"]
    assert any("7 datagrams lost" in note for note in notes)
    assert any("2 datagrams refused" in note for note in notes)
    assert any("enforces nothing" in note for note in notes)


def test_a_node_is_what_it_last_wrote(settings: Settings, client: redis.Redis) -> None:
    writer = NodeWriter(Store(client), "rx1", "one")
    assert writer.write({"kind": "receiver", "drops": 1})
    assert writer.write({"kind": "receiver", "drops": 2})
    [node] = read_nodes(Store(client))
    assert (node.name, node.alive, node.fields["drops"]) == ("rx1", True, "2")
    assert node.silent_ms < 5_000
    assert KEPT_MS - 5_000 < client.pttl(KEYS.node("rx1")) <= KEPT_MS


@pytest.mark.parametrize(
    "nonsense",
    [
        {"kind": b"\xff\xfe", "seen": "x", "drops": "--5", "clock_skew_ms": "\u00b2", b"\xff": b"\xff"},
        {"seen": "9" * 5_000, "drops": "9" * 5_000, "applied_rev": "9" * 5_000, "probes_sent": "9" * 5_000},
        {"no": "kind"},
    ],
    ids=["bytes that are no text", "numbers of 5,000 digits", "no kind"],
)
def test_a_node_that_writes_nonsense_hides_no_other_and_is_named(
    run: Run, settings: Settings, client: redis.Redis, nonsense: dict[str | bytes, str | bytes]
) -> None:
    """Somebody who breaks into an RP may write what he likes into its hash."""
    NodeWriter(Store(client), "rx1", "one").write({"kind": "receiver"})
    NodeWriter(Store(client), "rp1", "two").write({"kind": "enforcer"})
    client.delete(KEYS.node("rp1"))
    client.hset(KEYS.node("rp1"), mapping=nonsense)  # type: ignore[arg-type]
    status = Operator(settings).status()
    assert [(node["name"], node["alive"]) for node in status["nodes"]] == [("rp1", False), ("rx1", True)]
    shown = run("status")
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output
    assert "! rp1: {pinban}:node:rp1 is not as pinban writes it" in shown.output
    assert "Else DEL {pinban}:node:rp1" in shown.output


def test_a_node_of_another_type_hides_no_other(settings: Settings, client: redis.Redis) -> None:
    NodeWriter(Store(client), "rx1", "one").write({"kind": "receiver"})
    client.set(KEYS.node("rp1"), "x")
    client.sadd(KEYS.nodes, "rp1")
    status = Operator(settings).status()
    assert [(node["name"], node["alive"]) for node in status["nodes"]] == [("rp1", False), ("rx1", True)]
    assert "it is no hash" in status["problems"][0]


@pytest.mark.parametrize("lost", ["deleted", "of another type"])
def test_without_an_index_of_nodes_they_are_searched_for(client: redis.Redis, lost: str) -> None:
    store = Store(client)
    NodeWriter(store, "rx1", "one").write({"kind": "receiver"})
    client.delete(KEYS.nodes)
    if lost == "of another type":
        client.set(KEYS.nodes, "x")
    assert [node.name for node in read_nodes(store)] == ["rx1"]


def test_the_index_of_nodes_gains_those_that_may_not_write_it_and_loses_those_that_are_gone(
    client: redis.Redis,
) -> None:
    store = Store(client)
    NodeWriter(store, "rx1", "one").write({"kind": "receiver"})
    client.hset(KEYS.node("rp1"), "kind", "enforcer")
    client.sadd(KEYS.nodes, "gone")
    index_nodes(store)
    assert client.smembers(KEYS.nodes) == {b"rx1", b"rp1"}


def test_an_index_of_nodes_that_an_enemy_filled_blinds_nobody(client: redis.Redis) -> None:
    """An enforcer may write it: whoever breaks into a proxy may too."""
    store = Store(client)
    NodeWriter(store, "rx1", "one").write({"kind": "receiver"})
    client.sadd(KEYS.nodes, *(f"n{n}" for n in range(5_000)), b"\xff")
    assert [node.name for node in read_nodes(store)] == ["rx1"]
    index_nodes(store)
    assert client.smembers(KEYS.nodes) == {b"rx1"}


def test_status_reads_neither_all_bans_nor_all_keys(
    run: Run, settings: Settings, client: redis.Redis, ledger: Ledger
) -> None:
    """It is asked every two seconds by `watch`, with a million bans too."""
    NodeWriter(Store(client), "rx1", "one").write({"kind": "receiver"})
    ledger.ban(NewBan(A, 60_000, "pin", "[]", "rx1"))
    client.config_resetstat()
    assert Operator(settings).status()["ledger"]["bans"] == 1
    asked = client.info("commandstats")
    assert {"cmdstat_zcount", "cmdstat_hgetall"} <= asked.keys()
    assert not {"cmdstat_scan", "cmdstat_keys", "cmdstat_zscan", "cmdstat_smembers"} & asked.keys()


@pytest.mark.parametrize("member", [b"garbage", b"\xff\xfe", b"10.0.0.1/8", b""])
def test_a_foreign_member_of_the_bans_hides_itself_alone_and_is_named(
    run: Run, client: redis.Redis, ledger: Ledger, member: bytes
) -> None:
    ledger.ban(NewBan(A, 60_000, "pin", "[]", "rx1"))
    client.zadd(KEYS.bans, {member: 2**50})
    assert [row["network"] for row in as_json(run("bans", "--json"))] == [A]
    assert as_json(run("allow", A, "--json"))["lifted"] == 1
    notes = as_json(run("status", "--json"), code=1)["notes"]
    assert any("which is no network and has no effect; ZREM it" in note for note in notes)


def test_what_cannot_be_read_of_a_ban_is_left_empty(run: Run, client: redis.Redis, ledger: Ledger) -> None:
    ledger.ban(NewBan(A, 60_000, "pin", "[]", "rx1"))
    odd: dict[str, str | bytes] = {"evidence": "[[", "since": "9" * 5_000, "strikes": "x", "by": b"\xff"}
    client.hset(KEYS.ban(A), mapping=odd)  # type: ignore[arg-type]
    [row] = as_json(run("bans", "--json"))
    assert (row["network"], row["rule"], row["evidence"], row["since_ms"], row["strikes"]) == (A, "pin", [], 0, 0)
    client.delete(KEYS.ban(A))
    client.set(KEYS.ban(A), "x")
    [row] = as_json(run("bans", "--json"))
    assert (row["network"], row["rule"]) == (A, "")


def test_an_entry_of_the_allow_list_that_cannot_be_read_is_named(run: Run, client: redis.Redis) -> None:
    client.hset(KEYS.allow, "office", "{}")
    notes = as_json(run("status", "--json"), code=1)["notes"]
    assert any("{pinban}:allow holds 'office', which is no network and has no effect; HDEL it" in n for n in notes)


@pytest.mark.parametrize(
    "fields", [{"event": "ban"}, {"event": "ban", "network": A, "until": "9" * 5_000}, {"event": "hot"}, {"x": "y"}]
)
def test_an_entry_of_the_history_without_a_field_hides_itself_alone(
    run: Run, client: redis.Redis, ledger: Ledger, fields: dict[str, str]
) -> None:
    client.xadd(KEYS.history, fields)  # type: ignore[arg-type]
    ledger.unban(A, "asked", "me")
    shown = run("history")
    assert shown.exit_code == 0, shown.output
    assert f"unbanned {A} (asked), by me" in shown.output


def test_a_node_without_a_kind_is_shown_and_commands_no_terminal(
    run: Run, settings: Settings, client: redis.Redis
) -> None:
    report(settings, client, "rx1", **RECEIVER)
    client.hset(KEYS.node("rp1"), mapping={"seen": Store(client).now_ms(), "backend": "\x1b[2Jx\ny"})
    client.sadd(KEYS.nodes, "rp1")
    shown = run("status")
    assert isinstance(shown.exception, SystemExit)
    assert r"\x1b[2Jx\x0ay" in shown.output
    assert re.search(r"^rx1 +receiver", shown.output, re.MULTILINE)


def test_two_daemons_of_one_name_notice(settings: Settings, client: redis.Redis) -> None:
    one, two = (NodeWriter(Store(client), "rp1", instance) for instance in ("one", "two"))
    assert one.write({})
    assert two.write({})  # a restart looks like this
    assert not one.write({})
    assert not two.write({})
    client.delete(KEYS.node("rp1"))
    assert two.write({}), "a Redis that was emptied is no other daemon"


def test_a_node_that_wrote_in_a_future_that_was_taken_back_is_not_alive_for_that(
    settings: Settings, client: redis.Redis
) -> None:
    """Else a daemon that died before Redis' clock was set back would be alive until it has caught up."""
    NodeWriter(Store(client), "rp1", "one").write({"kind": "enforcer"})
    client.hset(KEYS.node("rp1"), "seen", Store(client).now_ms() + ALIVE_MS + 60_000)
    [node] = read_nodes(Store(client))
    assert not node.alive


def test_nodes_of_other_deployments_are_not_shown(settings: Settings, client: redis.Redis) -> None:
    client.hset("{pinban2}:node:x", "kind", "receiver")
    client.hset("{pinbanX:node:x", "kind", "receiver")
    assert read_nodes(Store(client)) == []


def test_bans_are_listed_longest_first_with_their_reason(run: Run, ledger: Ledger, client: redis.Redis) -> None:
    evidence = json.dumps([{"id": "i", "rp": "10.0.0.2", "alias": "meet.alice", "at": "1"}])
    ledger.ban(NewBan(A, 60_000, "pin", evidence, "rx1"))
    assert run("ban", "2001:db8:1:2::9", "--for", "2h", "--why", "asked by abuse@").exit_code == 0
    client.zadd(KEYS.bans, {"203.0.113.99": Store(client).now_ms() - 1})
    rows = as_json(run("bans", "--json"))
    assert [(row["network"], row["rule"], row["strikes"]) for row in rows] == [(B, "manual", 1), (A, "pin", 1)]
    assert 55_000 < rows[1]["left_ms"] <= 60_000
    assert rows[0]["why"] == "asked by abuse@"
    assert rows[1]["evidence"][0]["alias"] == "meet.alice"
    shown = run("bans").output
    assert "asked by abuse@" in shown
    assert "rooms meet.alice; through 10.0.0.2" in shown


def test_nobody_is_banned(run: Run) -> None:
    assert run("bans").output == "nobody is banned\n"
    assert as_json(run("bans", "--json")) == []


def test_a_ban_has_the_rules_length_unless_told(run: Run, client: redis.Redis) -> None:
    result = run("ban", str(A))
    assert (result.exit_code, result.output) == (0, f"banned {A} for 5m\n")
    result = run("ban", str(A), "--for", "1m")
    assert result.exit_code == 0
    assert f"{A} is banned for another" in result.output
    found = as_json(run("ban", str(A), "--for", "1h", "--json"))
    assert (found["network"], found["new"]) == (A, True)
    assert 3_590_000 < found["left_ms"] <= 3_600_000
    assert client.zcard(KEYS.bans) == 1


def test_an_address_is_banned_as_it_would_be_counted_and_a_network_as_written(run: Run) -> None:
    for written, network in (
        ("2001:db8:1:2:3::4", B),
        ("::ffff:203.0.113.7", A),
        ("203.0.113.0/28", "203.0.113.0/28"),
        ("2001:db8::/48", "2001:db8::/48"),
    ):
        assert as_json(run("ban", written, "--json"))["network"] == network


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["198.51.100.7"], "ignoreip names it"),
        (["198.51.0.0/16"], "ignoreip names it"),
        (["16.0.0.0/6"], "too wide"),
        (["2000::/3"], "too wide"),
        (["0.0.0.0/0"], "never banned"),
        (["localhost"], "write 203.0.113.7, 2001:db8::1"),
        (["203.0.113.7/24"], "host bits"),
        (["fe80::1%eth0"], "write 203.0.113.7"),
        (["203.0.113.7", "--for", "soon"], "is no length of time; write 10m"),
        (["203.0.113.7", "--for", "1s"], "not from 2s to 3650d"),
        (["203.0.113.7", "--for", "9999d"], "not from 2s to 3650d"),
        (["203.0.113.7", "--for", "inf"], "is no length of time"),
    ],
)
def test_what_must_not_be_banned_is_refused_in_one_line(
    run: Run, client: redis.Redis, words: list[str], said: str
) -> None:
    result = run("ban", *words)
    assert result.exit_code in {1, 2}
    assert said in result.output
    assert "Traceback" not in result.output
    assert client.keys("*") == []


def test_an_unban_ends_a_ban_and_forgets_failures_and_strikes(
    run: Run, ledger: Ledger, settings: Settings, client: redis.Redis
) -> None:
    ledger.ban(NewBan(A, 60_000, "pin", "[]", "rx1"))
    Counters(Store(client), settings).count([Failure(A, "pin", "i", "rp1", "m", 0)], 0)
    result = run("unban", str(A), "--why", "a mistake")
    assert (result.exit_code, result.output) == (0, f"unbanned {A}\n")
    assert client.keys("pinban:*") == []
    assert client.exists(KEYS.strikes(A)) == 0
    assert history(client)[-1]["why"] == "a mistake"


@pytest.mark.parametrize("words", [["ban", A, "--why"], ["unban", A, "--why"], ["allow", A, "--note"]], ids=" ".join)
def test_a_note_may_hold_bytes_that_are_no_text(run: Run, words: list[str]) -> None:
    """As Python hands them on from a terminal that does not speak UTF-8: they reach the history as question marks."""
    assert run(*words, b"caf\xe9".decode("utf-8", "surrogateescape")).exit_code == 0
    assert as_json(run("history", "--json"))[-1]["why"] == "caf?"


def test_an_unban_of_nobody_is_told_to_every_rp_all_the_same(run: Run) -> None:
    result = run("unban", str(A))
    assert result.exit_code == 0
    assert "was not banned; every RP was told" in result.output
    assert as_json(run("unban", str(A), "--json")) == {"network": A, "was_banned": False, "within": []}


@pytest.mark.parametrize(
    ("network", "address"), [("203.0.113.0/24", "203.0.113.7"), ("2001:db8::/48", "2001:db8:0:7::1")]
)
def test_an_unban_of_an_address_within_a_banned_network_names_the_network(run: Run, network: str, address: str) -> None:
    assert run("ban", network).exit_code == 0
    result = run("unban", address)
    assert result.exit_code == 1
    assert f"has no ban of its own; unban {network}, which covers it" in result.output
    assert as_json(run("unban", address, "--json"), code=1)["within"] == [network]


def test_counters_are_listed_highest_first(run: Run, settings: Settings, client: redis.Redis) -> None:
    counts = Counters(Store(client), settings)
    failures = [Failure(A, "pin", "1", "rp1", "m", 0)]
    failures += [Failure(B, "pin", f"{i}", "rp1", "m", 0) for i in range(3)]
    failures += [Failure(Network("203.0.113.5"), "pin", f"{i}", "rp1", "m", 0) for i in range(1)]
    counts.count(failures, 0)
    client.set("pinban:count:{203.0.113.9}:norule", 9)
    rows = as_json(run("counters", "--json"))
    assert [(row["network"], row["count"]) for row in rows] == [(B, 3), ("203.0.113.5", 1), (A, 1)]
    assert all(row["maxretry"] == 5 and 290_000 < row["ttl_ms"] <= 300_000 for row in rows)
    assert [row["network"] for row in as_json(run("counters", "--limit", "1", "--json"))] == [B]
    assert run("counters", "--limit", "0").exit_code == 2
    assert str(B) in run("counters").output


def test_nobody_has_failed(run: Run) -> None:
    assert run("counters").output == "nobody has failed lately\n"


COMMANDS = [["status"], ["bans"], ["counters"], ["ban", "203.0.113.7"], ["unban", "203.0.113.7"]]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_redis_that_is_not_there_is_one_line(run: Run, server: RedisServer, words: list[str]) -> None:
    server.kill()
    for options in ([], ["--json"]):
        result = run(*words, *options)
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: Redis at {server.url}: cannot be reached")
        assert result.output.count("\n") == 1


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    "key", [KEYS.bans, KEYS.rev, KEYS.epoch, KEYS.history, KEYS.node("rx1"), "pinban:count:{203.0.113.7}:pin"]
)
def test_a_key_of_another_kind_is_one_line_or_does_not_matter(
    run: Run, client: redis.Redis, words: list[str], key: str
) -> None:
    for spoil in (lambda: client.rpush(key, "x"), lambda: client.set(key, b"\xffx")):
        client.flushall()
        spoil()
        result = run(*words)
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        if result.output.startswith("Error"):
            assert result.output.count("\n") == 1


def test_a_bad_settings_file_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text("[receiver]\nworkers = 0\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["-c", str(config), "status"])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {config}: receiver.workers = 0 is not")
    assert result.output.count("\n") == 1


def test_explain_needs_no_redis_and_exits_with_zero(run: Run, server: RedisServer, tmp_path: Path) -> None:
    server.kill()
    log = tmp_path / "access.log"
    log.write_bytes(
        b'203.0.113.7 - - [x] "POST /api/client/v2/conferences/Meet/request_token HTTP/1.1" 403 45 "-" "-"\ngarbage\n'
    )
    result = run("explain", "--json", str(log))
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.output.splitlines()] == [
        {"class": "wrong_pin", "address": A, "alias": "meet", "rule": "pin"},
        {"class": "malformed", "address": None, "alias": None, "rule": None},
    ]
    assert "2 lines: 1 wrong_pin, 1 malformed" in run("explain", str(log)).output


def test_an_address_that_a_name_of_ignoreip_stands_for_is_not_banned(server: RedisServer, tmp_path: Path) -> None:
    config = tmp_path / "pinban.toml"
    config.write_text(f'ignoreip = ["localhost"]\nignoreself = false\n[redis]\nurl = "{server.url}"\n')
    result = CliRunner().invoke(main, ["-c", str(config), "ban", "127.0.0.1"])
    assert (result.exit_code, "ignoreip names it" in result.output) == (1, True)


def test_an_unban_also_ends_what_was_only_simulated(run: Run, ledger: Ledger) -> None:
    ledger.ban(NewBan(A, 300_000, "prompt", "[]", "rx1", simulate=True))
    assert [row["simulated"] for row in as_json(run("bans", "--json"))] == [True]
    run("unban", A)
    assert as_json(run("bans", "--json")) == []


def test_status_shows_what_came_of_each_log_and_what_did_not(
    run: Run, settings: Settings, client: redis.Redis, ledger: Ledger
) -> None:
    report(settings, client, "rx1", **RECEIVER)
    report(settings, client, "rp1", **enforcer(client, probes_sent=3, probe_every_ms=5_000))
    probes = Probes(Store(client), settings.receiver.node)
    for number in (1, 3):
        probes.note(Probe("rp1", "instance", number, Store(client).now_ms()))
        probes.note(Probe("nobody", "0123abcd", number, 0))
    probes.flush()
    client.hset(KEYS.node("rp1"), "instance", "instance")
    found = as_json(run("status", "--json"))
    [row] = found["log"]
    assert (row["rp"], row["receiver"], row["probes"], row["missing"]) == ("rp1", "rx1", 3, 1)
    assert 0 <= row["lag_ms"] < 5_000
    assert re.search(r"rp1 +rx1 +[\w ]+ ago +1 of 3", run("status").output)
    client.hset(KEYS.node("rp1"), "probes_sent", 9)
    found = as_json(run("status", "--json"), code=1)
    assert ["no line of its nginx has come to rx1" in problem for problem in found["problems"]] == [True]


def test_an_nginx_that_was_never_told_of_probes_is_noted_and_is_no_problem(
    run: Run, settings: Settings, client: redis.Redis, ledger: Ledger
) -> None:
    report(settings, client, "rx1", **RECEIVER)
    mute = "nginx does not answer ([Errno 111] Connection refused) when asked for a probe"
    report(settings, client, "rp1", **enforcer(client, probes_sent=0, probe_trouble=mute))
    found = as_json(run("status", "--json"))
    assert found["notes"] == [f'rp1: {mute}; include nginx/pinban.conf, or set enforcer.probe_url = ""']
    report(settings, client, "rp1", **enforcer(client, probes_sent=1, probe_trouble=mute))
    assert as_json(run("status", "--json"), code=1)["problems"] == [f"rp1: {mute}"]
