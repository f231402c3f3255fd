"""What the backends do to packets that pass through: the server is behind the reverse proxy, like a container."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from enforcer.firewall.port import Firewall
from enforcer.reconcile import Plan
from shared.addresses import Network, counted_network
from tests.netfilter.conftest import CLIENT4, CLIENT6, COMES_S, OTHER4, OTHER6, SILENCE_S, Lab, echoes, run

CHAINS = pytest.mark.parametrize("chain", ["FORWARD", "DOCKER-USER"])


@pytest.fixture
def firewall(routed: Lab, make: Callable[..., Firewall], backend: str, chain: str, action: str) -> Firewall:
    if backend == "iptables" and chain == "DOCKER-USER":  # made by docker, and first in FORWARD
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            run(tool, "-N", chain)
            run(tool, "-I", "FORWARD", "-j", chain)
    firewall = make(chains=(chain,), action=action)
    firewall.install()
    assert list(firewall.install()) == []
    return firewall


def ban(firewall: Firewall, address: str) -> Network:
    network = counted_network(address)
    firewall.apply(Plan({network: 300_000}, frozenset()))
    return network


@CHAINS
@pytest.mark.parametrize("action", ["drop"])
def test_a_banned_client_starves_in_both_directions_and_nobody_else_does(routed: Lab, firewall: Firewall) -> None:
    for client, other in ((CLIENT4, OTHER4), (CLIENT6, OTHER6)):
        asking, waiting, bystander = (routed.connect(source, 80) for source in (client, client, other))
        assert all(echoes(each, COMES_S) for each in (asking, waiting, bystander))
        network = ban(firewall, client)
        for each in (waiting, bystander):
            routed.server.connections[each.getsockname()[:2]].sendall(b"answer")
        bystander.settimeout(COMES_S)
        assert bystander.recv(6) == b"answer"
        assert not echoes(asking, SILENCE_S)
        waiting.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            waiting.recv(6)
        assert not routed.reaches(client, 443)
        assert echoes(routed.connect(client, 8080), COMES_S)
        firewall.apply(Plan({}, frozenset({network})))
        assert echoes(routed.connect(client, 443), COMES_S)


@CHAINS
@pytest.mark.parametrize("action", ["reject"])
def test_with_reject_a_banned_client_is_refused_at_once(routed: Lab, firewall: Firewall) -> None:
    for client, other in ((CLIENT4, OTHER4), (CLIENT6, OTHER6)):
        established = routed.connect(client, 80)
        assert echoes(established, COMES_S)
        ban(firewall, client)
        with pytest.raises(ConnectionRefusedError):
            routed.connect(client, 443)
        established.sendall(b"ping")
        with pytest.raises(ConnectionResetError):
            established.recv(4)
        assert echoes(routed.connect(other, 443), COMES_S)
