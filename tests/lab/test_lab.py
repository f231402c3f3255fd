"""The lab itself: what the other system tests and the benches stand on."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.lab.clients import PIN, Bystander, guess, pin_header, token_target
from tests.lab.daemons import COMMON, RECEIVER, enforcer_settings, merge, to_toml
from tests.lab.guesser import Guesser
from tests.lab.http1 import Answer, Connection, Header
from tests.lab.lab import Lab, ReverseProxy
from tests.lab.netns import NAMES, sweep
from tests.lab.node_answers import FULL, PROMPT, REDIRECT, TOKEN, WRONG, Reply
from tests.lab.process import ROOT, LabError, Process, wait_until
from tests.lab.tap import Datagram, Tap
from tests.lab.wires import CORE

FIELDS = {"v", "id", "t", "ip", "m", "k", "a", "s", "us", "l", "p", "c", "x", "e", "d", "u", "n"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(rps=2, receiver=False, enforcers=False, directory=tmp_path_factory.mktemp("lab"))
    lab.node.argv += [f"--sso=meet.sso={PIN}", f"--full=meet.full={PIN}", "--gzip"]
    with lab:
        yield lab


@pytest.fixture
def tap(lab: Lab) -> Iterator[Tap]:
    with Tap((CORE, 5514), lab.core.namespace) as tap:
        yield tap


@pytest.fixture
def rp(lab: Lab) -> ReverseProxy:
    return lab.rps[0]


def connect(lab: Lab, address: str) -> Connection:
    return lab.attacker.namespace.call(lambda: Connection(address))


def ask(lab: Lab, target: str, *headers: Header, method: str = "POST") -> Answer | None:
    with connect(lab, lab.rps[0].host.outside) as connection:
        return connection.ask(method, target, headers)


def fail_inside(error: BaseException, labs: list[Lab], pids: list[int], strays: list[subprocess.Popen[bytes]]) -> None:
    with Lab(rps=1, receiver=False, enforcers=False) as lab:
        labs.append(lab)
        stray = lab.attacker.namespace.popen(["sleep", "600"], lab.directory / "stray.log")
        strays.append(stray)
        wait_until(lambda: stray.pid in lab.attacker.namespace.pids(), "the stray is inside")
        pids += [pid for host in lab.hosts for pid in host.namespace.pids()]
        raise error


def runs(pid: int) -> bool:
    """Not so for a zombie, which has let go of its namespaces."""
    return Path(f"/proc/{pid}/ns/net").exists()


def seen(datagram: Datagram, *names: str) -> list[str | int]:
    return [datagram.fields[name] for name in names]


def test_a_wrong_pin_is_one_datagram_of_the_contract(lab: Lab, tap: Tap, rp: ReverseProxy) -> None:
    answer = lab.attacker.namespace.call(lambda: guess(rp.host.outside, "9999"))
    assert answer
    assert (answer.status, answer.body) == (403, WRONG)
    datagram = tap.next()
    assert datagram.sender == rp.host.inside
    assert datagram.fields.keys() == FIELDS
    assert seen(datagram, "v", "ip", "m", "k", "a") == [1, "198.51.100.66", "POST", "conference", "meet.alice"]
    assert seen(datagram, "s", "us", "l", "p") == ["403", "403", "45", "1"]


def test_a_prompt_and_a_join_are_told_apart(lab: Lab, tap: Tap, rp: ReverseProxy) -> None:
    with connect(lab, rp.host.outside) as connection:
        prompt = connection.ask("POST", token_target())
        joined = connection.ask("POST", token_target(), pin_header(PIN))
    assert prompt
    assert joined
    assert (prompt.body, joined.body) == (PROMPT, TOKEN)
    assert seen(tap.next(), "s", "l", "p") == ["403", "73", "0"]
    assert seen(tap.next(), "s", "l", "p") == ["200", str(len(TOKEN)), "1"]


@pytest.mark.parametrize(("alias", "body"), [("meet.sso", REDIRECT), ("meet.full", FULL)])
def test_a_right_pin_can_be_refused_as_well(lab: Lab, tap: Tap, alias: str, body: bytes) -> None:
    for pin, said in (("9999", WRONG), (PIN, body)):
        answer = ask(lab, token_target(alias), *pin_header(pin))
        assert answer
        assert (answer.status, answer.body) == (403, said)
        assert seen(tap.next(), "s", "l", "p") == ["403", str(len(said)), "1"]


def test_a_node_may_compress_for_whoever_takes_it(lab: Lab, tap: Tap) -> None:
    answer = ask(lab, token_target(), *pin_header("9999"), ("Accept-Encoding", "gzip, deflate"))
    assert answer
    assert gzip.decompress(answer.body) == WRONG
    assert seen(tap.next(), "s", "l") == ["403", str(len(answer.body))]


def test_other_requests_send_nothing(lab: Lab, tap: Tap, rp: ReverseProxy) -> None:
    """One connection is one nginx worker, so its datagrams arrive in order: the first is the guess."""
    with connect(lab, rp.host.outside) as connection:
        page = connection.ask("GET", "/webapp3/")
        assert page
        assert page.status == 200
        for target in ("/api/client/v2/status", "/api/client/v2/conferences/x/participants", "/request_token"):
            connection.ask("POST", target, pin_header("1"))
        connection.ask("POST", token_target("last"))
    assert seen(tap.next(), "a", "s", "p") == ["last", "404", "0"]


@pytest.mark.parametrize(
    "target",
    [
        "/api/client/v2/conferences/Meet.Alice/request_token?x=1",
        "/api/client/v1/conferences/Meet.Alice/request_token/",
        "/api//client/v2/x/../conferences/Meet%2EAlice/request%5Ftoken",
        "/api/client/v2/CONFERENCES/Meet.Alice/Request_Token",
        "http://other.example/api/client/v2/conferences/Meet.Alice/request_token",
    ],
)
def test_no_spelling_hides_a_guess(lab: Lab, tap: Tap, target: str) -> None:
    ask(lab, target, ("pin", "9999"), ("Referer", "x"), ("Authorization", "Basic Zm9vOng="))
    assert seen(tap.next(), "k", "a", "p") == ["conference", "Meet.Alice", "1"]


def test_a_newline_in_the_alias_hides_nothing(lab: Lab, tap: Tap) -> None:
    ask(lab, token_target("meet%0a%22alice"), *pin_header("9999"))
    assert seen(tap.next(), "k", "a") == ["conference", 'meet\n"alice']


def test_an_alias_that_nginx_takes_for_false_is_logged(lab: Lab, tap: Tap) -> None:
    ask(lab, token_target("0"), *pin_header("9999"))
    assert seen(tap.next(), "a", "s") == ["0", "404"]


@pytest.mark.row(16)
def test_an_alias_of_4000_characters_is_cut(lab: Lab, tap: Tap) -> None:
    ask(lab, token_target("a" * 128), *pin_header("9999"))
    assert tap.next().fields["a"] == "a" * 128
    ask(lab, token_target("b" * 4000), *pin_header("9999"))
    datagram = tap.next()
    assert datagram.fields["a"] == "b" * 128
    assert len(datagram.raw) < 500


@pytest.mark.row(16)
def test_long_headers_do_not_lose_the_datagram(lab: Lab, tap: Tap) -> None:
    noise = "\xff" * 7000
    ask(lab, token_target(), ("Referer", noise), ("User-Agent", noise), ("pin", "9" * 7000))
    datagram = tap.next()
    assert seen(datagram, "s", "l", "p") == ["403", "45", "1"]
    assert len(datagram.raw) < 300


def test_a_method_is_post_or_other(lab: Lab, tap: Tap) -> None:
    ask(lab, token_target(), *pin_header("9999"), method="G" * 1000)
    assert seen(tap.next(), "m", "k", "s") == ["other", "conference", "404"]


def test_a_second_pin_header_is_betrayed_by_the_length(lab: Lab, tap: Tap) -> None:
    ask(lab, token_target(), ("pin", "none"), ("pin", "9999"))
    assert seen(tap.next(), "s", "l") == ["403", "45"]
    ask(lab, token_target(), ("pin", "none"))
    assert seen(tap.next(), "s", "l", "p") == ["403", "73", "n"]


def test_hanging_up_does_not_hide_a_guess(lab: Lab, tap: Tap, rp: ReverseProxy) -> None:
    """proxy_ignore_client_abort, as the snippet recommends."""
    connect(lab, rp.host.outside).ask_and_leave("POST", token_target(), pin_header("9999"))
    assert seen(tap.next(), "s", "l", "p") == ["403", "45", "1"]


def test_a_registration_is_its_own_kind(lab: Lab, tap: Tap) -> None:
    ask(lab, "/api/client/v2/registrations/bob/request_token")
    assert seen(tap.next(), "k", "a", "s") == ["registration", "bob", "401"]


def test_a_client_over_ipv6_is_logged_with_its_own_64(lab: Lab, tap: Tap, rp: ReverseProxy) -> None:
    for host in (lab.attacker, lab.bystander):
        answer = host.namespace.call(lambda: guess(rp.host.outside6, "9999"))
        assert answer
        assert tap.next().fields["ip"] == host.outside6


def test_the_node_counts_what_it_answered(lab: Lab, tap: Tap) -> None:
    before = lab.node.truth()
    ask(lab, token_target())
    ask(lab, token_target(), *pin_header("9999"))
    ask(lab, token_target("nobody"), *pin_header("9999"))
    ask(lab, token_target(), *pin_header(PIN))
    after = lab.node.truth()
    changed = {word: after[word] - count for word, count in before.items() if after[word] != count}
    assert changed == {"prompt": 1, "wrong": 1, "unknown": 1, "joined": 1}
    lab.node.signal(signal.SIGUSR1)
    wait_until(lambda: json.dumps(after) in lab.node.tail(), "the truth is printed")


def test_json_without_spaces_says_the_same_in_fewer_bytes() -> None:
    compact = Reply("wrong", 403, WRONG).without_spaces()
    assert compact.body == b'{"status":"failed","result":"Invalid PIN"}'
    assert Reply("other", 200, b"<!doctype html>").without_spaces().body == b"<!doctype html>"


def test_attacker_and_bystander_meet_on_every_reverse_proxy(lab: Lab) -> None:
    before = lab.node.truth()
    guesser = Guesser(lab.addresses(), connections=2, seconds=1.0)
    bystander = Bystander(lab.addresses(), interval=0.05)
    visiting = lab.bystander.namespace.start(bystander.run)
    loot = lab.attacker.namespace.call(guesser.run)
    bystander.stop()
    visits = visiting.result()
    assert all(loot.answers[address] for address in lab.addresses())
    assert loot.statuses.keys() == {403}
    assert not loot.starved
    assert visits.joins > len(lab.rps)
    assert visits.failures == []
    after = lab.node.truth()
    assert after["joined"] - before["joined"] == visits.joins
    assert loot.total <= after["wrong"] - before["wrong"] <= loot.sent


def test_a_starved_guesser_gives_up(lab: Lab) -> None:
    nobody = Guesser(["198.51.100.200"], seconds=30, starved_after=0.2)
    loot = lab.attacker.namespace.call(nobody.run)
    assert loot.starved
    assert loot.total == 0


def test_only_reverse_proxies_reach_the_core(lab: Lab, rp: ReverseProxy) -> None:
    assert lab.attacker.namespace.call(lambda: guess(CORE, "9999", timeout=0.3)) is None
    lab.attacker.namespace.configure(f"route add 10.77.0.0/24 via {rp.host.outside}")
    assert lab.attacker.namespace.call(lambda: guess(CORE, "9999", timeout=0.3)) is None


def test_redis_keeps_its_data_over_a_restart_and_stalls_when_frozen(lab: Lab) -> None:
    with lab.redis.client() as client, lab.redis.client(timeout=0.2) as hasty:
        client.set("kept", "1")
        lab.redis.restart()
        assert client.get("kept") == b"1"
        lab.redis.freeze()
        with pytest.raises(redis.TimeoutError):
            hasty.get("kept")
        lab.redis.thaw()
        assert client.get("kept") == b"1"


def test_two_receivers_and_a_unix_socket_get_the_same_datagram(tmp_path: Path) -> None:
    """In a second lab at the same time as the first, under other names."""
    path = tmp_path / "log.sock"
    redirected = "error_page 403 /denied; location = /denied { internal; return 403 no; }"
    with (
        Tap(path) as local,
        Lab(
            rps=1,
            receiver=False,
            enforcers=False,
            receivers=[f"{CORE}:5514", f"unix:{path}"],
            server=f"proxy_intercept_errors on; {redirected}",
            chunked=True,
            directory=tmp_path,
        ) as lab,
        Tap((CORE, 5514), lab.core.namespace) as remote,
    ):
        ask(lab, token_target(), *pin_header("9999"))
        datagram = remote.next()
        assert datagram.fields == local.next().fields
        assert seen(datagram, "k", "a", "s", "p") == ["conference", "meet.alice", "403", "1"]
        assert lab.node.truth()["wrong"] == 1


@pytest.mark.parametrize("error", [RuntimeError("on purpose"), KeyboardInterrupt("on purpose")])
def test_a_lab_leaves_no_trace_even_after_an_exception(error: BaseException) -> None:
    labs: list[Lab] = []
    pids: list[int] = []
    strays: list[subprocess.Popen[bytes]] = []
    with pytest.raises(type(error), match="on purpose"):
        fail_inside(error, labs, pids, strays)
    assert strays[0].wait() == -signal.SIGKILL
    assert len(pids) >= 6  # redis, node, nginx and its workers, stray
    assert not any(map(runs, pids))
    assert not any((NAMES / host.namespace.name).exists() for host in labs[0].hosts)
    assert not labs[0].directory.exists()
    assert any("nginx" in note for note in error.__notes__)


def test_leftovers_of_a_dead_lab_are_swept() -> None:
    script = "import os, signal; from tests.lab.netns import *; n = Namespace(unique_prefix() + '-core'); n.create()"
    script += "; print(n.name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    dead = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    name = dead.stdout.strip()
    assert (NAMES / name).exists()
    assert name in sweep()
    assert not (NAMES / name).exists()


def test_a_process_that_dies_shows_its_log(lab: Lab, tmp_path: Path) -> None:
    broken = Process("broken", ["sh", "-c", "echo no such setting; exit 3"], tmp_path, lab.core.namespace)
    broken.start()
    with pytest.raises(LabError, match="no such setting"):
        broken.await_ready(lambda: False)
    assert broken.stop() == 3


def test_settings_are_merged_and_written_as_toml() -> None:
    mine = {"rules": {"pin": {"maxretry": 3}}, "enforcer": {"ports": "all"}}
    settings = merge(merge(enforcer_settings("rp1"), COMMON), mine)
    assert settings["rules"]["pin"] == {"maxretry": 3, "findtime": "5m", "bantime": "5m"}
    assert settings["enforcer"] == {"node": "rp1", "backend": "iptables", "ports": "all", "probe_url": ""}
    for written in (settings, merge(RECEIVER, COMMON)):
        assert tomllib.loads(to_toml(written)) == written
