"""One way to write each network, and finding an address among many."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import Network, NetworkSet, block_of, counted_network, is_ipv6, parse_network, too_wide, wider
from shared.errors import AddressError

v4_numbers = st.integers(0, 2**32 - 1)
v6_numbers = st.integers(0, 2**128 - 1)

#: Close to each other, so that they meet: a few bits decide.
crowded_v4 = st.builds(
    lambda low, prefix: ipaddress.ip_network(((10 << 24) + (low << 16), prefix), strict=False),
    st.integers(0, 15),
    st.integers(4, 32),
)
crowded_v6 = st.builds(
    lambda low, prefix: ipaddress.ip_network(((0x20010DB8 << 96) + (low << 64), prefix), strict=False),
    st.integers(0, 15),
    st.integers(16, 128),
)
crowded = crowded_v4 | crowded_v6


def written(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As nginx writes it: like Python, but IPv4-compatible addresses (RFC 4291, 2.5.5.1) with dots."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.packed)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("0.0.0.0", "0.0.0.0"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("::1", "::/64"),
        ("::203.0.113.7", "::/64"),
        ("fe80::1", "fe80::/64"),
    ],
)
def test_an_address_counts_as_one_network(address: str, network: str) -> None:
    assert counted_network(address) == network


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "-",
        "localhost",
        "203.0.113.007",
        "::FFFF:203.0.113.7",
        "::ffff:cb00:7107",
        "0:0:0:0:0:ffff:203.0.113.7",
        "2001:0db8:1:2::",
        "2001:DB8::1",
        "2001:db8:0:0::1",
        "203.0.113.7 ",
        "203.0.113.7/32",
        "203.0.113",
        "203.0.113.256",
        "0x7f.0.0.1",
        "2130706433",
        "fe80::1%eth0",
        "::1%1",
        "[::1]",
        "2001:db8::/64",
        ":::",
        "1:2:3:4:5:6:7:8:9",
        "203.0.113.7\0",
        "٢٠٣.0.113.7",
        "::\ud800",
    ],
)
def test_what_is_no_address_is_not_counted(text: str) -> None:
    with pytest.raises(AddressError):
        counted_network(text)


@pytest.mark.parametrize(
    ("prefix", "network"),
    [(32, "2001:db8::/32"), (48, "2001:db8:1::/48"), (56, "2001:db8:1:200::/56"), (128, "2001:db8:1:203:4:5:6:7")],
)
def test_other_prefixes_count_wider_or_narrower(prefix: int, network: str) -> None:
    assert counted_network("2001:db8:1:203:4:5:6:7", prefix) == network
    assert counted_network("203.0.113.7", prefix) == "203.0.113.7"
    assert counted_network("::ffff:203.0.113.7", prefix) == "203.0.113.7"


@given(v6_numbers, st.integers(32, 128))
def test_counting_agrees_with_ipaddress(number: int, prefix: int) -> None:
    address = ipaddress.IPv6Address(number)
    if address.ipv4_mapped is not None:
        expected = str(address.ipv4_mapped)
    else:
        expected = str(ipaddress.IPv6Network((number, prefix), strict=False)).removesuffix("/128")
    assert counted_network(written(address), prefix) == expected


@given(v4_numbers, st.integers(8, 32))
def test_a_wider_ipv4_network_may_count(number: int, prefix: int) -> None:
    expected = str(ipaddress.IPv4Network((number, prefix), strict=False)).removesuffix("/32")
    address = str(ipaddress.IPv4Address(number))
    assert counted_network(address, 64, prefix) == expected
    assert counted_network(f"::ffff:{address}", 64, prefix) == expected


@given(v4_numbers | v6_numbers)
def test_what_is_counted_is_canonical(number: int) -> None:
    network = counted_network(written(ipaddress.ip_address(number)))
    assert parse_network(network) == network
    assert is_ipv6(network) == (ipaddress.ip_network(network).version == 6)


@given(crowded)
def test_every_spelling_of_a_network_parses_to_the_same_text(network: ipaddress.IPv4Network) -> None:
    assert parse_network(str(network)) == parse_network(network.exploded)
    assert parse_network(parse_network(str(network))) == parse_network(str(network))


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7/32", "203.0.113.7"),
        ("2001:DB8::1/128", "2001:db8::1"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::/0", "::/0"),
    ],
)
def test_networks_are_written_one_way(text: str, network: str) -> None:
    assert parse_network(text) == network


@given(
    crowded | st.builds(ipaddress.ip_network, v6_numbers), st.sampled_from(["", "/{n}", "/0{n}", "/+{n}", "/ {n}", "/"])
)
def test_every_spelling_means_what_ipaddress_says_or_nothing(network: ipaddress.IPv6Network, length: str) -> None:
    for address in (str(network.network_address), network.network_address.exploded, written(network.network_address)):
        text = address + length.format(n=network.prefixlen)
        try:
            expected = ipaddress.ip_network(text)
        except ValueError:
            with pytest.raises(AddressError):
                parse_network(text)
        else:
            mapped = expected.version == 6 and expected.network_address.ipv4_mapped is not None
            assert mapped or parse_network(text) == str(expected).removesuffix(f"/{expected.max_prefixlen}")


@pytest.mark.parametrize(
    "text", ["localhost", "203.0.113.7/24", "203.0.113.0/33", "fe80::1%eth0", "fe80::%1/64", "010.0.0.1", "", "/8", "1"]
)
def test_what_is_no_network_is_refused_by_name(text: str) -> None:
    with pytest.raises(AddressError, match=r"^.{2}") as caught:
        parse_network(text)
    assert repr(text[:64]) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.lists(crowded, max_size=8), crowded)
def test_a_set_finds_what_overlaps(
    members: list[ipaddress.IPv4Network | ipaddress.IPv6Network], asked: ipaddress.IPv4Network
) -> None:
    found = NetworkSet([str(m) for m in members]).overlaps(parse_network(str(asked)))
    assert found == any(m.version == asked.version and m.overlaps(asked) for m in members)


def test_a_mapped_member_is_an_ipv4_member() -> None:
    assert NetworkSet(["::ffff:10.0.0.0/104"]).overlaps(Network("10.1.2.3"))


@pytest.mark.parametrize(
    ("network", "wide"),
    [
        ("0.0.0.0/0", True),
        ("10.0.0.0/7", True),
        ("10.0.0.0/8", False),
        ("203.0.113.7", False),
        ("::/0", True),
        ("2000::/18", True),
        ("2000::/19", False),
        ("2001:db8::1", False),
    ],
)
def test_too_wide_to_ban(network: str, wide: bool) -> None:
    assert too_wide(Network(network)) is wide


@given(st.ip_addresses(), st.data())
def test_the_network_around_a_network_is_the_one_that_ipaddress_knows(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    narrow = ipaddress.ip_network((address, data.draw(st.integers(1, address.max_prefixlen))), strict=False)
    network = parse_network(str(narrow))
    bits = ipaddress.ip_network(network)
    if bits.prefixlen < 2 or bits.version != address.version:
        return
    length = data.draw(st.integers(1, bits.prefixlen - 1))
    assert wider(network, length) == parse_network(str(bits.supernet(new_prefix=length)))


@pytest.mark.parametrize(
    ("network", "length", "around"),
    [
        ("203.0.113.7", 24, "203.0.113.0/24"),
        ("2001:db8:1:2f3::/64", 56, "2001:db8:1:200::/56"),
        ("2001:db8:1:2f3::/64", 48, "2001:db8:1::/48"),
        ("::102:304", 112, "::102:0/112"),
    ],
)
def test_the_network_around_a_network_is_written_as_every_network_is(network: str, length: int, around: str) -> None:
    assert wider(Network(network), length) == around == parse_network(around)


@pytest.mark.parametrize(
    ("network", "block"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("203.0.113.128/25", "203.0.113.0/24"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.0.0/16", "203.0.0.0/16"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("2001:db8:1::/48", "2001:db8:1::/48"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::/64", "::/48"),
    ],
)
def test_addresses_of_one_owner_lie_in_one_block(network: str, block: str) -> None:
    assert block_of(Network(network)) == block


@given(crowded)
def test_a_block_is_the_network_around_and_written_as_any_other(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> None:
    prefix = min(network.prefixlen, 24 if network.version == 4 else 48)
    block = block_of(parse_network(str(network)))
    assert block == parse_network(str(network.supernet(new_prefix=prefix)))
    assert block_of(block) == block
