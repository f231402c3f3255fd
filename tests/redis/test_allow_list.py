"""The central allow-list: the operator's command, the receiver that reads it, the enforcer that obeys at once."""

from __future__ import annotations

import grp
import json
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.follower import Follower
from pinban.cli import main
from shared.addresses import Network
from shared.exempt.exemptions import Exemptions
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.daemons import to_toml
from tests.lab.datagrams import failure as datagram
from tests.lab.loopback import addresses
from tests.lab.process import PATIENCE_S, Process, wait_until
from tests.lab.redis_server import RedisServer
from tests.lab.views import program
from tests.redis.conftest import KEYS, history, members, plain
from tests.redis.counting import counting, failures

A, B, C = Network("203.0.113.7"), Network("203.0.113.8"), Network("2001:db8:1:2::/64")

Run = Callable[..., Result]


@pytest.fixture
def run(server: RedisServer, tmp_path: Path) -> Run:
    """`pinban` with the given words."""
    config = tmp_path / "pinban.toml"
    config.write_text(to_toml({"ignoreself": False, "redis": {"url": server.url}}))
    return lambda *words: CliRunner().invoke(main, ["-c", str(config), *words])


def as_json(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def said(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, result.output
    return result.output.strip()


def ban(settings: Settings, client: redis.Redis, *networks: Network) -> None:
    for network in networks:
        Ledger(Store(client)).ban(NewBan(network, 600_000, "pin", "[]", "rx1"))


def banned(client: redis.Redis) -> set[str]:
    return {network for network, _ in members(client, KEYS.bans)}


def test_an_address_is_put_on_the_list_shown_and_taken_off(run: Run, client: redis.Redis) -> None:
    assert said(run("allow")) == "the allow-list is empty"
    assert said(run("allow", A, "--note", "the office")) == f"{A} is allowed; bans lifted: 0"
    assert said(run("allow", "10.0.0.0/8", "--for", "1h")) == "10.0.0.0/8 is allowed for 1h; bans lifted: 0"
    rows = as_json(run("allow", "--json"))
    assert [(row["network"], row["note"]) for row in rows] == [("10.0.0.0/8", ""), (A, "the office")]
    assert rows[1]["left_ms"] is None
    assert 3_590_000 < rows[0]["left_ms"] <= 3_600_000
    shown = said(run("allow"))
    assert "the office" in shown
    assert "for ever" in shown
    assert said(run("allow", A, "--remove")) == f"{A} is off the allow-list"
    assert said(run("allow", A, "--remove")) == f"{A} was not on the allow-list"
    assert [row["network"] for row in as_json(run("allow", "--json"))] == ["10.0.0.0/8"]
    assert [(e["event"], e["network"]) for e in history(client)] == [
        ("allow", A), ("allow", "10.0.0.0/8"), ("disallow", A),
    ]  # fmt: skip
    assert client.get(KEYS.rev) == b"3"


@pytest.mark.parametrize("address", ["203.0.113.777", "203.0.113.7/8", "office.example.com", "fe80::1%eth0"])
def test_what_is_no_network_is_refused_in_one_line(run: Run, client: redis.Redis, address: str) -> None:
    for options in ([], ["--remove"]):
        output = said(run("allow", address, *options), code=2)
        assert "write 203.0.113.7" in output
        assert "\n" not in output
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("allowed", "lifted"),
    [(str(A), {A}), ("203.0.113.0/24", {A, B}), ("2001:db8:1:2::9", {C}), ("0.0.0.0/0", {A, B}), ("192.0.2.1", set())],
)
def test_allowing_lifts_the_bans_that_it_overlaps(
    run: Run, settings: Settings, client: redis.Redis, allowed: str, lifted: set[Network]
) -> None:
    ban(settings, client, A, B, C)
    assert as_json(run("allow", allowed, "--json")) == {"network": allowed, "lifted": len(lifted)}
    assert banned(client) == {A, B, C} - lifted
    for network in lifted:
        assert client.exists(KEYS.ban(network), KEYS.strikes(network)) == 0
    assert {e["network"] for e in history(client) if e["event"] == "unban"} == lifted


def test_failures_from_before_are_forgotten_with_the_ban(run: Run, settings: Settings, client: redis.Redis) -> None:
    with counting(settings) as site:
        site.take(failures(A, 7))
        site.take(failures(A, 3))
    assert client.exists(KEYS.count(A, "pin")) == 1
    assert as_json(run("allow", A, "--json"))["lifted"] == 1
    assert client.exists(KEYS.count(A, "pin"), KEYS.window(A, "pin")) == 0


@pytest.mark.parametrize("address", ["203.0.113.7", "203.0.113.0/24", "203.0.113.6/31"])
def test_an_operator_cannot_ban_what_is_allowed(run: Run, client: redis.Redis, address: str) -> None:
    run("allow", A)
    assert said(run("ban", address), code=1).endswith("is never banned: the allow-list has it")
    assert banned(client) == set()
    run("allow", A, "--remove")
    assert run("ban", address).exit_code == 0


def test_what_once_was_allowed_can_be_banned(run: Run, client: redis.Redis) -> None:
    client.hset(KEYS.allow, A, json.dumps({"note": "", "until": Store(client).now_ms() - 1}))
    assert as_json(run("allow", "--json")) == []
    assert run("ban", A).exit_code == 0


GARBAGE = {"x": "x", "203.0.113.7": "[", "203.0.113.8": '{"until": 1e999}', "\udcff": '{"note": "\\ud800"}'}


def test_garbage_in_the_list_allows_nothing_and_breaks_nothing(run: Run, client: redis.Redis) -> None:
    for member, stored in GARBAGE.items():
        client.hset(KEYS.allow, member.encode("utf-8", "surrogateescape"), stored)
    client.hset(KEYS.allow, "192.0.2.1", '{"note": "\\ud800", "until": 0}')
    assert [row["network"] for row in as_json(run("allow", "--json"))] == ["192.0.2.1"]
    assert "192.0.2.1" in said(run("allow"))
    for network in (A, B):
        assert run("ban", network).exit_code == 0
    assert said(run("allow", A)) == f"{A} is allowed; bans lifted: 1"
    assert {row["network"] for row in as_json(run("allow", "--json"))} == {"192.0.2.1", A}


@pytest.fixture
def proxy(settings: Settings, client: redis.Redis, deaf_to_silence: None) -> Iterator[DryRunFirewall]:
    """The firewall of an enforcer that follows."""
    firewall, exempt = DryRunFirewall(), Exemptions(settings)
    agent = Agent(firewall, exempt, exempt.learn)
    agent.arm()
    Ledger(Store(client)).heartbeat("rx1")
    follower = Follower(settings, agent)
    follower.start()
    wait_until(lambda: not follower.trouble, "it follows")
    yield firewall
    follower.stop()
    follower.join(PATIENCE_S)
    assert not follower.is_alive()


def drops(firewall: DryRunFirewall, *networks: Network) -> bool:
    return firewall.bans().keys() == set(networks)


def test_an_enforcer_lets_in_at_once_who_is_allowed_and_drops_it_no_more(
    run: Run, settings: Settings, client: redis.Redis, proxy: DryRunFirewall
) -> None:
    ban(settings, client, A, B)
    wait_until(partial(drops, proxy, A, B), "drops both")
    assert run("allow", A).exit_code == 0
    wait_until(partial(drops, proxy, B), "lets one in")
    ban(settings, client, A, C)  # of a receiver that does not know yet
    wait_until(partial(drops, proxy, B, C), "drops the third")


def test_an_enforcer_with_garbage_in_the_list_follows(
    settings: Settings, client: redis.Redis, proxy: DryRunFirewall, run: Run
) -> None:
    for member, stored in GARBAGE.items():
        client.hset(KEYS.allow, member.encode("utf-8", "surrogateescape"), stored)
    assert run("allow", "192.0.2.1").exit_code == 0
    ban(settings, client, A, B)
    wait_until(partial(drops, proxy, A, B), "drops both")


class Inlet:
    """A receiver's socket, and what became of what was sent to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sent = 0

    def fail(self, network: str) -> None:
        self._sent += 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outlet:
            outlet.sendto(datagram(network, f"{network}-{self._sent}", "meet"), str(self._path))


@pytest.fixture
def inlet(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inlet]:
    """Of a receiver that runs, whose ignoreip names localhost, and that bans at a thousand."""
    place = tmp_path_factory.mktemp("rx")
    [host] = addresses(1)
    settings = {
        "ignoreself": False,
        "ignoreip": ["localhost"],
        "redis": {"url": server.url},
        "receiver": {
            "listen": [f"unix:{place}/log.sock"],
            "socket_group": grp.getgrgid(os.getgid()).gr_name,
            "http": f"{host}:8514",
            "workers": 1,
        },
        "rules": {"pin": {"maxretry": 1000}},
    }
    (place / "rx.toml").write_text(to_toml(settings))
    process = Process("receiver", [program("pinban-receiver"), "-c", str(place / "rx.toml")], place)
    process.start()
    with server.client() as client:
        process.await_ready(lambda: bool(client.exists(KEYS.node("rx1"))))
    yield Inlet(place / "log.sock")
    process.stop()


def outcome(client: redis.Redis, name: str) -> int:
    return int(client.hget(KEYS.node("rx1"), name) or 0)


def test_a_receiver_knows_an_allowed_address_when_it_has_looked_once_more(
    inlet: Inlet, run: Run, client: redis.Redis
) -> None:
    """It looks once a second, after it has written its hash: two hashes later it has looked."""

    def seen() -> str:
        return plain(client.hget(KEYS.node("rx1"), "seen"))

    def looks() -> None:
        for _ in range(2):
            before = seen()
            wait_until(lambda: seen() != before, "it reports")  # noqa: B023

    def comes_to(ignored: int, counted: int) -> bool:
        return (outcome(client, "ignored"), outcome(client, "counted")) == (ignored, counted)

    for member, stored in GARBAGE.items():
        client.hset(KEYS.allow, member.encode("utf-8", "surrogateescape"), stored)
    inlet.fail(A)
    wait_until(partial(comes_to, 0, 1), "it counts")
    assert run("allow", "203.0.113.0/29").exit_code == 0
    looks()
    inlet.fail(A)
    wait_until(partial(comes_to, 1, 1), "it ignores the first")
    assert run("allow", "203.0.113.0/29", "--remove").exit_code == 0
    looks()
    inlet.fail(A)
    wait_until(partial(comes_to, 1, 2), "it counts again, the first")


def test_a_name_in_ignoreip_is_looked_up_by_the_hosts_resolver(inlet: Inlet, client: redis.Redis) -> None:
    inlet.fail("127.0.0.1")
    inlet.fail(B)
    wait_until(lambda: client.exists(KEYS.count(B, "pin")) == 1, "the other is counted")
    wait_until(lambda: outcome(client, "ignored") == 1, "it is ignored")
    assert client.exists(KEYS.count(Network("127.0.0.1"), "pin")) == 0
