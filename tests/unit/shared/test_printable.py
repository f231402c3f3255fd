"""Text from outside becomes harmless for a terminal and stays readable; also in the logs."""

from __future__ import annotations

import logging
import sys
import unicodedata

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from receiver.main import Logger
from shared.logs import Formatter
from shared.printable import printable

anything = st.text(st.characters())  # with lone surrogates


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("meet.alice", "meet.alice"),
        ("Zoë Ωmega Алиса 会議室 مرحبا שלום ไทย", "Zoë Ωmega Алиса 会議室 مرحبا שלום ไทย"),
        ("\x1b[2J\x1b]52;c;eA==\x07", r"\x1b[2J\x1b]52;c;eA==\x07"),
        ("a\x9b31m\x7f", r"a\x9b31m\x7f"),
        ("\u202eevil\u2066\u200b\ufeff", r"\u202eevil\u2066\u200b\ufeff"),
        ("\U000e0041\ud800\u2028", r"\U000e0041\ud800\u2028"),
        ("one\ntwo\r\tthree", r"one\x0atwo\x0d\x09three"),
        (7, "7"),
    ],
)
def test_what_commands_a_terminal_becomes_a_visible_escape_and_letters_stay(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_line_breaks_stay_where_they_are_meant() -> None:
    assert printable("one\r\ntwo\x1b", breaks=True) == "one\\x0d\ntwo\\x1b"


@given(anything)
def test_nothing_is_left_that_is_no_visible_character(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert printable(shown) == shown
    shown.encode()  # a terminal's encoding takes it


def record(message: str, *arguments: object, exc_info: bool = False) -> str:
    made = logging.getLogger("pinban.test").makeRecord("pinban.test", logging.ERROR, "f", 1, message, arguments,
                                                       sys.exc_info() if exc_info else None)  # fmt: skip
    return Formatter().format(made)


@given(anything)
def test_a_message_is_one_line_of_a_log_whatever_came_into_it(text: str) -> None:
    assert record("room %s", text).isprintable()


def test_a_traceback_has_its_lines_and_commands_no_terminal_either() -> None:
    try:
        raise ValueError("a\x1b[2J\u202eb")
    except ValueError:
        first, *rest = record("a bug", exc_info=True).splitlines()
    assert first.endswith("pinban.test: a bug")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == r"ValueError: a\x1b[2J\u202eb"


def test_gunicorn_writes_its_lines_as_pinban_does() -> None:
    made = Logger(Config())
    assert made.error_log.handlers
    assert all(isinstance(each.formatter, Formatter) for each in (*made.error_log.handlers, *made.access_log.handlers))
