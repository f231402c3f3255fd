"""Who is connected to whom, and under which address. Two bridges in a namespace of their own; no processes."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.netns import Namespace

#: The address of Redis, receiver and conference node.
CORE = "10.77.0.1"

INSIDE = "inside"
OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace as one machine, with its addresses; "" for a network that it is not in."""

    name: str
    namespace: Namespace
    inside: str = ""
    outside: str = ""
    outside6: str = ""


def core(prefix: str) -> Host:
    return Host("core", Namespace(f"{prefix}-core"), inside=CORE)


def reverse_proxy(prefix: str, number: int) -> Host:
    """rp1 is 10.77.0.11, 198.51.100.11 and 2001:db8:77::11, rp2 ends in 12, and so on."""
    last = 10 + number
    namespace = Namespace(f"{prefix}-rp{number}")
    return Host(f"rp{number}", namespace, f"10.77.0.{last}", f"198.51.100.{last}", f"2001:db8:77::{last}")


def client(prefix: str, name: str, last: int) -> Host:
    """A /64 for each client, because IPv6 is banned by the /64: attacker and bystander must not share one."""
    return Host(
        name,
        Namespace(f"{prefix}-{name}"),
        outside=f"198.51.100.{last}",
        outside6=f"2001:db8:77:{last}::{last}",
    )


def lay_bridges(wires: Namespace) -> None:
    """Without multicast snooping, which loses the first neighbour solicitations."""
    for bridge in (INSIDE, OUTSIDE):
        wires.configure(
            f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {bridge} up",
        )


def connect(wires: Namespace, host: Host) -> None:
    """Connect a host to the networks it has an address in. No duplicate address detection: it takes a second."""
    target = host.namespace
    if host.inside:
        _plug(wires, host, INSIDE, "-in")
        target.configure(f"addr add {host.inside}/24 dev {INSIDE}", f"link set {INSIDE} up")
    if host.outside:
        _plug(wires, host, OUTSIDE, "-out")
        target.configure(
            f"addr add {host.outside}/24 dev {OUTSIDE}",
            f"addr add {host.outside6}/48 dev {OUTSIDE} nodad",
            f"link set {OUTSIDE} up",
        )


def _plug(wires: Namespace, host: Host, bridge: str, suffix: str) -> None:
    port = f"{host.name}{suffix}"
    wires.configure(
        f"link add {port} type veth peer name {bridge} netns {host.namespace.name}",
        f"link set {port} master {bridge} up",
    )
