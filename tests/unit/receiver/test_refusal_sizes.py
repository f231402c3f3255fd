"""The size of a 403: no guesser gets himself taken for somebody who was asked or refused otherwise.

A node's JSON may be written in any style, and a client chooses the version of HTTP and whether the node compresses.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from receiver.lines.classify import Class, Classifier, Line
from shared.settings.schema import Receiver
from tests.unit.receiver.test_corpus import cases

CLASSIFIER = Classifier(Receiver())

#: How a server may write JSON: json.dumps' separators and indent.
STYLES: dict[str, tuple[tuple[str, str] | None, int | None]] = {
    "compact": ((",", ":"), None),
    "spaced": (None, None),
    "indented by 2": (None, 2),
    "indented by 4": (None, 4),
}

#: The frame of a body of 16 to 255 bytes in one chunk: its length in two digits, four line ends, the last chunk.
CHUNKED = 11

#: What the appliance's format has behind the combined format's fields.
APPLIANCE = ' "10.0.0.9:443" "403" "4.016"'


@dataclass(frozen=True, slots=True)
class Body:
    """A refusal of a PIN on its way to the client."""

    style: str
    coding: str  #: Content-Encoding
    size: int  #: bytes, with the frame of a chunk


def refusals() -> Iterator[Body]:
    """Every way in which a node may say that a PIN is wrong."""
    for style, (separators, indent) in STYLES.items():
        for status in ("failed", "success"):
            text = json.dumps({"status": status, "result": "Invalid PIN"}, separators=separators, indent=indent)
            for plain in (text.encode(), text.encode() + b"\n"):
                coded = [("", plain)]
                coded += [("gzip", gzip.compress(plain, level)) for level in range(1, 10)]
                coded += [("deflate", zlib.compress(plain, level)) for level in range(1, 10)]
                for coding, body in coded:
                    yield Body(style, coding, len(body))
                    yield Body(style, coding, len(body) + CHUNKED)


def v1(size: object, *, pin: str = "1", compressed: str = "0", us: str = "403") -> Line:
    fields = {"v": 1, "ip": "203.0.113.7", "m": "POST", "k": "conference", "s": "403", "us": us, "l": str(size)}
    return CLASSIFIER.classify(json.dumps(fields | {"p": pin, "e": compressed}).encode())


def text(size: object, *, pexapp: bool) -> Line:
    line = (
        "203.0.113.7 - - [22/Nov/2026:14:12:18 +0000] "
        f'"POST /api/client/v2/conferences/meet.alice/request_token HTTP/1.1" 403 {size} "-" "-"'
    )
    return CLASSIFIER.classify((line + APPLIANCE if pexapp else line).encode())


def test_every_refused_pin_is_one_in_our_own_format() -> None:
    for body in refusals():
        compressed = "1" if body.coding else "0"
        assert v1(body.size, compressed=compressed).meaning is Class.WRONG_PIN, body
        assert v1(body.size, compressed="").meaning is Class.WRONG_PIN, f"older snippet: {body}"


#: Sizes that the text formats take for a question, though a node may refuse with them: 73 bytes if it writes compact
#: JSON, or 77 if it indents by two, compresses, and sends in chunks. They stay in receiver.prompt_bytes, because 73 and
#: 77 bytes are the commonest questions of all, of nodes that write JSON with spaces: without them every join of such a
#: site would be a wrong PIN. A node has one style: where it is another, its own questions have other sizes than the
#: default's, so that each join counts until the site sets its sizes, and 73 and 77 are not among them.
SHARED = {73: {"compact"}, 77: {"indented by 2"}}


@pytest.mark.parametrize("pexapp", [False, True])
def test_every_refused_pin_is_one_in_the_text_formats_but_for_two_sizes_of_other_styles(pexapp: bool) -> None:
    mistaken: dict[int, set[str]] = {}
    for body in refusals():
        found = text(body.size, pexapp=pexapp)
        if found.meaning is not Class.WRONG_PIN:
            assert (found.meaning, body.coding) == (Class.PIN_PROMPT, "gzip")
            mistaken.setdefault(body.size, set()).add(body.style)
    assert mistaken == SHARED


def question(guest: str) -> dict[str, object]:
    return {"status": "success", "result": {"pin": "required", "guest_pin": guest}}


@pytest.mark.parametrize("style", STYLES)
def test_no_refused_pin_has_the_size_of_a_question_of_the_same_node(style: str) -> None:
    separators, indent = STYLES[style]
    asked = {
        len(json.dumps(question(guest), separators=separators, indent=indent)) + framed
        for guest in ("none", "required")
        for framed in (0, CHUNKED)
    }
    assert not asked & {body.size for body in refusals() if body.style == style}


def test_a_full_conference_is_known_by_its_size_where_nothing_was_compressed() -> None:
    for result in ("Participant limit reached", "SSO Authentication Failed", "System in maintenance mode"):
        size = len(json.dumps({"status": "failed", "result": result}))
        for sent in (size, size + CHUNKED):
            assert v1(sent).meaning is Class.REFUSED_OTHERWISE
            assert v1(f"0, {sent}", us="502, 403").meaning is Class.REFUSED_OTHERWISE
            assert v1(sent, pin="0").meaning is Class.PIN_PROMPT
            for doubtful in (v1(sent, compressed="1"), v1(sent, compressed=""), v1(f"{sent} : 9", us="403 : 200")):
                assert doubtful.meaning is Class.WRONG_PIN


def test_the_sizes_of_a_deployment_are_settings() -> None:
    settings = Receiver(wrong_pin_bytes=(600,), refused_otherwise_bytes=(101,), refused_otherwise_above=400)
    for size, meaning in (
        (600, Class.WRONG_PIN), (101, Class.REFUSED_OTHERWISE), (59, Class.WRONG_PIN), (401, Class.REFUSED_OTHERWISE),
        (400, Class.WRONG_PIN),
    ):  # fmt: skip
        fields = {"v": 1, "ip": "203.0.113.7", "m": "POST", "k": "conference", "s": "403", "us": "403", "l": str(size)}
        line = json.dumps(fields | {"p": "1", "e": "0"}).encode()
        assert Classifier(settings).classify(line).meaning is meaning


def test_a_size_that_no_setting_knows_is_told() -> None:
    assert [v1(size).unknown_size for size in (45, 56, 137, 300, 513, 59, "-", 0)] == [None] * 3 + [300] + [None] * 4
    assert v1(59, compressed="1").unknown_size is None
    assert v1(300, pin="0").unknown_size is None
    assert text(300, pexapp=True).unknown_size == 300


def test_every_case_of_the_corpus_that_is_refused_otherwise_is_counted_by_nobody() -> None:
    assert {case["rule"] for case in cases() if case["class"] == Class.REFUSED_OTHERWISE} == {None}
