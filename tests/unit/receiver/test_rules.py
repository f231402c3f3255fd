"""The rules: what they are by default, how they are set, which line they count, what a count comes to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pinban.cli import main
from receiver.failures import Counted, Failure, pack, room_of, unpack
from receiver.lines.rulebook import Rulebook
from receiver.verdict import bantime_ms, broken_rule
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.errors import SettingsError
from shared.settings.reading import load
from shared.settings.schema import BUILT_IN, Rule, Settings
from shared.settings.windows import Window
from tests.lab.views import program

A = Network("203.0.113.7")

MINUTE_MS, HOUR_MS, WEEK_MS = 60_000, 3_600_000, 7 * 86_400_000

PIN_LINE = (
    '1.2.3.4 - - [24/Apr/2016:12:39:32 +0000]  "POST /api/client/v2/conferences/pextestpin/request_token HTTP/1.1" '
    '403 56 "-" "python-requests/2.2.1 CPython/2.7.6 Linux/3.13.0-83-generic" "" "403" "4.016"'
)
PIN_REGEX = r'^<HOST> - - \[.*\]  "POST /api/client/v2/conferences/.+/request_token HTTP/1.1" 403 .*$'
SSHD_LINE = "<86>Nov 22 10:00:01 bastion sshd[123]: Failed password for root from 203.0.113.9 port 50022 ssh2"
SSHD_REGEX = r"^\s*\S+ sshd\[\d+\]: Failed password for .* from <HOST> port \d+ ssh2$"


def read(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Settings:
    file = tmp_path / "pinban.toml"
    file.write_text(text, encoding="utf-8")
    return load(str(file), environment or {})


def complaint(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def datagram(**changed: str) -> bytes:
    fields: dict[str, object] = {"v": 1, "id": "i", "ip": A, "m": "POST", "k": "conference", "a": "Meet.Alice"}
    fields |= {"s": "403", "us": "403", "l": "45", "p": "1"} | changed
    return b"<190>Nov 22 14:12:18 pinban: " + msgspec.json.encode(fields)


#: A line for each built-in rule.
LINES = {
    "pin": datagram(),
    "prompt": datagram(p="0", l="73"),
    "scan": datagram(s="404", us="404"),
    "registration": datagram(k="registration", s="401", us="401", c="1"),
}


@pytest.mark.parametrize(
    ("name", "maxretry", "findtime", "bantime", "simulate"),
    [
        ("pin", 5, "5m", "5m", False),
        ("prompt", 60, "5m", "5m", True),
        ("scan", 10, "10m", "10m", False),
        ("registration", 5, "5m", "5m", False),
    ],
)
def test_a_built_in_rule_is_there_by_default(
    tmp_path: Path, name: str, maxretry: int, findtime: str, bantime: str, simulate: bool
) -> None:
    for rule in (BUILT_IN[name], read(tmp_path, "").rules[name]):
        assert (rule.enabled, rule.maxretry, str(rule.findtime), str(rule.bantime), rule.simulate) == (
            True, maxretry, findtime, bantime, simulate,
        )  # fmt: skip
        assert (rule.long_maxretry, rule.bantime_increment, rule.bantime_jitter) == (0, False, 0)
    assert set(BUILT_IN) == set(LINES)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_section_changes_what_it_names_and_leaves_the_rest(tmp_path: Path, name: str) -> None:
    settings = read(tmp_path, f'[rules.{name}]\nmaxretry = 7\nlevels = ["ipv6/48=70"]')
    assert settings.rules[name] == msgspec.structs.replace(BUILT_IN[name], maxretry=7, levels=("ipv6/48=70",))
    assert {n: r for n, r in settings.rules.items() if n != name} == {n: r for n, r in BUILT_IN.items() if n != name}


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_rule_can_be_switched_off_alone(tmp_path: Path, name: str) -> None:
    rulebook = Rulebook(read(tmp_path, f"[rules.{name}]\nenabled = false"))
    assert {n: rulebook.read(line).rule for n, line in LINES.items()} == {n: n if n != name else None for n in LINES}


def test_the_environment_sets_rules_over_the_file(tmp_path: Path) -> None:
    file = f"[rules.scan]\nmaxretry = 20\nbantime = '1h'\n[rules.my-door]\nfailregex = '{SSHD_REGEX}'"
    environment = {
        "PINBAN_RULES_PROMPT_SIMULATE": "false",
        "PINBAN_RULES_SCAN_MAXRETRY": "30",
        "PINBAN_RULES_PIN_LONG_MAXRETRY": "20",
        "PINBAN_RULES_PIN_LONG_FINDTIME": "2d",
        "PINBAN_RULES_PIN_BANTIME_FACTOR": "1.5",
        "PINBAN_RULES_PIN_IGNOREREGEX": "healthcheck",
        "PINBAN_RULES_MY_DOOR_FINDTIME": "1h",
        "PINBAN_ROOMS_HOT_MAXRETRY": "3",
    }
    settings = read(tmp_path, file, environment)
    pin, scan = settings.rules["pin"], settings.rules["scan"]
    assert (scan.maxretry, scan.bantime) == (30, HOUR_MS)
    assert (pin.long_maxretry, str(pin.long_findtime), pin.bantime_factor) == (20, "2d", 1.5)
    assert pin.ignoreregex == "healthcheck"
    assert settings.rules["prompt"].simulate is False
    assert settings.rules["my-door"].findtime == HOUR_MS
    assert settings.rooms.hot_maxretry == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rules.scann]\nmaxretry = 3", ["rules.scann", "failregex", "did you mean rules.scan?"]),
        ("[rules.door]\nmaxretry = 3", ["rules.door", "failregex", "give it one"]),
        ("[rules.door]\nfailregex = '  '", ["rules.door", "give it one"]),
        ("[rules.Door]\nfailregex = '<HOST>'", ["rules.Door", "16 lower-case letters"]),
        (f"[rules.{'d' * 17}]\nfailregex = '<HOST>'", ["16 lower-case letters"]),
        ('[rules."a.long"]\nfailregex = "<HOST>"', ["not a rule's name"]),
        ('[rules."a b"]\nfailregex = "<HOST>"', ["not a rule's name"]),
        ("[rules.pin]\nfailregex = '<HOST>'", ["rules.pin.failregex", "built-in"]),
        ("[rules.pin]\nprefregex = 'x'", ["rules.pin", "built-in"]),
        ("[rules.pin]\nmaxrety = 3", ["rules.pin.maxrety", "did you mean rules.pin.maxretry?"]),
        ("[rules.pin]\nmaxretry = 0", ["rules.pin.maxretry = 0", "from 1 to 1000"]),
        ("[rules.pin]\nlong_maxretry = 1001", ["rules.pin.long_maxretry = 1001", "up to 1000"]),
        ("[rules.pin]\nlong_findtime = '31d'", ["rules.pin.long_findtime = '31d'", "30d"]),
        ("[rules.pin]\nbantime_jitter = '-1s'", ["rules.pin.bantime_jitter = '-1s'", "0s"]),
        ("[rules.pin]\nbantime_maxtime = 1", ["rules.pin.bantime_maxtime = 1", "2s"]),
        ("[rules.pin]\nbantime_factor = inf", ["rules.pin.bantime_factor = inf", "0.01"]),
        ("[rules.pin]\nbantime_factor = nan", ["rules.pin.bantime_factor = nan", "0.01"]),
        ("[rules.pin]\nsimulate = 1", ["rules.pin.simulate = 1", "true or false"]),
        ("[rules]\npin = 3", ["rules.pin", "as a section"]),
        ("rules = 3", ["rules", "as a section"]),
        ("[rooms]\nmost = 0", ["rooms.most = 0", "1000000"]),
        ("[rooms]\nhot_for = '1ms'", ["rooms.hot_for = '1ms'", "1s"]),
        ("[rooms]\nforgive_on_join = 101", ["rooms.forgive_on_join = 101", "takes back"]),
    ],
)
def test_a_bad_rule_is_one_line_with_the_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    said = complaint(tmp_path, text)
    assert said.startswith(str(tmp_path / "pinban.toml"))
    for word in words:
        assert word in said


def test_a_bad_value_of_the_environment_names_its_variable(tmp_path: Path) -> None:
    said = complaint(tmp_path, "", {"PINBAN_RULES_SCAN_MAXRETRY": "many"})
    assert said.startswith("PINBAN_RULES_SCAN_MAXRETRY: rules.scan.maxretry = 'many' is not")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"no address here", ["no address here", "<HOST>"]),
        (r"^(a+)\1 <HOST>$", ["refers back", "write out"]),
        (r"^<HOST> (unclosed", ["unclosed"]),
    ],
)
def test_a_pattern_that_cannot_be_had_stops_the_receivers_start_with_one_line(
    tmp_path: Path, pattern: str, words: list[str]
) -> None:
    file = tmp_path / "pinban.toml"
    file.write_text(f"[rules.door]\nfailregex = '{pattern}'\n")
    done = subprocess.run(
        [program("pinban-receiver"), "-c", str(file)], capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    for word in ("pinban-receiver: ", "rules.door", *words):
        assert word in line


def test_a_bad_ignoreregex_of_a_built_in_rule_is_refused_too() -> None:
    rules = {**BUILT_IN, "scan": msgspec.structs.replace(Rule(), ignoreregex=r"(a)\1")}
    with pytest.raises(SettingsError, match=r"rules\.scan"):
        Rulebook(msgspec.structs.replace(Settings(), rules=rules))


@pytest.mark.parametrize(("name", "field"), [("pin", "meet.alice"), ("scan", "Meet.Alice"), ("registration", "Meet")])
def test_a_line_that_ignoreregex_finds_is_counted_by_nobody(tmp_path: Path, name: str, field: str) -> None:
    text = f"[rules.{name}]\nignoreregex = '''\n  never\n  (?i)\"a\":\"{field}'''"
    rulebook = Rulebook(read(tmp_path, text))
    reading = rulebook.read(LINES[name])
    assert (reading.rule, reading.line.network) == (None, A)
    assert str(reading.line.meaning) == str(Rulebook(Settings()).read(LINES[name]).line.meaning)
    others = {n: line for n, line in LINES.items() if n != name}
    assert {n: rulebook.read(line).rule for n, line in others.items()} == {n: n for n in others}


def test_an_ignoreregex_that_finds_nothing_changes_nothing(tmp_path: Path) -> None:
    rulebook = Rulebook(read(tmp_path, "[rules.pin]\nignoreregex = 'meet.bob'"))
    assert rulebook.read(LINES["pin"]).rule == "pin"


OWN = f"""
[rules.pin]
enabled = false
[rules.recipe]
failregex = '{PIN_REGEX}'
ignoreregex = 'conferences/open'
[rules.sshd]
failregex = '{SSHD_REGEX}'
"""


def test_ones_own_rules_count_what_they_match(tmp_path: Path) -> None:
    rulebook = Rulebook(read(tmp_path, OWN))
    for line, rule, address in (
        (PIN_LINE, "recipe", "1.2.3.4"),
        (f"<190>Nov 22 14:12:18 rp1 nginx: {PIN_LINE}", "recipe", "1.2.3.4"),
        (PIN_LINE.replace("pextestpin", "open"), None, "1.2.3.4"),
        (SSHD_LINE, "sshd", "203.0.113.9"),
        (SSHD_LINE.removeprefix("<86>"), "sshd", "203.0.113.9"),
        (SSHD_LINE.replace("203.0.113.9", "2001:db8:1:2:3::4"), "sshd", "2001:db8:1:2::/64"),
        (SSHD_LINE.replace("sshd", "crond"), None, None),
        (SSHD_LINE.replace("203.0.113.9", "host.example.com"), None, None),
    ):
        reading = rulebook.read(line.encode())
        assert (reading.rule, reading.line.network) == (rule, address), line


def test_explain_tells_which_rule_counts_a_line(tmp_path: Path) -> None:
    config, log = tmp_path / "pinban.toml", tmp_path / "mixed.log"
    config.write_text(OWN)
    log.write_text(f"{PIN_LINE}\n{SSHD_LINE}\nnonsense\n")
    result = CliRunner().invoke(main, ["-c", str(config), "explain", "--json", str(log)])
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [(row["class"], row["address"], row["rule"]) for row in rows] == [
        ("wrong_pin", "1.2.3.4", "recipe"),
        ("other", "203.0.113.9", "sshd"),
        ("malformed", None, None),
    ]
    assert rows[0]["alias"] == "pextestpin"


def test_a_rule_has_a_second_window_only_if_told() -> None:
    assert list(Rule().windows("pin")) == [Window("pin", 5, 5 * MINUTE_MS)]
    assert list(Rule(long_maxretry=20).windows("pin")) == [
        Window("pin", 5, 5 * MINUTE_MS),
        Window("pin.long", 20, 24 * HOUR_MS),
    ]


@pytest.mark.parametrize(("strikes", "expected_ms"), [(0, 300_000), (1, 600_000), (2, 1_200_000), (10, 307_200_000)])
def test_growing_bans_double_with_each_strike(strikes: int, expected_ms: int) -> None:
    assert bantime_ms(Rule(bantime_increment=True), strikes, 0.0) == expected_ms


def test_a_factor_stretches_growing_bans_and_the_maximum_ends_them() -> None:
    rule = Rule(bantime_increment=True, bantime_factor=2.0, bantime_maxtime=Milliseconds(HOUR_MS))
    assert [bantime_ms(rule, strikes, 0.0) for strikes in range(5)] == [600_000, 1_200_000, 2_400_000, HOUR_MS, HOUR_MS]
    assert bantime_ms(Rule(bantime_increment=True), 10**9, 0.0) == WEEK_MS


def test_bans_that_do_not_grow_ignore_strikes_and_factor() -> None:
    assert bantime_ms(Rule(bantime_factor=9.0), 7, 0.0) == 300_000


def test_jitter_lengthens_by_its_share() -> None:
    rule = Rule(bantime_jitter=Milliseconds(MINUTE_MS))
    assert [bantime_ms(rule, 0, chance) for chance in (0.0, 0.5, 1.0)] == [300_000, 330_000, 360_000]


spans = st.integers(2_000, 3_650 * 86_400_000).map(Milliseconds)


@given(
    st.builds(
        Rule,
        bantime=spans,
        bantime_maxtime=spans,
        bantime_increment=st.booleans(),
        bantime_factor=st.floats(0.01, 1_000),
        bantime_jitter=st.integers(0, 30 * 86_400_000).map(Milliseconds),
    ),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_ban_is_ever_longer_than_the_maximum(rule: Rule, strikes: int, chance: float, other: float) -> None:
    length = bantime_ms(rule, strikes, chance)
    assert (
        2_000 <= length <= (rule.bantime_maxtime if rule.bantime_increment else max(rule.bantime, rule.bantime_maxtime))
    )
    assert length >= rule.bantime or rule.bantime_increment
    assert length <= bantime_ms(rule, strikes + 1, max(chance, other))


def evidence(*aliases: str) -> tuple[str, ...]:
    return tuple(f"id{n} rp1 {alias} {n}" for n, alias in enumerate(aliases))


@pytest.mark.parametrize(
    ("aliases", "rule"),
    [
        (("hot", "hot"), "pin.hot"),
        (("hot", "cool", "hot"), "pin.hot"),
        (("hot", "cool", "cool", "cool"), None),
        (("cool", "cool", "cool", "cool"), None),
        (("hot", "warm"), None),  # both hot, one each
        (("hot@example.org", "hot@example.net"), "pin.hot"),  # a node may take all three for one room
        ((), None),
        (("hot", "hot", "hot", "hot", "hot"), "pin"),
    ],
)
def test_the_limit_of_a_hot_room_counts_its_own_failures_only(aliases: tuple[str, ...], rule: str | None) -> None:
    counted = Counted(A, "pin", len(aliases), evidence(*aliases))
    assert broken_rule(counted, Rule(), {"hot", "warm"}, 2) == rule
    if len(aliases) < 5:
        assert broken_rule(counted, Rule(), (), 2) is None


@pytest.mark.parametrize("name", ["prompt", "scan", "door", "pin.long"])
def test_only_wrong_pins_have_a_lower_limit_in_a_hot_room(name: str) -> None:
    counted = Counted(A, name, 4, evidence("hot", "hot", "hot", "hot"))
    assert broken_rule(counted, Rule(long_maxretry=20), {"hot"}, 2) is None


@pytest.mark.parametrize("alias", ["a{b}", "two words", "x" * 200, "tab\t", "\N{PILE OF POO}" * 200])
def test_a_rooms_evidence_and_its_key_are_one_word(alias: str) -> None:
    """Else the room would be hot under one name, and its failures would be listed under another."""
    kept = unpack(pack(Failure(A, "pin", "i", "rp1", alias, 0)))
    assert kept.evidence.split(" ") == ["rp1", kept.alias]
    assert room_of(kept.alias) == kept.alias


@pytest.mark.parametrize(
    ("alias", "room"),
    [
        ("meet", "meet"),
        ("meet@example.org", "meet"),
        ("meet@a@b", "meet"),
        ("@meet", "@meet"),
        ("", ""),
        ("a{b", "a_b"),
    ],
)
def test_a_domain_names_no_other_room(alias: str, room: str) -> None:
    assert room_of(alias) == room


def test_the_long_window_has_a_limit_of_its_own() -> None:
    rule = Rule(maxretry=5, long_maxretry=20)
    assert broken_rule(Counted(A, "pin.long", 19), rule) is None
    assert broken_rule(Counted(A, "pin.long", 20), rule) == "pin.long"
