"""Spellings of one path are one path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.lines.target import Target, target_of

PLAIN = "/api/client/v2/conferences/meet.alice/request_token"


@st.composite
def spellings(draw: st.DrawFn) -> bytes:
    """PLAIN, as a client may write it and nginx still routes it."""
    out = b""
    for segment in PLAIN.split("/")[1:]:
        for _ in range(draw(st.integers(0, 2))):
            out += draw(st.sampled_from([b"/", b"/.", b"/%2e", b"/x/..", b"/x/%2E.", b"/a%2fb/../..", b"/x://y/../.."]))
        out += draw(st.sampled_from([b"/", b"%2F"])) if out else b"/"
        out += b"".join(draw(st.sampled_from([c.encode(), b"%%%02x" % ord(c), b"%%%02X" % ord(c)])) for c in segment)
    out += draw(st.sampled_from([b"", b"/", b"//", b"/.", b"/x/.."]))
    out += draw(st.sampled_from([b"", b"?", b"?a=/../..", b"?x://y/z", b"#x", b"?#"]))
    return draw(st.sampled_from([b"", b"http://rp.example.com", b"HTTPS://u:p@[::1]:443", b"x+y.z-1://h"])) + out


@given(spellings())
def test_every_spelling_is_the_same_target(raw: bytes) -> None:
    assert target_of(raw) == Target("conference", "meet.alice")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_target_or_none(raw: bytes) -> None:
    target = target_of(raw)
    assert target is None or target.alias


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "/",
        "*",
        "rp.example.com:443",
        "/api/client/v2/conferences//request_token",
        "/api/client/v2/conferences/request_token",
        "/api/client/vx/conferences/a/request_token",
        "/api/client/v2/conferences/a/request_tokens",
        "/api/client/v2/conferences/a/request_token/b",
        "/webapp/?u=/api/client/v2/conferences/a/request_token",
        "/webapp/#/api/client/v2/conferences/a/request_token",
        "/webapp%3F/api/client/v2/conferences/a/request_token",
        "/api/client/v2/conferences/a/request%255Ftoken",
    ],
)
def test_what_asks_for_something_else_is_no_target(raw: str) -> None:
    assert target_of(raw.encode()) is None


@pytest.mark.parametrize(
    ("raw", "alias"),
    [("a%2Fb", "a/b"), ("a%0ab", "a\nb"), ("b%C3%A4r", "bär"), ("%FF", "\ufffd"), ("a%3Fb", "a?b"), ("a%zz", "a%zz")],
)
def test_the_alias_is_decoded(raw: str, alias: str) -> None:
    assert target_of(f"/api/client/v2/conferences/{raw}/request_token".encode()) == Target("conference", alias)
    assert target_of(f"/api/client/v2/registrations/{raw}/request_token".encode()) == Target("registration", alias)
