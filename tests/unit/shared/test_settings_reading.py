"""Settings from file and environment, and the one line that says what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Struct, structs

from shared.addresses import Network
from shared.durations import Milliseconds
from shared.errors import SettingsError
from shared.settings.declared import declared
from shared.settings.environment import variable_of
from shared.settings.levels import Level
from shared.settings.reading import load, password_of
from shared.settings.schema import BUILT_IN, Rule, Settings
from shared.settings.texts import Endpoint, parse_endpoint
from shared.store.connection import connect, shown_url

FULL = """
ignoreip = ["10.0.0.0/8"]
ignoreself = false
ipv6_prefix = 56
state_dir = "/srv/pinban"
[redis]
url = "rediss://redis.example.com:6380/2"
prefix = "pb"
username = "pinban"
[receiver]
node = "rx2"
listen = ["udp:0.0.0.0:5514", "unix:/run/pinban/log.sock", "udp:[::]:5514"]
senders = ["10.0.0.0/24", "2001:db8::/64"]
workers = 4
[enforcer]
node = "rp7"
backend = "dry-run"
chains = ["INPUT", "DOCKER-USER"]
ports = "all"
protocol = "all"
[rules.pin]
maxretry = 8
findtime = "10m"
bantime = 3600
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "pinban.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def complaint(path: str | None, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path, environment or {})
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, ""), {}) == Settings()


def test_every_section_is_read(tmp_path: Path) -> None:
    settings = load(written(tmp_path, FULL), {})
    assert settings.ignoreip == ("10.0.0.0/8",)
    assert settings.ignoreself is False
    assert settings.redis.prefix == "pb"
    assert settings.receiver.listen[1] == "unix:/run/pinban/log.sock"
    assert settings.enforcer.ports == "all"
    assert (settings.rules["pin"].maxretry, settings.rules["pin"].findtime, settings.rules["pin"].bantime) == (
        8,
        600_000,
        3_600_000,
    )


def values(section: Struct, prefix: str = "") -> dict[str, object]:
    """By dotted key, what a section holds, without the rules."""
    found: dict[str, object] = {}
    for name, value in structs.asdict(section).items():
        if isinstance(value, Struct):
            found |= values(value, f"{prefix}{name}.")
        elif not isinstance(value, dict):
            found[prefix + name] = value
    return found


def as_written(value: object) -> object:
    """A value as TOML has it."""
    if isinstance(value, Milliseconds):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("rule", [*BUILT_IN.values(), Rule()])
def test_every_default_is_what_its_declaration_allows(rule: Rule) -> None:
    defaults = values(Settings()) | values(rule, "rules.NAME.")
    keys = declared()
    assert defaults.keys() == keys.keys()
    for key, default in defaults.items():
        converted = keys[key].convert(as_written(default))
        keys[key].check(converted)
        assert (converted, type(converted)) == (default, type(default)), key


@pytest.mark.parametrize("key", [key for key, value in (values(Settings()) | values(Rule(), "rules.NAME.")).items()
                                 if isinstance(value, Milliseconds)])  # fmt: skip
