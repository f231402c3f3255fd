"""A change by an administrator or another program to a running enforcer's firewall is repaired, logged and counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.bans import KEYS, NODE, Site, site
from pinban.deployment.problems import problems
from shared.nodes import read_nodes
from shared.store.store import Store
from tests.lab.daemons import set_constants
from tests.lab.kernel import members, traces
from tests.lab.process import wait_until

#: How often the whole firewall is compared with the ledger, s; and so seldom that no test sees it.
CHECK_EVERY, NEVER_S = "enforcer.maintenance._CHECK_EVERY_S", 3_600

BANS = 200

TOOLS, HOOKS = ("iptables", "ip6tables"), ("INPUT", "OUTPUT")


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    """Checks every 30 s are off: only the cheap look, once a second, asks for repairs."""
    with site() as place:
        set_constants(place.enforcer, {CHECK_EVERY: NEVER_S})
        place.fill(BANS)
        place.start()
        yield place


def rules(place: Site) -> list[str]:
    """Our rules, and the first rule of each hook."""
    first = [place.namespace.run([f"{tool}-legacy", "-S", hook, "1"]).stdout for tool in TOOLS for hook in HOOKS]
    return [*first, *(line for line in traces(place.namespace) if line.startswith(("-A", ":")))]


def repairs(place: Site) -> int:
    with place.server.client() as client:
        return int(client.hget(KEYS.node(NODE), "repairs") or 0)


AT_ONCE = {
    "rules flushed": ("iptables-legacy -F", "IPv4 rules"),
    "jump deleted": ("ip6tables-legacy -D OUTPUT -j pinban", "IPv6 jump from OUTPUT"),
    "rules pushed down": ("iptables-legacy -I INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", "out of place"),
    "sets flushed": ("ipset flush", f"put back {BANS} bans"),
    "an element deleted": ("ipset save pinban4 | grep -m1 ^add | cut -d' ' -f1-3 | sed s/add/del/ | ipset restore",
                           "put back 1 bans"),
    "an ACCEPT in front as soon as the jump is back": (
        "iptables-legacy -w -F INPUT; until iptables-legacy -w -C INPUT -j pinban 2>/dev/null; do :; done;"
        " iptables-legacy -w -I INPUT -j ACCEPT", "jump from INPUT (out of place)"),
    "sets destroyed": ("iptables-legacy -F; ip6tables-legacy -F; ipset destroy", "set pinban4"),
}  # fmt: skip


@pytest.mark.row(19)
@pytest.mark.parametrize("damage", AT_ONCE)
def test_a_damage_is_mended_at_once_logged_and_counted(place: Site, damage: str) -> None:
    command, said = AT_ONCE[damage]
    standing, banned, before, logged = rules(place), members(place.namespace), repairs(place), len(place.log())
    assert len(banned) == BANS
    place.namespace.run(["sh", "-ec", command])
    wait_until(lambda: repairs(place) > before, f"{damage} is counted")
    wait_until(lambda: members(place.namespace) == banned, f"the bans are back after {damage}")
    wait_until(lambda: rules(place) == standing, f"the rules are back after {damage}")
    assert said in place.log()[logged:]
    assert "WARNING" in place.log()[logged:]


@pytest.mark.row(19)
def test_what_is_seen_only_by_content_is_mended_by_the_check() -> None:
    """A rule in another's place leaves the shape of its table as it was, a member in another's place their number."""
    with site() as place:
        set_constants(place.enforcer, {CHECK_EVERY: 2})
        place.fill(BANS)
        place.start()
        standing, banned, before = rules(place), members(place.namespace), repairs(place)
        victim = next(network for network in sorted(banned) if ":" not in network)
        for command in (
            "iptables-legacy -R pinban 1 -p tcp -m set --match-set pinban4 dst -m set --match-set pinban-ports dst"
            " -m comment --comment pinban -j DROP",
            rf"printf 'del pinban4 {victim}\nadd pinban4 192.0.2.1 timeout 3000\n' | ipset restore",
        ):
            place.namespace.run(["sh", "-ec", command])
        wait_until(lambda: members(place.namespace) == banned, "the bans are the ledger's")
        wait_until(lambda: rules(place) == standing, "the rule is back")
        wait_until(lambda: repairs(place) > before, "it is counted")


def test_an_enforcer_at_rest_repairs_nothing(place: Site) -> None:
    """Bans come, end and are lengthened: none of that is taken for a damage."""
    before, logged = repairs(place), len(place.log())
    place.one_more(4.0, per_s=100, ban_ms=3_000)
    wait_until(lambda: len(members(place.namespace)) == BANS, "the short bans are over")
    assert repairs(place) == before
    assert "put back" not in place.log()[logged:]


def test_a_set_that_is_full_and_may_not_grow_is_a_trouble_that_status_names() -> None:
    with site({"enforcer": {"maxelem": 1_024, "maxelem_limit": 1_024}}) as full:
        full.fill(1_300)
        full.enforcer.start()
        full.await_report()
        held = len(members(full.namespace))
        assert 1_024 + 130 <= held < 1_300
        with full.server.client() as client:
            [node] = read_nodes(Store(client))
        assert node.fields["set_capacity"] == "1024"
        assert int(node.fields["set_fill"]) >= 100
        assert int(node.fields["unfit"]) == 1_300 - held
        [trouble] = [line for line in problems({"rev": 0, "unchanged_ms": 0}, [node]) if NODE in line]
        assert "may not hold more than 1024 bans; raise enforcer.maxelem_limit" in trouble
        assert f"{1_300 - held} bans did not fit" in trouble
        assert trouble.removeprefix(f"{NODE}: ") in full.log()
