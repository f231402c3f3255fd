"""No client changes whose address is counted or what the node answered, whatever it sends."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from receiver.lines import formats as lines
from receiver.lines import syslog
from receiver.lines.classify import Class, Classifier
from receiver.lines.formats import deciding
from receiver.lines.syslog import message
from shared.addresses import counted_network
from shared.settings.schema import Receiver
from tests.unit.receiver.test_corpus import cases, datagram_of

CLASSIFIER = Classifier(Receiver())

FRAMES = (
    b"",
    b"<190>Nov 22 14:12:18 pinban: ",
    b"<190>Nov  2 14:12:18 rp-1.example.com nginx[12]: ",
    b"<14>1 2026-11-22T14:12:18.003Z rp1 nginx - - - ",
    b'<14>1 2026-11-22T14:12:18.003Z rp1 nginx - - [a b="c"] ',
)

addresses = st.sampled_from(["203.0.113.7", "2001:db8:1:2::9", "::ffff:203.0.113.7"])
statuses = st.sampled_from([200, 400, 403, 404, 499, 502])
sizes = st.sampled_from([0, 45, 56, 73, 9_999])

#: What a client sends to confuse a parser.
TRICKS = (
    b'"', b"\\", b"\\x22", b"\\u0000", b" ", b"[", b"]", b" - ", b"-", b"\n", b"\0", b"9.9.9.9", b" 200 5 ",
    b"HTTP/1.1", b"POST ", b"{", b"}", b'","ip":"9.9.9.9"', b"\xff", b"\xed\xa0\x80", b"<190>", b"Nov 22 14:12:18 x: ",
)  # fmt: skip
hostile = st.binary(max_size=60) | st.lists(st.sampled_from(TRICKS), max_size=8).map(b"".join)
maybe = st.none() | hostile


def default_escape(value: bytes | None) -> bytes:
    """What nginx makes of a variable in a log_format without escape= (ngx_http_log_escape)."""
    if value is None:
        return b"-"
    return b"".join(
        b"\\x%02X" % byte if byte < 0x20 or byte >= 0x7F or byte in b'"\\' else bytes((byte,)) for byte in value
    )


def json_escape(value: bytes) -> bytes:
    """What nginx makes of a variable in a log_format with escape=json (ngx_escape_json)."""
    short = {0x22: b'\\"', 0x5C: b"\\\\", 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t", 0x08: b"\\b", 0x0C: b"\\f"}
    return b"".join(short.get(byte) or (b"\\u%04X" % byte if byte < 0x20 else bytes((byte,))) for byte in value)


@given(st.sampled_from(FRAMES), addresses, maybe, hostile, statuses, sizes, maybe, maybe, st.booleans(), statuses)
@example(FRAMES[1], "203.0.113.7", b'- [x] "a"\n9.9.9.9', b"POST / HTTP/1.1", 403, 45, None, None, True, 403)
def test_no_client_forges_address_or_status_of_a_text_line(
    frame: bytes,
    address: str,
    user: bytes | None,
    request: bytes,
    status: int,
    size: int,
    referer: bytes | None,
    agent: bytes | None,
    pexapp: bool,
    upstream: int,
) -> None:
    line = b'%s - %s [22/Nov/2026:14:12:18 +0000]%s "%s" %d %d "%s" "%s"' % (
        address.encode(),
        default_escape(user),
        b" " if pexapp else b"",
        default_escape(request),
        status,
        size,
        default_escape(referer),
        default_escape(agent),
    )
    if pexapp:
        line += b' "" "502, %d" "4.016"' % upstream
    fields = lines.parse(message(frame + line))
    assert fields is not None
    assert (fields.address, fields.length) == (address, size)
    assert fields.status == (upstream if pexapp else status)
    assert CLASSIFIER.classify(frame + line).network == counted_network(address)


@given(hostile, maybe, maybe)
def test_no_client_hides_a_wrong_pin_in_a_text_line(user: bytes, referer: bytes | None, agent: bytes | None) -> None:
    request = b"POST /api/client/v2/conferences/meet.alice/request_token HTTP/1.1"
    line = b'203.0.113.7 - %s [22/Nov/2026:14:12:18 +0000] "%s" 403 45 "%s" "%s"' % tuple(
        default_escape(value) for value in (user, request, referer, agent)
    )
    assert CLASSIFIER.classify(line).meaning is Class.WRONG_PIN


@given(
    st.sampled_from(FRAMES),
    addresses,
    hostile,
    st.sampled_from([b"conference", b"registration", b""]),
    statuses,
    sizes,
    st.sampled_from(["0", "n", "1"]),
)
def test_no_client_forges_a_field_of_our_own_format(
    frame: bytes, address: str, alias: bytes, kind: bytes, status: int, size: int, pin: str
) -> None:
    assume(len(alias) <= 128)
    line = (
        b'{"v":1,"id":"6458bd4b","t":"1795356738.348","ip":"%s","m":"POST","k":"%s","a":"%s","s":"%d","us":"%d",'
        b'"l":"%d","p":"%s"}' % (address.encode(), kind, json_escape(alias), status, status, size, pin.encode())
    )
    fields = lines.parse(message(frame + line))
    assert fields is not None
    assert (fields.address, fields.status, fields.length, fields.pin) == (address, status, size, pin)
    assert (fields.post, fields.kind or "", fields.id) == (True, kind.decode(), "6458bd4b")
    assert fields.alias == alias.decode("utf-8", "replace")
    assert CLASSIFIER.classify(frame + line).network == counted_network(address)


@given(st.binary(max_size=300))
def test_any_bytes_have_a_meaning(datagram: bytes) -> None:
    assert CLASSIFIER.classify(datagram).meaning in Class


KNOWN = [datagram_of(case) for case in cases()]


@given(st.sampled_from(KNOWN), st.data())
def test_any_damaged_line_has_a_meaning(line: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(at, len(line)))
    damaged = line[:at] + data.draw(hostile) + line[end:]
    found = CLASSIFIER.classify(damaged)
    assert (found.network is None) == (found.meaning in (Class.MALFORMED, Class.PROBE))
    assert found.alias is None or len(found.alias) <= 128


@given(st.binary(max_size=200))
def test_a_frame_only_ever_loses_its_front_and_its_line_end(datagram: bytes) -> None:
    assert datagram.rstrip(b"\r\n\0 ").endswith(syslog.message(datagram))


@pytest.mark.parametrize(
    "filler",
    [b'"', b"[", b"]", b" ", b"[a\\", b"x [", b"- ", b"\\x22", b"/..", b"%2e%2e/", b", ", b" : ", b"[x] ", b"://"],
)
def test_reading_the_longest_datagram_takes_no_longer_than_its_length_allows(filler: bytes) -> None:
    long = filler * (65_000 // len(filler))
    before = time.process_time()
    for line in (
        b'203.0.113.7 - - [x] "POST ' + long + b' HTTP/1.1" 403 5 "" ""',
        b"203.0.113.7 - " + long + b' [x] "POST / HTTP/1.1" 403 5 "" ""',
        b"203.0.113.7 - " + long + b'"POST / HTTP/1.1" 403 5 "" ""',
        b"<190>1 t h a p m " + long,
        b'{"v":1,"ip":"203.0.113.7","m":"POST","k":"conference","s":"403","us":"' + long + b'"}',
    ):
        CLASSIFIER.classify(line)
    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("statuses", "lengths", "found"),
    [
        ("403", "45", (403, 45, True)),
        ("502, 403", "0, 45", (403, 45, True)),
        ("403, 502", "45, 0", (403, 45, False)),
        ("403 : 200", "45 : 900", (403, 45, False)),
        ("502, 403 : 200", "0, 45 : 900", (403, 45, False)),
        ("404, 403, 401", "60, 45, 50", (403, 45, False)),
        ("404, 401", "60, 50", (401, 50, True)),
        ("404 : 200", "60 : 900", (404, 60, False)),
        ("404, 200", "60, 900", (200, 900, True)),
        ("404, 404", "60, 61", (404, 61, True)),
        ("502, 200", "0, 900", (200, 900, True)),
        ("502, 403", "45", (403, None, True)),
        ("502, -", "0, -", (None, None, True)),
        ("-", "-", (None, None, True)),
        ("", "", (None, None, True)),
    ],
)
def test_a_refusal_decides_wherever_it_stands_in_the_list(
    statuses: str, lengths: str, found: tuple[int | None, int | None, bool]
) -> None:
    assert deciding(statuses, lengths) == found


@pytest.mark.parametrize(
    ("told", "took_ms"),
    [
        ("4.016", 4_016), ("0.000", 0), ("0.004, 4.016", 4_020), ("4.016 : 0.001", 4_017), ("-, 4.016", 4_016),
        ("-", -1), ("", -1), ("-, -", -1), ("4.01", -1), ("4", -1), ("-1.000", -1), ("x.000", -1), ("9" * 60_000, -1),
        (",", -1), ("1.0:00", -1),
    ],
)  # fmt: skip
def test_how_long_a_request_took_is_told(told: str, took_ms: int) -> None:
    line = (
        "203.0.113.7 - - [22/Nov/2026:14:12:18 +0000]  "
        f'"POST /api/client/v2/conferences/meet.alice/request_token HTTP/1.1" 403 56 "-" "-" "" "403" "{told}"'
    )
    assert CLASSIFIER.classify(line.encode()).took_ms == took_ms
    if "," not in told and ":" not in told:  # $request_time is no list
        v1 = '{"v":1,"ip":"203.0.113.7","m":"POST","k":"conference","s":"403","us":"403","d":"' + told + '"}'
        assert CLASSIFIER.classify(v1.encode()).took_ms == took_ms