def test_every_length_of_time_has_limits(key: str) -> None:
    for written in ("3651d", "0.1", "-1"):
        with pytest.raises(ValueError, match=r"no(t a)? length of time"):
            declared()[key].convert(written)


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("PINBAN_REDIS_URL", "redis://10.0.0.5:6379/0", "redis.url", "redis://10.0.0.5:6379/0"),
        ("PINBAN_REDIS_URL", '"redis://10.0.0.5:6379/0"', "redis.url", "redis://10.0.0.5:6379/0"),
        ("PINBAN_REDIS_USERNAME", "1234", "redis.username", "1234"),
        ("PINBAN_RECEIVER_NODE", "rx9", "receiver.node", "rx9"),
        ("PINBAN_RECEIVER_NODE", "1", "receiver.node", "1"),
        ("PINBAN_RECEIVER_NODE", "true", "receiver.node", "true"),
        ("PINBAN_ENFORCER_CHAINS", "12", "enforcer.chains", ("12",)),
        ("PINBAN_RECEIVER_WORKERS", "3", "receiver.workers", 3),
        ("PINBAN_RECEIVER_WRONG_PIN_BYTES", "45", "receiver.wrong_pin_bytes", (45,)),
        ("PINBAN_RECEIVER_WRONG_PIN_BYTES", "45, 56", "receiver.wrong_pin_bytes", (45, 56)),
        ("PINBAN_RECEIVER_WRONG_PIN_BYTES", "[45, 56]", "receiver.wrong_pin_bytes", (45, 56)),
        ("PINBAN_RECEIVER_LISTEN", "udp:0.0.0.0:1", "receiver.listen", ("udp:0.0.0.0:1",)),
        ("PINBAN_RECEIVER_LISTEN", "udp:0.0.0.0:1,unix:/x", "receiver.listen", ("udp:0.0.0.0:1", "unix:/x")),
        ("PINBAN_RECEIVER_SENDERS", "", "receiver.senders", ()),
        ("PINBAN_IGNOREIP", "::1, 10.0.0.0/8", "ignoreip", ("::1", "10.0.0.0/8")),
        ("PINBAN_IGNOREIP", '["::1"]', "ignoreip", ("::1",)),
        ("PINBAN_IGNOREIP", "rp1.example.org, '10.1.0.0/16'", "ignoreip", ("rp1.example.org", "10.1.0.0/16")),
        ("PINBAN_IGNORESELF", "false", "ignoreself", False),
        ("PINBAN_ENFORCER_PORTS", "443", "enforcer.ports", (443,)),
        ("PINBAN_ENFORCER_PORTS", "80,443", "enforcer.ports", (80, 443)),
        ("PINBAN_ENFORCER_PORTS", "all", "enforcer.ports", "all"),
        ("PINBAN_ENFORCER_PORTS", '"all"', "enforcer.ports", "all"),
        ("PINBAN_ENFORCER_BACKEND", "dry-run", "enforcer.backend", "dry-run"),
        ("PINBAN_RULES_PIN_MAXRETRY", "9", "rules.pin.maxretry", 9),
        ("PINBAN_RULES_PIN_BANTIME", "1h30m", "rules.pin.bantime", 5_400_000),
        ("PINBAN_RULES_PIN_BANTIME", "90", "rules.pin.bantime", 90_000),
    ],
)
def test_the_environment_stands_over_the_file(
    tmp_path: Path, variable: str, text: str, key: str, value: object
) -> None:
    found: object = load(written(tmp_path, FULL.replace('protocol = "all"', "")), {variable: text})
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("text", "key", "value", "remedy"),
    [
        ('ignoreip = "10.0.0.1"', "ignoreip", "'10.0.0.1'", "a list of addresses"),
        ('ignoreip = ["no host"]', "ignoreip", "'no host'", "CIDR"),
        ('ignoreip = ["10.0.0.1/8"]', "ignoreip", "'10.0.0.1/8'", "host bits"),
        ('ignoreip = ["fe80::1%eth0"]', "ignoreip", "'fe80::1%eth0'", "without it"),
        ("ignoreself = 1", "ignoreself", "1", "true or false"),
        ("ipv6_prefix = 129", "ipv6_prefix", "129", "32 to 128"),
        ('state_dir = ""', "state_dir", "''", "a folder"),
        ("redis.url = 5", "redis.url", "5", "redis://HOST"),
        ('redis.url = "http://x"', "redis.url", "'http://x'", "redis://HOST"),
        ('redis.prefix = "a b"', "redis.prefix", "'a b'", "32 letters"),
        ('receiver.node = "a b"', "receiver.node", "'a b'", "a name"),
        ("receiver.listen = []", "receiver.listen", "[]", "unix:/PATH"),
        ('receiver.listen = ["tcp:1.2.3.4:5"]', "receiver.listen", "tcp:1.2.3.4:5", "udp:ADDRESS:PORT"),
        ('receiver.listen = ["udp:1.2.3.4:0"]', "receiver.listen", "udp:1.2.3.4:0", "udp:ADDRESS:PORT"),
        ('receiver.listen = ["udp:::1:5514"]', "receiver.listen", "udp:::1:5514", "udp:ADDRESS:PORT"),
        ('receiver.senders = ["10.0.0.0/33"]', "receiver.senders", "'10.0.0.0/33'", "CIDR"),
        ("receiver.receive_buffer = 1", "receiver.receive_buffer", "1", "4096"),
        ('receiver.http = "8514"', "receiver.http", "'8514'", "ADDRESS:PORT"),
        ("receiver.workers = 0", "receiver.workers", "0", "1 to 16"),
        ("receiver.workers = 2.5", "receiver.workers", "2.5", "1 to 16"),
        ('receiver.wrong_pin_bytes = ["45"]', "receiver.wrong_pin_bytes", "'45'", "sizes"),
        ("receiver.refused_otherwise_bytes = [-5]", "receiver.refused_otherwise_bytes", "[-5]", "sizes"),
        ('enforcer.backend = "pf"', "enforcer.backend", "'pf'", "dry-run"),
        ("enforcer.ports = [0]", "enforcer.ports", "[0]", '"all"'),
        ('enforcer.ports = "http"', "enforcer.ports", "'http'", '"all"'),
        ('enforcer.protocol = "all"', "enforcer.protocol", '"all"', 'ports = "all"'),
        ('enforcer.action = "tarpit"', "enforcer.action", "'tarpit'", '"reject"'),
        ('enforcer.backend = "nft"', "enforcer.backend", "'nft'", "nftables"),
        ('enforcer.prefix = "much-too-long-for-a-set"', "enforcer.prefix", "'much-too", "14"),
        ('enforcer.chains = ["a b"]', "enforcer.chains", "'a b'", "chains"),
        ("enforcer.maxelem = 1", "enforcer.maxelem", "1", "1024"),
        ("rules.pin.maxretry = 0", "rules.pin.maxretry", "0", "1 to 1000"),
        ('rules.pin.findtime = "never"', "rules.pin.findtime", "'never'", '"1s" to "30d"'),
        ('rules.pin.findtime = "31d"', "rules.pin.findtime", "'31d'", '"1s" to "30d"'),
        ("rules.pin.bantime = 1", "rules.pin.bantime", "1", '"2s" to "3650d"'),
        ("rules.pin.bantime = inf", "rules.pin.bantime", "inf", '"2s" to "3650d"'),
        ("rules.pin.bantime = nan", "rules.pin.bantime", "nan", '"2s" to "3650d"'),
        ("rules.pin.bantime = true", "rules.pin.bantime", "True", '"2s" to "3650d"'),
        ("redis = 5", "redis", "5", "write [redis] as a section"),
        ("rules = 5", "rules", "5", "write [rules.pin] as a section"),
        ("rules.pin = 5", "rules.pin", "5", "write [rules.pin] as a section"),
        ("receiver.workers = 0x" + "f" * 5000, "receiver.workers", "thousands of digits", "1 to 16"),
        ("receiver.workers = '" + "f" * 5000 + "'", "receiver.workers", "'ffff", "1 to 16"),
    ],
)
def test_a_bad_setting_is_one_line_with_file_key_value_and_remedy(
    tmp_path: Path, text: str, key: str, value: str, remedy: str
) -> None:
    path = written(tmp_path, text)
    said = complaint(path)
    assert said.startswith(f"{path}: {key}")
    assert value in said
    assert remedy in said
    assert len(said) < len(path) + 600, "a long value is cut"


