"""Saying a thing once, and how often it was not said."""

from __future__ import annotations

import logging
import threading

import pytest

from shared.logs import Sparingly

log = logging.getLogger("tests.sparingly")


def test_a_burst_is_said_and_the_rest_is_not(caplog: pytest.LogCaptureFixture) -> None:
    sparingly = Sparingly(log, every_s=3600, burst=2)
    for number in range(5):
        sparingly.warning("kind", "number %d", number)
    assert [record.getMessage() for record in caplog.records] == ["number 0", "number 1"]


def test_kinds_do_not_silence_each_other(caplog: pytest.LogCaptureFixture) -> None:
    sparingly = Sparingly(log, every_s=3600)
    for kind in ("one", "two", "one"):
        sparingly.warning(kind, "%s", kind)
    assert [record.getMessage() for record in caplog.records] == ["one", "two"]


def test_the_next_span_says_how_many_were_left_unsaid(caplog: pytest.LogCaptureFixture) -> None:
    sparingly = Sparingly(log, every_s=0.05)
    said = 0
    asked = 0
    while said < 2:
        sparingly.warning("kind", "again")
        asked += 1
        said = len(caplog.records)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "again"
    assert second == (f"again (and {asked - 2} more like it before)" if asked > 2 else "again")


def test_a_span_that_said_everything_owes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sparingly = Sparingly(log, every_s=0.0)
    for _ in range(3):
        sparingly.say(logging.INFO, "kind", "all")
    caplog.set_level(logging.INFO)
    for _ in range(3):
        sparingly.say(logging.INFO, "kind", "all")
    assert [record.getMessage() for record in caplog.records] == ["all"] * 3


def test_many_threads_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    sparingly = Sparingly(log, every_s=3600)
    threads = [threading.Thread(target=sparingly.warning, args=("kind", "once")) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caplog.records) == 1
