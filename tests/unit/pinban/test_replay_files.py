"""Old logs as they lie about: rotated, compressed, cut off. What is skipped unread cannot matter."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from pinban.replay import files as replay_files
from pinban.replay.files import LONGEST_LINE, batches
from pinban.replay.lines import surely_other
from pinban.replay.run import run_replay
from receiver.lines.classify import Class, Classifier
from receiver.lines.times import line_time, local_time
from shared.durations import Milliseconds
from shared.errors import PinbanError
from shared.settings.schema import BUILT_IN, Receiver, Rule, Settings
from tests.unit.receiver.test_corpus import cases, datagram_of
from tests.unit.receiver.test_line_formats import TRICKS, default_escape

CLASSIFIER = Classifier(Receiver())
KNOWN = [datagram_of(case) for case in cases()]


def v1(second: float, address: str = "203.0.113.7", *, room: str = "meet.alice", id_: str = "", **fields: str) -> bytes:
    facts = {"s": "403", "us": "403", "l": "45", "p": "1", **fields}
    facts = {"id": id_, "t": f"{1795356738 + second:.3f}", "ip": address, "m": "POST", "a": room, **facts}
    return json.dumps({"v": 1, "k": "conference", **facts}).encode() + b"\n"


def guesses(count: int, address: str = "203.0.113.7", begin: float = 0) -> list[bytes]:
    return [v1(begin + i, address, id_=f"{address}-{begin + i}") for i in range(count)]


def replayed(*files: Path, settings: Settings | None = None) -> dict[str, Any]:
    console = Console(file=io.StringIO(), width=40)
    names = [str(path) for path in files]
    assert run_replay(names, "5", "5m", "5m", None, True, settings or Settings(), console) == 0
    assert isinstance(console.file, io.StringIO)
    found: dict[str, Any] = json.loads(console.file.getvalue())
    return found


def shown(*files: Path) -> str:
    console = Console(file=io.StringIO(), width=120)
    run_replay([str(path) for path in files], None, None, None, None, False, Settings(), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def written(path: Path, lines: list[bytes], *, packed: bool = False) -> Path:
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


targets = st.lists(
    st.sampled_from(
        [
            "/api/client/v2/conferences/", "meet", "/request_token", "/refresh_token", "request%5Ftoken", "%72", "%40",
            "%2e%2e/", "REQUEST_TOKEN", "?request_token", "//", "\\x5Fa", "%", "%4", "request", "_token", "%5f", " ",
            "/state=[FILTERED]",
        ]
    ),
    max_size=8,
).map("".join)  # fmt: skip


@given(
    st.sampled_from(["203.0.113.7", "2001:db8::1", "::ffff:1.2.3.4", "1.2.3", "1.2.3.04", "abc", "cafe::", "::", "a"]),
    st.sampled_from(["-", "bob", "x [22/Nov/2026:14:12:18 +0000]", "", "- x", '"']),
    st.sampled_from(["POST", "GET", "post", "POS", "\\x50OST", "P\\x4FST", ""]),
    targets,
    st.sampled_from([" HTTP/1.1", "", " HTTP/2.0"]),
    st.sampled_from(["403 45", "200 900", "404 -", "20 5", "403 -1", "499 0"]),
    st.sampled_from(['"-" "x"', '"-" "x" "" "403" "0.1"', '"-"', '"-" "x" "y"', '"-" "x" junk', '"-" "x" ', "'a'"]),
)
@example("203.0.113.7", "-", "POST", "/api/client/v2/conferences/m/request%5Ftoken", " HTTP/1.1", "403 45", '"-" "x"')
def test_a_line_that_is_skipped_surely_means_other(
    address: str, user: str, method: str, target: str, version: str, numbers: str, rest: str
) -> None:
    line = f'{address} - {user} [22/Nov/2026:14:12:18 +0000]  "{method} {target}{version}" {numbers} {rest}'.encode()
    local = surely_other(line)
    if local is not None:
        assert CLASSIFIER.classify(line).meaning is Class.OTHER
        assert local_time(local) == line_time(line)


@given(st.sampled_from(KNOWN), st.data())
def test_no_damage_to_a_line_makes_skipping_it_wrong(line: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(at, len(line)))
    piece = data.draw(st.sampled_from(TRICKS) | st.binary(max_size=20).map(default_escape))
    damaged = line[:at] + piece + line[end:]
    if surely_other(damaged) is not None:
        assert CLASSIFIER.classify(damaged).meaning is Class.OTHER


def test_what_most_lines_of_a_log_are_is_skipped() -> None:
    for request in (
        "GET /webapp/ HTTP/2.0",
        "POST /api/client/v2/conferences/a%40example.com/refresh_token HTTP/1.1",
        "GET /api/client/v2/conferences/a/request_token HTTP/1.1",
    ):
        line = f'203.0.113.7 - - [22/Nov/2026:14:12:18 +0000]  "{request}" 200 5 "-" "-" "" "200" "0.1"\r'
        assert surely_other(line.encode()) is not None


def test_files_in_any_order_and_lines_out_of_order_are_one_log(tmp_path: Path) -> None:
    lines = guesses(7) + guesses(4, "203.0.113.8") + guesses(40, "2001:db8::1", 100)
    whole = replayed(written(tmp_path / "whole", lines))
    random.Random(1).shuffle(lines)
    parts = [written(tmp_path / f"part{i}", lines[i::3], packed=i == 1) for i in range(3)]
    assert replayed(*parts) == whole
    assert [row["bans"] for row in whole["grid"]] == [2]


def test_the_hosts_of_one_ipv6_network_are_one_guesser(tmp_path: Path) -> None:
    lines = [v1(i, f"2001:db8:1:2::{i}") for i in range(1, 6)]
    log = written(tmp_path / "log", lines)
    [tried] = replayed(log)["top"]
    assert (tried["network"], tried["failures"]) == ("2001:db8:1:2::/64", 5)
    assert replayed(log, settings=Settings(ipv6_prefix=128))["grid"][0]["bans"] == 0


def test_the_morning_rush_of_an_office_bans_nobody(tmp_path: Path) -> None:
    lines = [v1(i, p="0", l="73") for i in range(30)] + [v1(i * 3) for i in range(3)]
    lines += [v1(i + 5, s="200", us="200", l="900") for i in range(30)]
    found = replayed(written(tmp_path / "log", lines))
    assert found["classes"] == {"pin_prompt": 30, "joined": 30, "wrong_pin": 3}
    assert found["grid"][0]["bans"] == 0
    assert (found["top"][0]["failures"], found["top"][0]["joins"]) == (3, 30)


def test_a_line_written_to_two_logs_counts_once(tmp_path: Path) -> None:
    lines = guesses(4)
    found = replayed(written(tmp_path / "a", lines), written(tmp_path / "b", lines))
    assert (found["failures"], found["repeated"], found["grid"][0]["bans"]) == (4, 4, 0)


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    log = written(tmp_path / "log", guesses(4))
    (tmp_path / "link").symlink_to(log)
    found = replayed(log, tmp_path / "link")
    assert (found["lines"], found["repeated"]) == (4, 0)
    assert found["notes"] == [f"{tmp_path}/link: named twice, read once"]


def test_ignored_addresses_are_left_out_and_counted(tmp_path: Path) -> None:
    log = written(tmp_path / "log", guesses(9) + guesses(9, "198.51.100.7"))
    found = replayed(log, settings=Settings(ignoreip=("198.51.100.0/24", "office.example.com")))
    assert (found["ignored"], found["failures"], found["grid"][0]["addresses"]) == (9, 9, 1)
    assert "office.example.com" in found["notes"][0]


def test_what_the_rule_does_not_count_is_left_out_and_a_rule_that_is_off_is_replayed(tmp_path: Path) -> None:
    log = written(tmp_path / "log", guesses(6) + [v1(i, room="lobby") for i in range(3)])
    rules = {**BUILT_IN, "pin": Rule(enabled=False, ignoreregex='"lobby"', findtime=Milliseconds(60_000))}
    found = replayed(log, settings=Settings(rules=rules))
    assert (found["failures"], found["ignored"], found["grid"][0]["bans"]) == (6, 3, 1)


def test_lines_without_a_time_are_left_out_and_counted(tmp_path: Path) -> None:
    found = replayed(written(tmp_path / "log", [*guesses(4), v1(0, t="soon")]))
    assert (found["untimed"], found["failures"]) == (1, 4)


def test_the_span_is_that_of_all_lines_whatever_their_order(tmp_path: Path) -> None:
    page = b'203.0.113.7 - - [22/Nov/2026:%s +0100] "GET / HTTP/1.1" 200 5 "-" "-"\n'
    found = replayed(written(tmp_path / "log", [page % b"10:00:00", *guesses(1), page % b"09:00:00"]))
    assert (found["from"], found["until"]) == ("2026-11-22T08:00:00.000+00:00", "2026-11-22T14:12:18.000+00:00")
    assert found["classes"] == {"other": 2, "wrong_pin": 1}


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log.1"
    log.write_bytes(gzip.compress(b"".join(guesses(3))) + gzip.compress(b"".join(guesses(3, begin=3))))
    assert replayed(log)["failures"] == 6


def noisy(count: int) -> list[bytes]:
    """Lines that do not compress away."""
    rnd = random.Random(2)
    return [v1(i, id_=rnd.randbytes(16).hex()) for i in range(count)]


def test_of_a_truncated_gzip_file_everything_before_the_end_counts(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(noisy(20_000)))
    (tmp_path / "log").write_bytes(packed[: len(packed) // 2])
    found = replayed(tmp_path / "log")
    assert 9_000 < found["lines"] < 11_000
    assert found["notes"] == [f"{tmp_path}/log: the gzip file ends too early; what could be unpacked was read"]


def test_of_a_damaged_gzip_file_everything_before_the_damage_counts(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"".join(noisy(20_000))))
    packed[len(packed) // 2 :] = b"\xff" * 1_000
    (tmp_path / "log").write_bytes(packed)
    found = replayed(tmp_path / "log")
    assert 9_000 < found["lines"] < 11_000
    assert "damaged" in found["notes"][0]


@given(st.binary(max_size=2_000))
def test_garbage_is_read_and_said_to_be_garbage(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "log"
    path.write_bytes(garbage)
    found = replayed(path)
    assert found["lines"] == sum(found["classes"].values())
    assert found["notes"] or found["lines"] > found["classes"].get("malformed", 0)


def test_garbage_beside_a_log_does_not_hide_it(tmp_path: Path) -> None:
    garbage = written(tmp_path / "garbage", [b"\x00\xff\n" * 1_000])
    found = replayed(garbage, written(tmp_path / "log", guesses(6)))
    assert (found["classes"]["malformed"], found["grid"][0]["bans"]) == (1_000, 1)
    assert found["notes"] == [f"{garbage}: no line is of a format that pinban reads; see what `pinban explain` says"]


def test_an_empty_log_is_said_to_be_empty(tmp_path: Path) -> None:
    empty = written(tmp_path / "empty", [])
    found = replayed(empty)
    assert (found["lines"], found["from"], found["notes"]) == (0, None, [f"{empty}: is empty"])
    assert shown(empty) == f"no line to read\n! {empty}: is empty\n"


def test_a_line_without_end_takes_no_more_memory_than_a_long_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (3 * replay_files.CHUNK) + b"\n" + b"".join(guesses(6)))
    read: list[bytes] = [line for batch in batches(str(log), lambda _: None, lambda _: None) for line in batch]
    assert len(read) == 7
    assert len(read[0]) <= LONGEST_LINE + replay_files.CHUNK
    assert replayed(log)["grid"][0]["bans"] == 1


@given(st.lists(st.binary(max_size=12).filter(lambda b: b"\n" not in b), max_size=12), st.integers(1, 9))
def test_lines_are_whole_however_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "log"
    path.write_bytes(b"".join(b"l" + line + b"\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_files, "CHUNK", size)
        read = [line for batch in batches(str(path), lambda _: None, lambda _: None) for line in batch]
    assert read == [b"l" + line for line in lines]


def test_progress_is_told_in_bytes_of_the_compressed_file(tmp_path: Path) -> None:
    for packed in (False, True):
        log = written(tmp_path / f"log{packed}", noisy(1_000), packed=packed)
        told: list[int] = []
        for _ in batches(str(log), told.append, lambda _: None):
            pass
        assert sum(told) == log.stat().st_size


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=written, args=(pipe, guesses(6)), kwargs={"packed": True})
    writer.start()
    found = replayed(pipe)
    writer.join()
    assert found["failures"] == 6


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        path = tmp_path / "secret"
        path.touch(0)
        yield path
    else:  # root may read everything
        yield tmp_path / "nowhere"


def test_a_file_that_cannot_be_read_is_told_before_any_other_is(tmp_path: Path, unreadable: Path) -> None:
    for bad in (unreadable, tmp_path):
        with pytest.raises(PinbanError, match=str(bad)) as caught:
            replayed(written(tmp_path / "log", guesses(1)), bad)
        assert "\n" not in str(caught.value)


def test_the_room_names_of_a_guesser_do_nothing_to_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[2jmeet\u202e[bold]\r\nfake line"
    output = shown(written(tmp_path / "log", [v1(i, room=hostile) for i in range(6)]))
    assert "_[2jmeet_[bold]__fake line" in output
    assert not set(output) - {"\n"} & set(map(chr, range(32)))


def test_the_table_marks_the_limits_in_force_and_who_is_hit(tmp_path: Path) -> None:
    person = [*guesses(6), v1(9, s="200", us="200")]
    guesser = [*guesses(200, "203.0.113.9"), v1(300, "203.0.113.9", s="200", us="200")]
    output = shown(written(tmp_path / "log", person + guesser))
    [current] = [line for line in output.splitlines() if line.endswith("<- now")]
    assert current.split()[:5] == ["5", "5m", "2", "2", "1"]
    assert current.split()[-3:] == ["1", "<-", "now"]
    seems = {line.split()[0]: line for line in output.splitlines() if line.startswith("203.0.113.")}
    assert "guessed a PIN?" in seems["203.0.113.9"]
    assert "likely innocent" in seems["203.0.113.7"]
    assert "208 lines: 206 wrong_pin, 2 joined" in output
