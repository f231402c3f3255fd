"""fail2ban's jails become rules of pinban, and a note names each thing that is lost."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinban.fail2ban.files import Config, with_options, with_tags
from pinban.fail2ban.jail_import import Imported, import_jails, summary
from pinban.fail2ban.values import duration, network_of, ports_of, seconds_of, toml_key, toml_lines, toml_text
from receiver.failregex.filter import Found, compile_filter, patterns_of
from shared.errors import SettingsError
from shared.settings.reading import load

SAMPLES = Path(__file__).parent / "fail2ban"


@pytest.fixture(scope="module")
def imported() -> Imported:
    return import_jails([SAMPLES / "jail.local"], [])


@pytest.fixture(scope="module")
def settings(imported: Imported) -> dict[str, Any]:
    return tomllib.loads(imported.toml)


def one_jail(folder: Path, options: str, pattern: str = "^x <HOST>$", top: str = "") -> Imported:
    (folder / "jail.local").write_text(f"{top}\n[one]\nenabled = true\nport = 443\n{options}\n", encoding="utf-8")
    (folder / "one.conf").write_text(f"[Definition]\nfailregex = {pattern}\n", encoding="utf-8")
    return import_jails([folder / "jail.local"], [folder / "one.conf"])


def noted(result: Imported, *words: str) -> bool:
    return any(all(word in note for word in words) for note in result.notes)


def test_the_jail_that_sees_pins_becomes_the_built_in_rule(imported: Imported, settings: dict[str, Any]) -> None:
    assert settings["rules"]["pin"] == {"maxretry": 10, "findtime": "5m", "bantime": "36h"}
    assert noted(imported, "[pexip]", "[rules.pin]")


def test_a_filter_is_written_out_as_the_jail_has_it(settings: dict[str, Any]) -> None:
    door = settings["rules"]["door"]
    found = compile_filter(patterns_of(door["failregex"]), patterns_of(door["ignoreregex"]), door["prefregex"].strip())
    begin = "Nov 22 10:00:01 host doord[7]: "
    assert found.match(begin + "bad word for unknown guest bob at 203.0.113.7") == Found(
        "203.0.113.7", "bob", nofail=False
    )
    assert found.match(begin + "bad word for guest bob at 203.0.113.7: gone") == Found(
        "203.0.113.7", "bob", nofail=False
    )
    assert found.match(begin + "bad badge for guest bob at 203.0.113.7: gone") is None
    assert found.match(begin + "bad word for unknown guest b at 192.0.2.1") is None
    assert found.match("Nov 22 10:00:01 host other[7]: bad word for guest b at 203.0.113.7: x") is None
    assert (door["bantime"], door["bantime_increment"], door["bantime_factor"]) == ("3650d", True, 2)
    assert door["bantime_maxtime"] == "35d"


def test_a_jail_may_add_to_its_filter_and_set_its_parameters(settings: dict[str, Any]) -> None:
    strict = settings["rules"]["door-strict"]
    lines = patterns_of(strict["failregex"])
    assert lines[0].startswith("^wrong ")
    assert "^no word from <ADDR>" in lines
    assert lines[-1] == "^knocked too often: <ADDR>$"
    assert strict["maxretry"] == 1


@pytest.mark.parametrize(("backend", "begins"), [("systemd", "^in the journal:"), ("polling", "^in a file:")])
def test_a_filter_expects_what_the_log_of_the_jail_looks_like(tmp_path: Path, backend: str, begins: str) -> None:
    """As fail2ban's common.conf does, whose lines begin otherwise in systemd's journal."""
    sections = "[lt_file]\nbegins = ^in a file:\n[lt_journal]\nbegins = ^in the journal:"
    result = one_jail(tmp_path, f"backend = {backend}", f"<lt_<logtype>/begins> x <HOST>$\n{sections}")
    assert tomllib.loads(result.toml)["rules"]["one"]["failregex"].strip() == f"{begins} x <HOST>$"


def test_a_pattern_that_is_refused_stays_as_a_comment_with_the_reason(
    imported: Imported, settings: dict[str, Any]
) -> None:
    assert "echo" not in settings["rules"]
    assert "# [rules.echo]" in imported.toml
    assert noted(imported, "[echo]", "comment", "refers back")


def test_addresses_ports_and_chains_are_the_enforcers(imported: Imported, settings: dict[str, Any]) -> None:
    assert settings["ignoreip"] == ["127.0.0.0/8", "::1", "10.44.0.0/16", "gateway.example.org"]
    assert settings["enforcer"] == {"ports": [22, 80, 443], "protocol": "tcp"}
    assert noted(imported, "port and protocol differ")


@pytest.mark.parametrize(
    "words",
    [
        ("action (", "kernel"),
        ("logpath", "syslog"),
        ("backend", "syslog"),
        ("bantime.formula", "doubling"),
        ("bantime = -1", "3650d"),
        ("journalmatch", "not the journal"),
        ("datepattern", "dates"),
        ("not enabled", "asleep"),
        ("house_ban", "only other options"),
        ("10.44.0.9/16", "10.44.0.0/16"),
    ],
)
def test_what_has_no_counterpart_is_told(imported: Imported, words: tuple[str, ...]) -> None:
    assert noted(imported, *words)


def test_a_jail_that_mails_makes_pinban_mail(tmp_path: Path) -> None:
    top = "[DEFAULT]\ndestemail = noc@example.org, abuse@example.org\nsender = f2b@example.org"
    result = one_jail(tmp_path, "action = %(action_mwl)s", top=top)
    (tmp_path / "pinban.toml").write_text(result.toml, encoding="utf-8")
    mail = load(str(tmp_path / "pinban.toml"), {}).mail
    assert (mail.to, mail.sender) == (("noc@example.org", "abuse@example.org"), "f2b@example.org")


@pytest.mark.parametrize("action", ["", "action = %(action_)s", "action = iptables[name=mailbox]"])
def test_a_jail_that_does_not_mail_makes_no_mail(tmp_path: Path, action: str) -> None:
    result = one_jail(tmp_path, action, top="[DEFAULT]\ndestemail = noc@example.org")
    assert "mail" not in tomllib.loads(result.toml)


def test_a_jail_that_mails_nobody_is_told(tmp_path: Path) -> None:
    result = one_jail(tmp_path, "action = sendmail-whois[name=x]\ndestemail = root")
    assert "mail" not in tomllib.loads(result.toml)
    assert noted(result, "destemail", "nobody is told")


def test_a_forgotten_header_is_forgiven_and_told() -> None:
    filters = SAMPLES / "filter.d"
    result = import_jails([SAMPLES / "jail.local"], [filters / "headerless.conf"])
    assert not noted(result, "header is missing")  # no jail uses it
    (jail := Config()).read(filters / "headerless.conf")
    assert jail.sections["INCLUDES"]["before"] == "common.conf"
    assert "begin_plain" in jail.sections
    assert any("header is missing" in note for note in jail.notes)


def test_a_headerless_recipe_is_still_the_pin_rule(tmp_path: Path) -> None:
    recipe = (SAMPLES / "filter.d" / "headerless.conf").read_text(encoding="utf-8")
    (tmp_path / "jail.local").write_text("[p]\nenabled = true\nfilter = mine\nport = https\n", encoding="utf-8")
    (tmp_path / "mine.conf").write_text(recipe, encoding="utf-8")
    result = import_jails([tmp_path / "jail.local"], [tmp_path / "mine.conf"])
    assert "pin" in tomllib.loads(result.toml)["rules"]
    assert noted(result, "header is missing")
    assert noted(result, "common.conf does not exist")


def test_jail_conf_beside_a_jail_local_is_read_first(tmp_path: Path) -> None:
    (tmp_path / "jail.conf").write_text("[DEFAULT]\nmaxretry = 7\nfindtime = 2m\n[one]\nport = 80\n", encoding="utf-8")
    rule = tomllib.loads(one_jail(tmp_path, "findtime = 1m").toml)["rules"]["one"]
    assert rule == {"maxretry": 7, "findtime": "1m", "bantime": "10m", "failregex": "^x <HOST>$\n"}


def test_values_out_of_range_are_the_nearest_and_told(tmp_path: Path) -> None:
    result = one_jail(tmp_path, "maxretry = 5000\nfindtime = 2y\nbantime = 1\nbantime.increment=on\nbantime.factor=a*b")
    rule = tomllib.loads(result.toml)["rules"]["one"]
    assert (rule["maxretry"], rule["findtime"], rule["bantime"]) == (1000, "30d", "2s")
    assert noted(result, "maxretry = 5000")
    assert noted(result, "findtime = 2y")
    assert noted(result, "bantime.factor = a*b")


def test_growing_bans_are_imported_whole(tmp_path: Path) -> None:
    growing = "bantime.increment = true\nbantime.factor = 5000\nbantime.maxtime = 1d\nbantime.rndtime = 60"
    rule = tomllib.loads(one_jail(tmp_path, growing).toml)["rules"]["one"]
    assert (rule["bantime_factor"], rule["bantime_maxtime"], rule["bantime_jitter"]) == (1000, "1d", "1m")
    assert noted(one_jail(tmp_path, "bantime.factor = 2"), "bantime.increment is off")


def test_what_is_written_are_settings_of_ours(imported: Imported, tmp_path: Path) -> None:
    (tmp_path / "pinban.toml").write_text(imported.toml, encoding="utf-8")
    assert {"pin", "door", "door-strict"} <= set(load(str(tmp_path / "pinban.toml"), {}).rules)


def test_a_jail_with_a_built_in_rules_name_is_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text("[Definition]\nfailregex = ^x <HOST>$\n", encoding="utf-8")
    (tmp_path / "jail.local").write_text("[scan]\nenabled=1\nfilter=one\nport=80\n", encoding="utf-8")
    result = import_jails([tmp_path / "jail.local"], [tmp_path / "one.conf"])
    assert set(tomllib.loads(result.toml)["rules"]) == {"scan-2"}
    assert noted(result, "[scan]", "scan-2")


def test_odd_names_and_quotes_are_still_toml(tmp_path: Path) -> None:
    result = one_jail(tmp_path, "", pattern="^'''x''' \\d \"<HOST>'$")
    assert patterns_of(tomllib.loads(result.toml)["rules"]["one"]["failregex"]) == ["^'''x''' \\d \"<HOST>'$"]
    (tmp_path / "jail.local").write_text("[a b/ü]\nenabled=1\nfilter=one\nport=1:65535\n", encoding="utf-8")
    odd = import_jails([tmp_path / "jail.local"], [tmp_path / "one.conf"])
    assert "a-b--" in tomllib.loads(odd.toml)["rules"]
    assert tomllib.loads(odd.toml)["enforcer"]["ports"] == "all"


def test_a_ban_may_last_for_ever_and_a_findtime_may_not(tmp_path: Path) -> None:
    result = one_jail(tmp_path, "findtime = -1\nbantime = -1")
    rule = tomllib.loads(result.toml)["rules"]["one"]
    assert (rule["bantime"], "findtime" in rule) == ("3650d", False)
    assert noted(result, "bantime = -1", "for ever")
    assert noted(result, "findtime = -1")
    assert not noted(result, "findtime = -1", "for ever")


def test_a_filter_that_is_missing_is_told(tmp_path: Path) -> None:
    result = one_jail(tmp_path, "filter = another")
    assert "rules" not in tomllib.loads(result.toml)
    assert noted(result, "[one]", "another.conf")


def test_a_reference_to_nothing_costs_its_jail_only(tmp_path: Path) -> None:
    assert noted(one_jail(tmp_path, "", pattern="%(nothing)s <HOST>"), "cannot be imported", "%(nothing)s")
    assert noted(one_jail(tmp_path, "", pattern="<loop>\nloop = <loop>"), "cannot be imported", "itself")
    assert noted(one_jail(tmp_path, "maxretry = %(maxretry)s"), "cannot be imported", "itself")


def test_a_banaction_of_a_jail_conf_that_is_not_at_hand_does_no_harm(tmp_path: Path) -> None:
    result = one_jail(tmp_path, "banaction = %(banaction_allports)s\nprotocol = udp")
    assert tomllib.loads(result.toml)["enforcer"] == {"ports": [443], "protocol": "udp"}
    assert noted(result, "banaction is left out", "banaction_allports")


def test_what_one_rule_of_the_firewall_cannot_say_closes_every_port(tmp_path: Path) -> None:
    for options in ("protocol = icmp", "banaction = iptables-allports", "protocol = tcp,udp"):
        result = one_jail(tmp_path, options)
        assert tomllib.loads(result.toml)["enforcer"]["ports"] == "all", options


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        import_jails([tmp_path / "none.local"], [])
    (tmp_path / "bad.local").write_text("[one\n=", encoding="utf-8")
    with pytest.raises(SettingsError, match="no configuration file"):
        import_jails([tmp_path / "bad.local"], [])


def test_a_pattern_that_sees_every_refusal_stays_a_rule_of_its_own(tmp_path: Path) -> None:
    result = one_jail(tmp_path, "", pattern='^<HOST> .*" 403 ')
    assert "one" in tomllib.loads(result.toml)["rules"]
    assert noted(result, "[rules.pin] counts those too")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600", 600), ("10m", 600), ("1d 12h", 129_600), ("1h30min", 5_400), ("1h+30m", 5_400), ("2 weeks", 1_209_600),
     ("1mo", 2_629_800), ("1y", 31_557_600), ("-1", None), ("soon", None), ("", None), ("0.5h", 1_800)],
)  # fmt: skip
def test_lengths_of_time_are_read_as_fail2ban_reads_them(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


@given(st.integers(1, 10**9))
def test_a_length_of_time_is_written_exactly(seconds: int) -> None:
    assert seconds_of(duration(seconds)) == seconds


def test_ports_are_numbers_names_and_ranges() -> None:
    assert ports_of("http,https 8443 5060:5061") == (frozenset({80, 443, 8443, 5060, 5061}), None)
    assert ports_of("0:65535") == (frozenset(), "")
    assert ports_of("no-such-port")[1] == "'no-such-port' is not a port that this host knows"


def test_options_of_a_filter_may_be_quoted() -> None:
    assert with_options("""a[x=1, y="b, c"][z='d']""") == ("a", {"x": "1", "y": "b, c", "z": "d"})
    assert with_options("a") == ("a", {})
    with pytest.raises(SettingsError):
        with_options("a[x")


def test_tags_are_resolved_from_the_inside() -> None:
    known = {"mode": "x", "is-x": "<deep>", "deep": "found"}
    assert with_tags("<is-<mode>> <HOST> <other> <F-USER>", known.get) == "found <HOST> <other> <F-USER>"


def test_networks_lose_their_host_bits() -> None:
    assert network_of("10.44.0.9/16") == "10.44.0.0/16"
    assert network_of("10.0.0.1/255.0.0.0") == "10.0.0.0/8"
    assert network_of("[2001:db8::1]") == "2001:db8::1"
    assert network_of("example.org") is None


@given(st.text(), st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))))
def test_every_text_survives_toml(key: str, lines: list[str]) -> None:
    written = f"{toml_key(key)} = {toml_text(key)}\nlines = {toml_lines(lines)}\n"
    if key != "lines":
        read = tomllib.loads(written)
        assert read[key] == key
        assert read["lines"].strip("\n") == "\n".join(lines).strip("\n")


def test_notes_can_stand_above_the_settings(imported: Imported) -> None:
    assert tomllib.loads(summary(imported.notes) + imported.toml) == tomllib.loads(imported.toml)
