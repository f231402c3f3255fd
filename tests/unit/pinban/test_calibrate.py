"""Calibrating: what honest logs teach, and what nobody who writes into a log can make pinban believe."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pinban.calibrate.evidence import Answer, Evidence, evidence_of
from pinban.calibrate.judge import Judgement, Meaning, judge, lists_with
from pinban.cli import main
from shared.addresses import counted_network
from shared.settings.schema import Receiver
from tests.lab.views import program

#: In no list of the default settings.
PROMPT, REDIRECT, REFUSAL = 99, 91, 61

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


def answer(second: float, address: str, room: str, size: int | None, pin: str | None) -> Answer:
    return Answer(round((NOON + second) * 1_000), counted_network(address), counted_network(address, 48, 24), room,
                  size, pin)  # fmt: skip


def joins(
    rooms: int = 4,
    each: int = 10,
    *,
    flags: bool = True,
    prompt: int = PROMPT,
    wrong: int = 45,
    first: int = 0,
) -> Iterator[Answer]:
    """People who join rooms of theirs, every fifth of them with one wrong PIN; `first` is what a right PIN gets."""
    for room in range(rooms):
        for person in range(each):
            at, address, name = person * 300.0, f"203.{person // 250}.{person % 250}.{room + 1}", f"room{room}"
            without, with_pin = ("0", "1") if flags else (None, None)
            yield answer(at, address, name, prompt, without)
            if person % 5 == 0:
                yield answer(at + 5, address, name, wrong, with_pin)
                yield answer(at + 6, address, name, prompt, without)
            if first:
                yield answer(at + 10, address, name, first, with_pin)
            yield answer(at + 15, address, name, None, with_pin)


def judged(answers: Iterable[Answer], settings: Receiver | None = None) -> dict[int, Judgement]:
    found = judge(evidence_of(answers), settings or Receiver())
    return {each.evidence.size: each for each in found}


def added(answers: Iterable[Answer]) -> dict[str, set[int]]:
    settings = Receiver()
    changed = lists_with(judge(evidence_of(answers), settings), settings)
    return {name: set(sizes) - set(getattr(settings, name)) for name, sizes in changed.items()}


@pytest.mark.parametrize("flags", [True, False])
def test_a_prompt_is_what_nearly_everybody_gets_before_he_comes_in(flags: bool) -> None:
    assert added(joins(flags=flags)) == {"prompt_bytes": {PROMPT}}


def test_a_redirect_to_a_login_is_no_wrong_pin() -> None:
    assert added(joins(first=REDIRECT))["refused_otherwise_bytes"] == {REDIRECT}


def test_a_size_of_which_most_come_in_without_it_is_probably_a_wrong_pin() -> None:
    log = [*joins(), *joins(each=5, wrong=REFUSAL, rooms=4)]
    assert added([*log, *(answer(9_000, f"198.51.{i}.1", "room1", REFUSAL, "1") for i in range(5))]) == {
        "prompt_bytes": {PROMPT},
        "wrong_pin_bytes": {REFUSAL},
    }


def test_people_who_mistype_and_then_come_in_make_no_refusal_of_another_kind() -> None:
    """The node was upgraded, and its refusals have a new size: after each the same person joins within a minute."""
    log = [*joins(), *joins(wrong=REFUSAL, each=40)]
    found = judged(log)[REFUSAL]
    assert found.evidence.joined_after == found.evidence.lines
    assert found.probably in {Meaning.WRONG_PIN, Meaning.UNKNOWN}


def test_too_few_lines_say_nothing() -> None:
    found = judged(joins(rooms=4, each=2))
    assert {each.probably for size, each in found.items() if size != 45} == {Meaning.UNKNOWN}
    assert "too few lines: from 2 networks" in found[PROMPT].why
    assert added(joins(rooms=2, each=50)) == {}, "two rooms may be one person's"


def test_without_one_refusal_of_a_known_size_nothing_shows_that_another_is_none() -> None:
    log = [each for each in joins(flags=False) if each.size != 45]
    assert added(log) == {}
    assert "may be a wrong PIN's too" in judged(log)[PROMPT].why


def test_a_size_that_comes_with_and_without_a_pin_is_not_judged() -> None:
    log = [*joins(), answer(1, "198.51.100.7", "room1", PROMPT, "1")]
    assert added(log) == {}
    assert judged(log)[PROMPT].probably is Meaning.UNKNOWN


def test_a_size_above_the_limit_is_about_no_pin() -> None:
    found = judged([answer(1, "198.51.100.7", "room1", 1_400, "1")])[1_400]
    assert (found.probably, found.add) == (Meaning.OTHERWISE, False)


def test_the_settings_stand_and_a_contradiction_is_told() -> None:
    found = judged(joins(prompt=45, wrong=REFUSAL))
    assert (found[45].probably, found[45].doubtful) == (Meaning.WRONG_PIN, True)
    assert "try a right PIN yourself" in found[45].why
    settings = Receiver(refused_otherwise_bytes=(REFUSAL,))
    found = judged([*joins(), *joins(wrong=REFUSAL)], settings)
    assert (found[REFUSAL].probably, found[REFUSAL].doubtful) == (Meaning.OTHERWISE, True)
    assert "try a wrong PIN yourself" in found[REFUSAL].why
    assert lists_with(list(found.values()), settings).keys() == {"prompt_bytes"}


def guesses(seed: int, *, flags: bool, own_rooms: int, networks: int, number: int = 2_000) -> Iterator[Answer]:
    """A guesser with many addresses, whose refusals have an unknown size, and who joins rooms of his own after each."""
    rnd = random.Random(seed)
    pin = "1" if flags else None
    for i in range(number):
        address = f"198.{rnd.randrange(networks)}.1.{rnd.randrange(1, 250)}"
        at = 70.0 * i
        room = rnd.choice([f"room{rnd.randrange(4)}", *(f"his{n}" for n in range(own_rooms))])
        yield answer(at, address, room, REFUSAL, pin)
        if room.startswith("his"):
            yield answer(at + 3, address, room, None, pin)


@pytest.mark.parametrize("flags", [True, False])
@pytest.mark.parametrize("own_rooms", [0, 1, 2, 5, 20])
def test_a_guesser_who_writes_most_of_the_log_hides_no_guess(flags: bool, own_rooms: int) -> None:
    """His refusals are, say, of a compressed body: of unknown size. Other people's joins on the rooms that he tries
    show that it is no answer that everybody gets.
    """
    people = [*joins(each=10, flags=flags)]
    changed = added([*people, *guesses(own_rooms, flags=flags, own_rooms=own_rooms, networks=200)])
    assert REFUSAL not in {*changed.get("prompt_bytes", ()), *changed.get("refused_otherwise_bytes", ())}


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from("ab"), st.sampled_from(["x", "y"]),
                  st.sampled_from([None, 45, 61, 99]), st.sampled_from([None, "0", "n", "1"])),
        max_size=60,
    ),
    st.randoms(),
)  # fmt: skip
def test_the_numbers_add_up_and_the_order_of_lines_does_not_matter(
    facts: list[tuple[int, str, str, int | None, str | None]], rnd: random.Random
) -> None:
    log = [answer(n * 1_000 + at, {"a": "203.0.113.7", "b": "2001:db8::1"}[who], room, size, pin)
           for n, (at, who, room, size, pin) in enumerate(facts)]  # fmt: skip
    found = evidence_of(log)
    for each in found:
        assert each.lines == each.with_pin + each.without_pin + each.pin_unknown
        assert max(each.joined_after, each.refused_after) <= each.lines
        assert each.joins_after <= each.joins
    rnd.shuffle(log)
    assert evidence_of(log) == found


def test_what_comes_after_is_of_the_same_address_and_room_within_a_minute() -> None:
    log = [
        answer(0, "203.0.113.7", "a", 61, "1"), answer(60, "203.0.113.7", "a", None, "1"),
        answer(0, "203.0.113.8", "a", 61, "1"), answer(61, "203.0.113.8", "a", None, "1"),
        answer(0, "203.0.113.9", "a", 61, "1"), answer(1, "203.0.113.9", "b", None, "1"),
        answer(0, "203.0.114.1", "a", 61, "1"), answer(5, "203.0.114.1", "a", 45, "1"),
    ]  # fmt: skip
    [first] = [each for each in evidence_of(log) if each.size == 61]
    assert isinstance(first, Evidence)
    assert (first.lines, first.addresses, first.sources, first.rooms) == (4, 4, 2, 1)
    assert (first.joined_after, first.refused_after) == (1, 1)


def v1(each: Answer) -> str:
    assert each.at_ms is not None
    status = "200" if each.size is None else "403"
    return json.dumps(
        {"v": 1, "id": "", "t": f"{each.at_ms / 1_000:.3f}", "ip": str(each.network), "m": "POST", "k": "conference"}
        | {"a": each.room, "s": status, "us": status, "l": str(each.size or 900), "p": each.pin}
    )


def pexapp(each: Answer) -> str:
    assert each.at_ms is not None
    written = datetime.fromtimestamp(each.at_ms / 1_000, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    status = 200 if each.size is None else 403
    request = f"POST /api/client/v2/conferences/{each.room}/request_token HTTP/1.1"
    return f'{each.network} - - [{written}]  "{request}" {status} {each.size or 900} "-" "-" "" "{status}" "0.1"'


def run(*words: str, data: str | None = None) -> str:
    result = CliRunner().invoke(main, ["calibrate", *words], input=data)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("form", "flags"), [(v1, True), (pexapp, False)])
def test_the_command_reads_every_format_and_prints_toml(form: Any, flags: bool, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("\n".join(map(form, joins(flags=flags))) + "\nGET / nonsense\n")
    shown = run(str(log))
    assert "probably pin_prompt: 40 of 40 joins on 4 busy rooms" in shown
    changed = tomllib.loads(shown[shown.index("[receiver]") :])["receiver"]
    assert changed == {"prompt_bytes": sorted([*Receiver().prompt_bytes, PROMPT])}
    found = json.loads(run(str(log), "--json"))
    assert tomllib.loads(found["toml"])["receiver"] == changed == found["receiver"]
    assert (found["refusals"], found["joins"]) == (56, 40)
    [prompt] = [each for each in found["sizes"] if each["size"] == PROMPT]
    assert (prompt["probably"], prompt["add"], prompt["listed"]) == ("pin_prompt", True, None)


def test_it_reads_gzip_and_standard_input(tmp_path: Path) -> None:
    lines = "\n".join(map(v1, joins()))
    (tmp_path / "log.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "log").write_text(lines)
    shown = run(str(tmp_path / "log"))
    assert run(str(tmp_path / "log.gz")) == shown
    done = subprocess.run(
        [program("pinban"), "calibrate", "-"], input=lines, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == shown


def test_an_empty_log_or_garbage_is_said_to_be_so(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)) * 50)
    shown = run(str(garbage))
    assert "no line is of a format that pinban reads" in shown
    assert "0 refusals" in shown


def test_no_word_of_a_client_reaches_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(v1(each._replace(room=f"{each.room}\x1b[2J\u202e")) for each in joins()))
    assert "\x1b" not in run(str(log)) + run(str(log), "--json")
    assert "\u202e" not in run(str(log))


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["calibrate", str(tmp_path / "nowhere")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
