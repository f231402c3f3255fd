"""What the kernel of a namespace drops, asked without the enforcer: its sets and rules, and single members cheaply."""

from __future__ import annotations

import os
import re
import socket
import struct
from ipaddress import IPv4Address

from tests.lab.netns import Namespace
from tests.lab.process import LabError

#: The set of IPv4 bans, as [enforcer] prefix names it by default.
SET4 = "pinban4"

#: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/ipset/ip_set.h
NETLINK_NETFILTER, NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 12, 1, 4, 2
NFNL_SUBSYS_IPSET, IPSET_CMD_TEST, IPSET_PROTOCOL = 6, 11, 6
ATTR_PROTOCOL, ATTR_SETNAME, ATTR_DATA, ATTR_IP, ATTR_IPADDR_IPV4, ATTR_CIDR = 1, 2, 7, 1, 1, 3
NESTED, NET_BYTEORDER = 0x8000, 0x4000
IPSET_ERR_EXIST = 4103


def members(namespace: Namespace) -> set[str]:
    """Every network that the sets of pinban hold."""
    return set(re.findall(r"^add pinban[46] (\S+)", namespace.run(["ipset", "save"]).stdout, re.MULTILINE))


def timeouts(namespace: Namespace) -> dict[str, int]:
    """The same, each with the seconds that it has left."""
    saved = namespace.run(["ipset", "save"]).stdout
    return {n: int(s) for n, s in re.findall(r"^add pinban[46] (\S+) timeout (\d+)", saved, re.MULTILINE)}


def traces(namespace: Namespace) -> list[str]:
    """Each line of sets and filter tables, IPv4 and IPv6, that names pinban."""
    commands = (["ipset", "save"], ["iptables-legacy-save"], ["ip6tables-legacy-save"])
    lines = (line for command in commands for line in namespace.run(command).stdout.splitlines())
    return [line for line in lines if "pinban" in line]


class Peephole:
    """Tells whether an IPv4 address is in the set: one netlink message and the kernel's answer, some microseconds."""

    def __init__(self, namespace: Namespace, name: str = SET4) -> None:
        self._socket = namespace.call(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
        self._head = _attribute(ATTR_PROTOCOL, bytes([IPSET_PROTOCOL]))
        self._head += _attribute(ATTR_SETNAME, name.encode() + b"\0")

    def __enter__(self) -> Peephole:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def sees(self, address: str) -> bool:
        """Whether the set has it now; LabError if there is no such set, or no right to ask."""
        number = _attribute(ATTR_IPADDR_IPV4 | NET_BYTEORDER, IPv4Address(address).packed)
        asked = _attribute(ATTR_IP | NESTED, number) + _attribute(ATTR_CIDR, b"\x20")
        body = struct.pack("!BBH", socket.AF_INET, 0, 0) + self._head + _attribute(ATTR_DATA | NESTED, asked)
        kind = NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_TEST
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK, 0, 0) + body)
        answer = self._socket.recv(1024)
        (kind,), (error,) = struct.unpack_from("=H", answer, 4), struct.unpack_from("=i", answer, 16)
        if kind != NLMSG_ERROR or error not in (0, -IPSET_ERR_EXIST):
            raise LabError(f"ipset test: {os.strerror(-error) if -error < 4096 else f'error {-error}'}")
        return bool(error == 0)


def _attribute(kind: int, payload: bytes) -> bytes:
    """struct nlattr, padded to four bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)