@pytest.mark.parametrize(("least", "greatest"), [("2s", "3650d"), (2, 315_360_000)])
def test_a_length_of_time_may_be_the_least_and_the_greatest(tmp_path: Path, least: object, greatest: object) -> None:
    text = f"[rules.pin]\nbantime = {least!r}\nbantime_maxtime = {greatest!r}"
    pin = load(written(tmp_path, text), {}).rules["pin"]
    assert (pin.bantime, pin.bantime_maxtime) == (2_000, 315_360_000_000)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[receivr]", "receivr: there is no such setting; did you mean receiver?"),
        ("[receiver]\nworker = 2", "receiver.worker: there is no such setting; did you mean receiver.workers?"),
        ("[rules.pin]\nmax_retry = 2", "did you mean rules.pin.maxretry?"),
        ("[redis]\nurll = 2", "did you mean redis.url?"),
        ("xyzzy = 1", "xyzzy: there is no such setting; the README"),
        ('node = "rp1"', "node: there is no such setting; did you mean receiver.node or enforcer.node?"),
        ("listen = []", "listen: there is no such setting; did you mean receiver.listen?"),
        ("[redis.url]\nhost = 1", "redis.url"),
        ('"a\\nb" = 1', "a\\x0ab: there is no such setting"),
        ('[rules."a\\u2028b"]', "rules.a\\u2028b is not a rule's name"),
    ],
)
def test_an_unknown_key_suggests_the_one_that_was_meant(tmp_path: Path, text: str, remedy: str) -> None:
    path = written(tmp_path, text)
    said = complaint(path)
    assert said.startswith(f"{path}: ")
    assert remedy in said


