"""compose.yaml on a real engine: the ban, and what happens to it when any container is started again or replaced.

In order: later checks look at the site that earlier ones have brought up.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.docker.engine import Engine
from tests.docker.site import Site, print_sizes, sizes
from tests.docker.watch import Watch, dropped, namespace_of, run_in
from tests.lab.clients import PIN, guess
from tests.lab.process import wait_until

#: What an image may weigh beyond its base, bytes.
HEAVIEST = 200_000_000

SERVICES = ("redis", "receiver", "node", "rp1", "enforcer1", "nginx1", "rp2", "enforcer2", "nginx2")

#: One of each kind, and of each backend: the second proxy's is iptables.
REPLACED = ("redis", "receiver", "node", "enforcer1", "nginx1", "enforcer2")

#: Until everything is well again on a busy machine, s.
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def site(engine: Engine) -> Iterator[Site]:
    site = Site(engine)
    began = time.monotonic()
    site.compose("--profile", "attack", "up", "-d", "--no-build")
    print(f"\n    compose --profile attack up: {time.monotonic() - began:.1f} s")
    yield site
    site.down()


def kernels(site: Site) -> dict[str, int]:
    return {name: site.pid(name) for name in ("rp1", "rp2")}


def proxies(site: Site) -> dict[str, str]:
    return {name: site.address(name) for name in ("rp1", "rp2")}


def await_dropped(site: Site, address: str, seconds: float) -> None:
    wait_until(lambda: all(address in dropped(pid) for pid in kernels(site).values()), f"{address} is dropped", seconds)


def new_client(site: Site, number: int) -> tuple[int, str]:
    """One more address for the bystander's host: its process id, and the address."""
    pid = site.pid("bystander")
    address = site.address("bystander").rpartition(".")[0] + f".{100 + number}"
    run_in(pid, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    return pid, address


def statuses(pid: int, source: str, site: Site, pins: list[str]) -> list[int | None]:
    """What each PIN gets, through each proxy in turn; None is no answer."""
    turns = list(proxies(site).values())

    def ask() -> list[int | None]:
        answers = (guess(turns[n % 2], pin, source=source, timeout=1.0) for n, pin in enumerate(pins))
        return [answer.status if answer else None for answer in answers]

    return namespace_of(pid).call(ask)


def test_no_image_weighs_much(engine: Engine) -> None:
    print_sizes(engine)
    assert max(sizes(engine).values()) < HEAVIEST


def test_every_service_comes_up_and_is_well(site: Site) -> None:
    site.await_well(*SERVICES, "guesser", "bystander", seconds=PATIENCE_S)


def test_nothing_has_more_rights_than_it_needs(site: Site) -> None:
    for service in (*SERVICES, "guesser", "bystander"):
        host = site.state(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["Memory"] > 0, service
        assert host["LogConfig"]["Config"]["max-size"], service
        assert sorted(host["CapAdd"] or []) == (["NET_ADMIN", "NET_RAW"] if "enforcer" in service else []), service
        user = int(run_in(site.pid(service), "stat", "-c", "%u", f"/proc/{site.pid(service)}"))
        assert (user == 0) == ("enforcer" in service), service


def test_a_guesser_is_banned_on_both_proxies_long_before_the_ban_would_end(site: Site) -> None:
    wait_until(lambda: site.log("guesser").count("is silent") == 2, "the guesser is shut out", 30.0)
    print("\n" + re.sub("^", "    guesser: ", site.log("guesser").strip(), flags=re.MULTILINE))
    lasts = re.findall(r"(rp[12]) is silent; its last answer came ([0-9.]+) s after", site.log("guesser"))
    assert sorted(name for name, _ in lasts) == ["rp1", "rp2"]
    assert all(float(seconds) < 20 for _, seconds in lasts), "it takes milliseconds on a host that is not busy"
    await_dropped(site, site.address("guesser"), 20.0)


def test_the_bystander_is_served_throughout(site: Site) -> None:
    before = site.log("bystander").count("\n")
    wait_until(lambda: site.log("bystander").count("\n") > before + 1, "the bystander tells more", 60.0)
    print("\n    bystander: " + site.log("bystander").strip().splitlines()[-1])
    assert "not let in" not in site.log("bystander")


def test_each_proxy_has_a_backend_of_its_own(site: Site) -> None:
    """Docker's own rules in a namespace, for its DNS, are what `auto` goes by: nftables where Docker uses it."""
    nodes = {node["name"]: node for node in json.loads(site.tools("status", "--json").stdout)["nodes"]}
    assert {name: nodes[name]["backend"] for name in ("rp1", "rp2")} == {"rp1": "nftables", "rp2": "iptables"}


def test_what_the_proxies_publish_on_the_host_is_served(site: Site) -> None:
    for port in (8081, 8082):
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"GET /webapp3/ HTTP/1.0\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_the_operators_command_finds_everything_well(site: Site) -> None:
    wait_until(lambda: site.tools("status").returncode == 0, "status is well", 20.0)
    bans = json.loads(site.tools("bans", "--json").stdout)
    assert site.address("guesser") in json.dumps(bans)


def test_only_the_proxies_reach_the_syslog_port(site: Site) -> None:
    receiver = (site.address("receiver", "syslog"), 5514)
    innocent = "203.0.113.99"
    line = (
        f'<190>Nov 22 14:12:18 pinban: {{{{"v":1,"id":"forged{{}}","t":"1795356738.348","ip":"{innocent}","m":"POST",'
        '"k":"conference","a":"meet.alice","s":"403","us":"403","l":"45","p":"1"}}'
    )

    def forge(pid: int, first: int) -> int:
        """How many of five were sent without an error."""

        def send() -> int:
            sent = 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
                for number in range(first, first + 5):
                    try:
                        plug.sendto(line.format(number).encode(), receiver)
                        sent += 1
                    except OSError:
                        pass
            return sent

        return namespace_of(pid).call(send)

    for service in ("guesser", "node", "redis"):
        forge(site.pid(service), 100)
        assert innocent not in site.tools("counters").stdout, service
    assert forge(site.pid("rp1"), 200) == 5  # the same datagrams, from where they may come
    await_dropped(site, innocent, 10.0)
    assert site.tools("unban", innocent).returncode == 0


def crash(site: Site, service: str) -> None:
    """End its first process without asking Docker, who then has to start it again."""
    pid = site.pid(service)
    assert pid, f"{service} does not run"
    os.kill(pid, signal.SIGKILL)


WAYS: dict[str, Callable[[Site, str], object]] = {
    "crashed": crash,
    "restarted": lambda site, service: site.compose("restart", "-t", "5", service),
    "killed": lambda site, service: (site.compose("kill", service), site.compose("up", "-d", "--no-build", service)),
    "replaced": lambda site, service: site.replace(service),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("service", REPLACED)
def test_no_ban_is_lost_and_no_kernel_is_open_while_a_service_is(site: Site, service: str, way: str) -> None:
    banned, before = site.address("guesser"), site.pid(service)
    watch = Watch(site.pid("guesser"), banned, proxies(site), kernels(site))
    began = time.monotonic()
    try:
        WAYS[way](site, service)
        site.await_well(*SERVICES, seconds=PATIENCE_S)
        site.await_nothing_wrong(PATIENCE_S)
    finally:
        seen = watch.stop()
    print(f" {time.monotonic() - began:.1f} s, {seen.knocks} knocks, {seen.looks} looks", end=" ")
    assert site.pid(service) != before
    assert (seen.answered, seen.refused, seen.unguarded) == ([], [], [])
    assert min(seen.knocks, seen.looks) > 20
    assert banned in site.tools("bans").stdout


def test_after_all_that_the_next_guesser_is_banned_and_the_innocent_are_served(site: Site) -> None:
    pid, address = new_client(site, 1)
    assert statuses(pid, address, site, [f"{n:06}" for n in range(5)]) == [403] * 5
    await_dropped(site, address, 20.0)
    assert statuses(pid, address, site, [PIN] * 2) == [None, None]
    assert statuses(pid, site.address("bystander"), site, [PIN] * 2) == [200, 200]


NEW_NAMESPACES: dict[str, Callable[[Site], object]] = {
    "restarted": lambda site: site.compose("restart", "-t", "5", "rp1"),
    "crashed": lambda site: crash(site, "rp1"),
    "replaced": lambda site: site.replace("rp1", "enforcer1", "nginx1"),
}


@pytest.mark.parametrize("way", NEW_NAMESPACES)
def test_a_proxy_in_a_new_network_namespace_answers_nobody_before_its_rules_stand(site: Site, way: str) -> None:
    banned, before = site.address("guesser"), site.pid("rp1")
    watch = Watch(site.pid("guesser"), banned, proxies(site), {"rp2": site.pid("rp2")})
    began = time.monotonic()
    try:
        NEW_NAMESPACES[way](site)
        wait_until(lambda: site.pid("rp1") not in (0, before), "the namespace is a new one", PATIENCE_S)
        wait_until(lambda: site.serves("rp1", site.pid("bystander")), "the proxy serves again", PATIENCE_S)
        print(f" serves again after {time.monotonic() - began:.1f} s", end=" ")
        site.await_well(*SERVICES, seconds=PATIENCE_S)
    finally:
        seen = watch.stop()
    assert (seen.answered, seen.unguarded) == ([], [])
    assert banned in dropped(site.pid("rp1"))


def test_all_of_it_comes_back_after_the_engine_was_stopped(site: Site, engine: Engine) -> None:
    banned = site.address("guesser")
    engine.stop()
    engine.start()
    site.compose("--profile", "attack", "up", "-d", "--no-build")
    site.await_well(*SERVICES, seconds=PATIENCE_S)
    assert all(banned in dropped(pid) for pid in kernels(site).values())
