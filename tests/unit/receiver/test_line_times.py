"""A line's time comes from nginx alone, from its place in the line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.lines import formats as lines
from receiver.lines import syslog
from receiver.lines.times import line_time
from tests.unit.receiver.test_corpus import KNOWN
from tests.unit.receiver.test_line_formats import FRAMES, default_escape, hostile, json_escape, maybe

moments = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(lambda at: at.replace(microsecond=0))
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.sampled_from(FRAMES), moments, zones, maybe, hostile, maybe, maybe, st.booleans())
def test_no_client_forges_the_time_of_a_text_line(
    frame: bytes,
    moment: datetime,
    zone: timezone,
    user: bytes | None,
    request: bytes,
    referer: bytes | None,
    agent: bytes | None,
    pexapp: bool,
) -> None:
    at = moment.replace(tzinfo=zone)
    dated = b" [01/Jan/2020:00:00:00 +0000] "
    line = b'203.0.113.7 - %s [%s]%s"%s" 403 56 "%s" "%s"' % (
        default_escape(user) + dated,
        at.strftime("%d/%b/%Y:%H:%M:%S %z").encode(),
        b"  " if pexapp else b" ",
        default_escape(request) + dated,
        default_escape(referer) + dated,
        default_escape(agent) + dated,
    )
    assert line_time(frame + line + (b' "" "403" "4.016"' if pexapp else b"")) == at.timestamp()


@given(st.sampled_from(FRAMES), st.integers(0, 4_000_000_000_000), hostile)
def test_no_client_forges_the_time_of_our_own_format(frame: bytes, at_ms: int, alias: bytes) -> None:
    line = b'{"v":1,"t":"%d.%03d","ip":"203.0.113.7","a":"%s"}' % (at_ms // 1_000, at_ms % 1_000, json_escape(alias))
    assert line_time(frame + line) == at_ms / 1_000


@given(moments, zones, st.integers(0, 999_999))
def test_a_frame_lends_its_time_to_a_line_that_has_none(moment: datetime, zone: timezone, micros: int) -> None:
    at = moment.replace(tzinfo=zone, microsecond=micros)
    frame = f"<14>1 {at.isoformat(timespec='microseconds')} rp1 sshd - - - Failed password for root".encode()
    assert line_time(frame) == pytest.approx(at.timestamp(), abs=1e-5)


def test_the_lines_own_time_goes_before_that_of_its_frame() -> None:
    assert line_time(b'<14>1 2020-01-01T00:00:00Z rp1 nginx - - - {"v":1,"t":"1795356738.348"}') == 1795356738.348


@pytest.mark.parametrize("line", KNOWN)
def test_every_text_line_that_is_read_has_a_time(line: bytes) -> None:
    message = syslog.message(line)
    if lines.parse(message) is not None and not message.startswith(b"{"):
        assert line_time(line) is not None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Nov 22 14:12:18 rp1 sshd[1]: Invalid user [22/Nov/2026:14:12:18 +0000] \"x\" 403 56 \"-\" \"-\"",
        b"<190>Nov 22 14:12:18 rp1 nginx: no time of its own",
        b'203.0.113.7 - - [31/Feb/2026:14:12:18 +0000] "GET / HTTP/1.1" 200 5 "-" "-"',
        b'203.0.113.7 - - [22/nov/2026:14:12:18 +0000] "GET / HTTP/1.1" 200 5 "-" "-"',
        b'203.0.113.7 - - [22/Nov/2026:25:12:18 +0000] "GET / HTTP/1.1" 200 5 "-" "-"',
        b'203.0.113.7 - - [22/Nov/2026:14:12:18 +9900] "GET / HTTP/1.1" 200 5 "-" "-"',
        b'203.0.113.7 - - [22/Nov/0000:14:12:18 +0000] "GET / HTTP/1.1" 200 5 "-" "-"',
        b'203.0.113.7 - - [22/Nov/2026:14:12:18] "GET / HTTP/1.1" 200 5 "-" "-"',
        b"<14>1 2026-13-22T14:12:18Z rp1 sshd - - - x",
        b'{"v":1,"t":"1e9"}', b'{"v":1,"t":"-1"}', b'{"v":1,"t":""}', b'{"v":1,"t":1795356738}', b'{"v":1}',
        b'{"v":2,"t":"1795356738.348"}', b'{"v":1,"t":"999999999999"}', b'{"v":1,"t":"nan"}',
        '{"v":1,"t":"١٧٩٥"}'.encode(),
    ],
)  # fmt: skip
def test_what_is_no_time_is_none(line: bytes) -> None:
    assert line_time(line) is None


@given(st.sampled_from(KNOWN), st.data())
def test_no_damage_makes_reading_the_time_fail(line: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(at, len(line)))
    found = line_time(line[:at] + data.draw(hostile) + line[end:])
    assert found is None or datetime.fromtimestamp(found, UTC).year < 10_000


def test_an_alias_of_no_utf_8_does_not_hide_the_time() -> None:
    assert line_time(b'{"v":1,"t":"1795356738.348","a":"\xff\xed\xa0\x80"}') == 1795356738.348