OWN_RULES = """
[rules.pin_long]
failregex = "^<HOST> failed$"
[rules.door-1]
failregex = "^<HOST> failed$"
[rules.door_1]
failregex = "^<HOST> failed$"
"""


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("PINBAN_RECEIVER_WORKER", "there is no such setting; did you mean PINBAN_RECEIVER_WORKERS?"),
        ("PINBAN_REDIS_PASSWORDFILE", "there is no such setting; did you mean PINBAN_REDIS_PASSWORD_FILE?"),
        ("PINBAN_RULES_PIN_MAX_RETRY", "there is no such setting; did you mean PINBAN_RULES_PIN_MAXRETRY?"),
        ("PINBAN_RULES_DOOR_MAXRETRY", "there is no such setting; did you mean PINBAN_RULES_DOOR_1_MAXRETRY?"),
        ("PINBAN_NODE", "there is no such setting; did you mean PINBAN_RECEIVER_NODE or PINBAN_ENFORCER_NODE?"),
        ("PINBAN_NETS", "there is no such setting; "),
        ("PINBAN_XYZZY", "there is no such setting; the README has the table of all settings"),
    ],
)
def test_a_variable_that_names_no_setting_stops_the_start(tmp_path: Path, variable: str, said: str) -> None:
    assert complaint(written(tmp_path, OWN_RULES), {variable: "5"}).startswith(f"{variable}: {said}")


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    environment = {
        "PINBAN_NET": "10.9",
        "PINBAN_TEST_CLOCK": "/x",
        "PINBAN_PORT": "tcp://10.0.0.1:5514",
        "PINBAN_REDIS_SERVICE_HOST": "10.0.0.2",
        "PINBAN_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
        "PINBANX": "1",
        "MY_PINBAN_NODE": "x",
        "HOME": "/",
    }
    assert load(written(tmp_path, ""), environment) == Settings()


@pytest.mark.parametrize(
    ("variable", "meanings"),
    [
        ("PINBAN_RULES_PIN_LONG_MAXRETRY", "rules.pin.long_maxretry and rules.pin_long.maxretry"),
        ("PINBAN_RULES_PIN_LONG_FINDTIME", "rules.pin.long_findtime and rules.pin_long.findtime"),
        ("PINBAN_RULES_DOOR_1_BANTIME", "rules.door-1.bantime and rules.door_1.bantime"),
    ],
)
def test_a_variable_that_means_two_settings_is_refused(tmp_path: Path, variable: str, meanings: str) -> None:
    path = written(tmp_path, OWN_RULES)
    assert complaint(path, {variable: "7"}) == f"{variable}: it means {meanings}; set them in the file instead"
    assert load(path, {"PINBAN_RULES_PIN_MAXRETRY": "7"}).rules["pin"].maxretry == 7


def test_no_two_settings_have_one_variable_unless_a_rules_name_makes_it_so() -> None:
    assert len({variable_of(key) for key in declared(BUILT_IN)}) == len(declared(BUILT_IN))


@pytest.mark.parametrize(
    ("variable", "text", "remedy"),
    [
        ("PINBAN_RECEIVER_WORKERS", "many", "receiver.workers = 'many' is not a number of processes"),
        ("PINBAN_RECEIVER_WRONG_PIN_BYTES", "²", "is not a list of body sizes"),
        ("PINBAN_IGNOREIP", "10.0.0.1,a b", "ignoreip: 'a b' is not an IP address"),
        ("PINBAN_ENFORCER_PORTS", "http", "enforcer.ports"),
        ("PINBAN_RULES_PIN_FINDTIME", "1e400", "rules.pin.findtime"),
        ("PINBAN_RULES_PIN_MAXRETRY", "9" * 5000, "rules.pin.maxretry"),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, variable: str, text: str, remedy: str) -> None:
    said = complaint(written(tmp_path, ""), {variable: text})
    assert said.startswith(f"{variable}: ")
    assert remedy in said


def test_a_variable_does_not_hide_that_the_file_is_wrong(tmp_path: Path) -> None:
    assert "[receiver] as a section" in complaint(written(tmp_path, "receiver = 5"), {"PINBAN_RECEIVER_NODE": "x"})


@pytest.mark.parametrize("content", [b"= 5", b"a = \xff", b'x = "', b"rules.pin.maxretry = " + b"9" * 5000])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pinban.toml"
    path.write_bytes(content)
    assert complaint(str(path)).startswith(f"{path}: is not TOML: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        assert complaint(str(path)).startswith(f"{path}: cannot be read (")


PASSWORDS = [
    "redis://:hunter2@h/0",
    "redis://user:hunter2@h/0",
    "redis://:hunter2@hunter2@h/0",
    "redis://:hunter2/hunter2@h/0",
]


@pytest.mark.parametrize("url", PASSWORDS)
def test_no_error_shows_the_password_of_a_url(tmp_path: Path, url: str) -> None:
    said = complaint(written(tmp_path, f'redis.url = "x{url}"'))
    assert "hunter2" not in said
    assert "hunter2" not in complaint(written(tmp_path, ""), {"PINBAN_REDIS_URL": f"x{url}"})


@pytest.mark.parametrize("url", PASSWORDS)
def test_the_url_is_shown_without_its_password(tmp_path: Path, url: str) -> None:
    assert "hunter2" not in shown_url(load(written(tmp_path, f'redis.url = "{url}"'), {}))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:abc/0",
        "redis://h:99999999/0",
        "redis://h?socket_timeout=abc",
        "redis://:hunter2/x@h",
        "redis://h?x=1",
    ],
)
def test_a_url_that_the_client_does_not_understand_is_a_bad_setting(tmp_path: Path, url: str) -> None:
    settings = load(written(tmp_path, f'redis.url = "{url}"'), {})
    with pytest.raises(SettingsError, match=r"redis\.url") as caught:
        connect(settings, "test", 0.1)
    assert "hunter2" not in str(caught.value)


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2 \nnot this\n", encoding="utf-8")
    assert password_of(load(written(tmp_path, f'redis.password_file = "{secret}"'), {})) == "hunter2"
    assert password_of(Settings()) is None


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(SettingsError, match=r"redis\.password_file = .*missing.* cannot be read"):
        password_of(load(written(tmp_path, f'redis.password_file = "{missing}"'), {}))


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("udp:127.0.0.1:5514", Endpoint("udp", "127.0.0.1", 5514)),
        ("udp:[::1]:5514", Endpoint("udp", "::1", 5514)),
        ("unix:/run/pinban/log.sock", Endpoint("unix", "/run/pinban/log.sock")),
    ],
)
def test_an_endpoint_reads_back_as_it_is_written(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert str(endpoint) == text


def test_probes_are_asked_of_this_host_alone(tmp_path: Path) -> None:
    settings = load(written(tmp_path, '[enforcer]\nprobe_url = ""\nprobe_every = "200ms"'), {})
    assert (settings.enforcer.probe_url, settings.enforcer.probe_every) == ("", 200)
    text = complaint(written(tmp_path, '[enforcer]\nprobe_url = "http://10.0.0.1/probe"'))
    assert "enforcer.probe_url: 'http://10.0.0.1/probe' is no page of this host's nginx; " in text
    assert "on 127.0.0.1" in text
    for seconds in ("0.1", "11"):
        text = complaint(written(tmp_path, f"[enforcer]\nprobe_every = {seconds}"))
        assert f'enforcer.probe_every = {seconds} is not a length of time from "200ms" to "10s", or' in text


@pytest.mark.parametrize(
    ("text", "rule", "levels"),
    [
        ("", "pin", ("ipv6/56=15", "ipv6/48=40")),
        ("[rules.pin]\nlevels = []", "pin", ()),
        ('[rules.pin]\nlevels = ["ipv4/24=25"]', "pin", ("ipv4/24=25",)),
        ("[rules.pin]\nmaxretry = 10", "pin", ("ipv6/56=30", "ipv6/48=80")),
        ("[rules.pin]\nmaxretry = 3", "pin", ("ipv6/56=15", "ipv6/48=40")),
        ("[rules.pin]\nmaxretry = 1000", "pin", ("ipv6/56=1000", "ipv6/48=1000")),
        ("ipv6_prefix = 56", "pin", ("ipv6/48=40",)),
        ("ipv6_prefix = 48", "scan", ()),
        ("[rules.own]\nfailregex = '<HOST>'\nmaxretry = 15", "own", ("ipv6/56=45", "ipv6/48=120")),
    ],
)
def test_default_levels_fit_what_else_is_set(tmp_path: Path, text: str, rule: str, levels: tuple[str, ...]) -> None:
    assert load(written(tmp_path, text), {}).rules[rule].levels == levels


@pytest.mark.parametrize("text", ["ipv6/48=60,ipv4/24=30", '["ipv6/48=60", "ipv4/24=30"]'])
def test_levels_come_from_the_environment_too(tmp_path: Path, text: str) -> None:
    settings = load(written(tmp_path, ""), {"PINBAN_RULES_PIN_LEVELS": text})
    assert settings.rules["pin"].levels == ("ipv6/48=60", "ipv4/24=30")


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ('["ipv5/48=40"]', "'ipv5/48=40' is not a level; write a list of up to 4 wider networks"),
        ('["ipv6/48"]', "is not a level"),
        ('["ipv6/18=40"]', "is a network too wide to ban; /19 is the widest of IPv6"),
        ('["ipv4/7=40"]', "is a network too wide to ban"),
        ('["ipv4/32=40"]', "is no network with several addresses"),
        ('["ipv6/48=0"]', "has no limit from 1 to 1000"),
        ('["ipv6/48=1001"]', "has no limit from 1 to 1000"),
        ('["ipv6/64=40"]', "is no wider network: ipv6_prefix = 64 has it already; write a shorter prefix"),
        ('["ipv6/48=4"]', "is below maxretry = 5; write a higher limit"),
        ('["ipv6/48=40", "ipv6/48=50"]', "names a network twice; write each once"),
        ('["ipv6/60=9", "ipv6/56=15", "ipv6/52=20", "ipv6/48=40", "ipv6/44=50"]', "is not a list of up to 4"),
        ('"ipv6/48=40"', "is not a list of up to 4"),
    ],
)
def test_a_wrong_level_is_an_error_with_a_remedy(tmp_path: Path, levels: str, told: str) -> None:
    text = complaint(written(tmp_path, f"[rules.pin]\nlevels = {levels}"))
    assert text.startswith(f"{tmp_path}/pinban.toml: rules.pin.levels")
    assert told in text


def test_the_widest_level_comes_last_and_none_is_below_maxretry() -> None:
    rule = Rule(maxretry=20, levels=("ipv6/48=40", "ipv4/24=25", "ipv6/56=15"))
    assert rule.wider(ipv6=True) == [Level(True, 56, 20), Level(True, 48, 40)]
    assert rule.wider(ipv6=False) == [Level(False, 24, 25)]
    assert rule.level_of(Network("2001:db8::/48")) == Level(True, 48, 40)
    assert rule.level_of(Network("2001:db8::/64")) is rule.level_of(Network("203.0.113.7")) is None
