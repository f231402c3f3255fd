"""The ACL file that `pinban acl` writes: both daemons live a whole life under it, and what it forbids is refused."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result
from redis.backoff import NoBackoff
from redis.retry import Retry

from pinban.cli import main
from pinban.deployment.acl import _ENFORCER, _RECEIVER, _SCRIPTS, file_of, users
from receiver.store import Witnesses
from shared.addresses import Network
from shared.errors import StoreError
from shared.ledger import Ledger
from shared.settings.schema import Redis, Settings
from shared.store.connection import connect
from shared.store.keys import Keys
from shared.store.store import Store
from tests.lab.datagrams import failure
from tests.lab.kernel import members
from tests.lab.one_host import OneHost, public_folder
from tests.lab.process import ROOT, wait_until
from tests.lab.redis_server import RedisServer

KEYS = Keys()
A = "203.0.113.7"
LAB = ("lab", "for the tests")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with public_folder() as place:
        yield place


@pytest.fixture(scope="module")
def aclfile(place: Path) -> Path:
    """As an operator makes it, and a user for the tests."""
    done = CliRunner().invoke(main, ["acl", "--passwords", str(place / "passwords"), "rp1", "rp2"])
    assert done.exit_code == 0, done.output
    (place / "users.acl").write_text(f"{done.output}user {LAB[0]} on ~* &* +@all #{sha256(LAB[1])}\n")
    return place / "users.acl"


@pytest.fixture(scope="module")
def host(place: Path, aclfile: Path) -> Iterator[OneHost]:
    def told(user: str) -> dict[str, Any]:
        return {"redis": {"username": user, "password_file": str(place / "passwords" / user)}}

    limits = {
        "mail": {"to": ["noc@example.com"], "server": "127.0.0.1:25"},  # nobody there, but what is to be told is read
        "rooms": {"failures": 3, "addresses": 2, "forgive_on_join": 1},
        "rules": {
            "pin": {"long_maxretry": 20, "bantime_increment": True},
            "scan": {"simulate": True, "maxretry": 2},
        },
    }
    with OneHost(
        place / "host",
        redis={"aclfile": str(aclfile)},
        login=LAB,
        receiver=limits | told("receiver"),
        enforcer=told("enforcer-rp1"),
    ) as host:
        yield host


@pytest.fixture(scope="module")
def server(host: OneHost) -> RedisServer:
    return host.redis


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """May do everything."""
    with server.client() as client:
        yield client


@pytest.fixture
def run(host: OneHost, place: Path) -> Callable[..., Result]:
    """`pinban` as the operator."""
    config = place / "operator.toml"
    config.write_text(
        f'[redis]\nurl = "unix://{host.redis.socket}"\nusername = "operator"\n'
        f'password_file = "{place / "passwords" / "operator"}"\n'
    )
    return lambda *words: CliRunner().invoke(main, ["-c", str(config), *words])


def sha256(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def login(server: RedisServer, place: Path, user: str) -> redis.Redis:
    return as_user(server, user, (place / "passwords" / user).read_text().strip())


def as_user(server: RedisServer, user: str | None, password: str | None) -> redis.Redis:
    """A client that tries once."""
    path = str(server.socket)
    return redis.Redis(unix_socket_path=path, username=user, password=password, retry=Retry(NoBackoff(), 0))


def change(client: redis.Redis, user: str, *rules: str) -> None:
    client.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call]


def refusals(client: redis.Redis) -> list[str]:
    """What Redis refused since the log was last emptied."""
    return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in client.acl_log()]


def test_both_daemons_and_every_command_do_all_they_do_and_nothing_is_refused(
    host: OneHost, client: redis.Redis, run: Callable[..., Result]
) -> None:
    client.acl_log_reset()
    host.fail(A, 5)
    host.await_ban(A)
    client.script_flush()
    host.fail("203.0.113.8", 5)
    host.await_ban("203.0.113.8")

    for network in (113, 114, 115):  # the room becomes hot
        host.fail(f"203.0.{network}.20", 2, alias="meet.alice")
    wait_until(lambda: client.zcard(KEYS.hot) == 1, "the room is hot")
    host.send(failure("203.0.113.23", "then", "meet.bob"))
    wait_until(lambda: client.get("pinban:count:{203.0.113.23}:pin") == b"1", "a failure")
    host.send(failure("203.0.113.23", "joined", "meet.bob").replace(b'"s":"403","us":"403"', b'"s":"200","us":"200"'))
    wait_until(lambda: client.get("pinban:count:{203.0.113.23}:pin") is None, "is forgiven")
    unknown = failure("203.0.113.24", "?").replace(b'"s":"403","us":"403"', b'"s":"404","us":"404"')
    host.send(unknown, unknown.replace(b"room.", b"other."))
    wait_until(lambda: client.zcard(KEYS.simulated) == 1, "a ban is simulated")

    host.receiver.signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in host.receiver.log.read_text(), "the reload")
    host.fail("203.0.113.9", 5)
    host.await_ban("203.0.113.9")

    wait_until(lambda: run("status").exit_code == 0, "all is well")
    assert A in run("bans").output
    assert "203.0.113.20" in run("counters").output
    for words in (
        ["ban", "203.0.113.99"],
        ["ban", "203.0.113.99", "--for", "2h"],
        ["unban", "203.0.113.99"],
        ["allow", A, "--for", "1h"],
        ["allow"],
        ["allow", A, "--remove"],
        ["history"],
        ["top"],
        ["status", "--json"],
    ):
        done = run(*words)
        assert done.exit_code == 0, (words, done.output)
    wait_until(lambda: A not in members(host.namespace), "who is allowed is let in")
    assert "a heartbeat came over the channel" in run("doctor").output
    run("ban", "2001:db8::/48")
    assert run("unban", "2001:db8::1").exit_code == 1, "the network that holds it is named"

    assert host.enforcer.stop() == 0
    host.enforcer.start()
    host.await_well()
    wait_until(lambda: "203.0.113.9" in members(host.namespace), "the snapshot")
    assert refusals(client) == []
    for process in (host.receiver, host.enforcer):
        assert "forbids" not in process.log.read_text()


FORBIDDEN: list[list[Any]] = [
    ["EVAL", "return 1", 0],
    ["EVALSHA", "0" * 40, 0],
    ["SCRIPT", "LOAD", "return 1"],
    ["SCRIPT", "FLUSH"],
    ["FCALL", "f", 0],
    ["FUNCTION", "LIST"],
    ["SET", KEYS.rev, 9],
    ["INCR", KEYS.rev],
    ["DEL", KEYS.bans],
    ["ZADD", KEYS.bans, 9_999_999_999_999, "198.51.100.1"],
    ["ZREM", KEYS.bans, A],
    ["PEXPIRE", KEYS.bans, 1],
    ["HSET", KEYS.allow, A, "{}"],
    ["HSET", KEYS.node("rp2"), "bans", 0],
    ["HSET", KEYS.node("rx1"), "trouble", ""],
    ["HSET", KEYS.node("rp11"), "bans", 0],
    ["DEL", KEYS.node("rp1")],
    ["HSET", KEYS.witness("rp2"), "203.0.113.7 00ff00ff00ff00ff", "unseen"],
    ["HSET", KEYS.witness("rp11"), "203.0.113.7 00ff00ff00ff00ff", "unseen"],
    ["HDEL", KEYS.witness("rp2"), "203.0.113.7 00ff00ff00ff00ff"],
    ["HGETALL", KEYS.witness("rp2")],
    ["HSET", KEYS.judged("10.0.0.5"), "real", 1],
    ["HGET", KEYS.node("rx1"), "version"],
    ["HGETALL", KEYS.node("rp2")],
    ["GET", "pinban:count:{203.0.113.7}:pin"],
    ["ZRANGE", "pinban:window:{203.0.113.7}:pin", 0, -1],
    ["ZRANGE", "pinban:room:{meet.alice}:failures", 0, -1],
    ["ZRANGE", KEYS.hot, 0, -1],
    ["HGETALL", "{pinban}:ban:203.0.113.7"],
    ["GET", "{pinban}:strikes:203.0.113.7"],
    ["XRANGE", KEYS.history, "-", "+"],
    ["XADD", KEYS.history, "*", "a", "b"],
    ["PUBLISH", KEYS.channel, "x"],
    ["SPUBLISH", KEYS.channel, "x"],
    ["SUBSCRIBE", "other:events"],
    ["SUBSCRIBE", "__keyevent@0__:set"],
    ["PSUBSCRIBE", "*"],
    ["PUBSUB", "CHANNELS"],
    ["KEYS", "*"],
    ["SCAN", 0],
    ["RANDOMKEY"],
    ["DBSIZE"],
    ["INFO"],
    ["MONITOR"],
    ["CONFIG", "GET", "requirepass"],
    ["CONFIG", "SET", "maxmemory", 1],
    ["ACL", "LIST"],
    ["ACL", "SETUSER", "enforcer-rp1", "+@all"],
    ["CLIENT", "LIST"],
    ["CLIENT", "KILL", "TYPE", "pubsub"],
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["SHUTDOWN", "NOSAVE"],
    ["REPLICAOF", "203.0.113.7", 6379],
    ["MIGRATE", "203.0.113.7", 6379, KEYS.bans, 0, 10],
    ["DUMP", KEYS.bans],
    ["SAVE"],
]


@pytest.mark.parametrize("words", FORBIDDEN, ids=lambda words: " ".join(map(str, words[:2])))
def test_an_enforcers_credentials_can_only_read_the_ledger(server: RedisServer, place: Path, words: list[Any]) -> None:
    with login(server, place, "enforcer-rp1") as intruder:
        with pytest.raises(redis.exceptions.NoPermissionError):
            intruder.execute_command(*words)
        pipeline = intruder.pipeline(transaction=True)
        pipeline.execute_command("GET", KEYS.rev)
        pipeline.execute_command(*words)
        with pytest.raises(redis.exceptions.ResponseError):
            pipeline.execute()


def test_an_enforcers_credentials_write_its_own_hash(server: RedisServer, place: Path, client: redis.Redis) -> None:
    with login(server, place, "enforcer-rp2") as own:
        own.hset(KEYS.node("rp2"), "bans", 7)
    assert client.hget(KEYS.node("rp2"), "bans") == b"7"
    client.delete(KEYS.node("rp2"))


def test_a_question_is_answered_under_the_rights_of_both_daemons(
    host: OneHost, server: RedisServer, place: Path, client: redis.Redis
) -> None:
    """Nothing listens on the enforcer's ports here, so it cannot tell; the receiver may read that."""
    host.await_well()
    with login(server, place, "receiver") as own:
        store = Store(own)
        witnesses = Witnesses(store, Ledger(store))

        def answered() -> bool:
            """Asked again each time: the enforcer may be reading a snapshot."""
            witnesses.ask([(Network(A), 1_000, "00ff00ff00ff00ff")])
            return {"rp1": "unknown"} in witnesses.answers([f"{A} 00ff00ff00ff00ff"])

        wait_until(answered, f"it is answered {host.enforcer.log.read_text()[-1500:]}")
    assert 0 < client.pttl(KEYS.witness("rp1")) <= 10_000


@pytest.mark.parametrize("user", ["receiver", "operator"])
@pytest.mark.parametrize(
    "words",
    [
        ["SET", "other", 1],
        ["GET", "{other}:rev"],
        ["PUBLISH", "other:events", "x"],
        ["EVAL", "return redis.call('FLUSHALL')", 0],
        ["KEYS", "*"],
        ["FLUSHALL"],
        ["CONFIG", "SET", "maxmemory", 1],
        ["ACL", "LIST"],
        ["MONITOR"],
    ],
    ids=lambda words: words[0],
)
def test_receiver_and_operator_stay_within_what_is_ours(
    server: RedisServer, place: Path, user: str, words: list[Any]
) -> None:
    with login(server, place, user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


@pytest.mark.parametrize("script", ["redis.call('FLUSHALL')", "redis.call('SET', 'other', 1)"])
def test_a_script_of_a_receiver_can_do_no_more_than_the_receiver(server: RedisServer, place: Path, script: str) -> None:
    with (
        login(server, place, "receiver") as client,
        pytest.raises(redis.exceptions.ResponseError, match="user executing the script"),
    ):
        client.evalsha(client.script_load(script), 0)


def test_without_a_user_nobody_gets_in(server: RedisServer) -> None:
    with as_user(server, None, None) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
        nobody.ping()


@pytest.mark.row(8)
def test_a_missing_right_is_one_line_a_while_and_heals(host: OneHost, client: redis.Redis) -> None:
    change(client, "receiver", "-zadd")
    change(client, "enforcer-rp1", "resetchannels")  # Redis cuts the subscriber
    try:
        host.fail("203.0.113.30", 5)
        for process in (host.receiver, host.enforcer):
            wait_until(lambda log=process.log: "its ACL forbids this" in log.read_text(), f"{process.name} says so")  # type: ignore[misc]
    finally:
        change(client, "receiver", "+zadd")
        change(client, "enforcer-rp1", f"&{KEYS.channel}")
    host.await_ban("203.0.113.30")
    for process in (host.receiver, host.enforcer):
        log = process.log.read_text()
        assert "write its ACL file again with pinban acl" in log
        assert "Traceback" not in log


def test_an_enforcer_that_may_only_read_enforces_as_always(host: OneHost, client: redis.Redis) -> None:
    """What docs/redis.md advises for Redis 6.2, which has no rights to read alone."""
    keys = (KEYS.epoch, KEYS.rev, KEYS.bans, KEYS.allow)
    change(client, "enforcer-rp1", "resetkeys", *(f"~{key}" for key in keys), "-hset", "-pexpire")
    try:
        host.fail("203.0.113.31", 5)
        host.await_ban("203.0.113.31")
        host.enforcer.stop()
        host.namespace.run(["ipset", "flush", "pinban4"])
        host.enforcer.start()
        host.await_ban("203.0.113.31")
    finally:
        own = f"%RW~{KEYS.node('rp1')}"
        change(client, "enforcer-rp1", "resetkeys", *(f"%R~{key}" for key in keys), own, "+hset", "+pexpire")


@pytest.mark.row(8)
def test_a_password_changes_under_running_daemons(host: OneHost, place: Path, client: redis.Redis) -> None:
    """First in Redis, which then cuts who has the old one, then in the files: no restart."""
    host.enforcer.stop()  # what it says of an earlier test would keep it from saying more for ten seconds
    host.enforcer.start()
    host.await_well()
    for user, new in (("receiver", "r2"), ("enforcer-rp1", "e2")):
        change(client, user, "resetpass", f">{new}")
    for user in ("receiver", "enforcer-rp1"):
        client.execute_command("CLIENT", "KILL", "USER", user)  # type: ignore[no-untyped-call]
    host.fail("203.0.113.40", 5)
    for process in (host.receiver, host.enforcer):
        wait_until(lambda log=process.log: "refuses our password" in log.read_text(), f"{process.name} says so")  # type: ignore[misc]
    for user, new in (("receiver", "r2"), ("enforcer-rp1", "e2")):
        (place / "passwords" / user).write_text(f"{new}\n")
    host.await_ban("203.0.113.40")
    for process in (host.receiver, host.enforcer):
        log = process.log.read_text()
        assert "redis.password_file" in log
        assert "Traceback" not in log
        assert process.running


def test_a_password_is_read_at_each_connect_and_a_missing_file_is_told(
    server: RedisServer, tmp_path: Path, place: Path
) -> None:
    file = tmp_path / "password"
    told = Redis(url=f"unix://{server.socket}", username="operator", password_file=str(file))
    settings = msgspec.structs.replace(Settings(), redis=told)
    store = connect(settings, "test", 2.0)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"password_file = .* cannot be read .*; make it readable"):
            store.call("PING")
        file.write_text("wrong\n")
        with pytest.raises(StoreError, match="refuses our password"):
            store.call("PING")
        file.write_text((place / "passwords" / "operator").read_text())
        store.call("PING")
        store.client.connection_pool.disconnect()
        file.unlink()


def test_the_file_that_is_shipped_is_the_one_that_is_written() -> None:
    """Without passwords: nobody gets in until they are there."""
    assert (ROOT / "docker" / "users.acl").read_text() == file_of("pinban", ["rp1", "rp2"], {})


def test_a_shipped_file_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text((ROOT / "docker" / "users.acl").read_text() + "user lab on ~* &* +@all >x\n")
    server = RedisServer(tmp_path / "redis", more={"aclfile": str(tmp_path / "users.acl")}, login=("lab", "x"))
    server.start()
    try:
        server.await_ready()
        for user in users(["rp1", "rp2"]):
            for password in ("", user, "pinban"):
                with as_user(server, user, password) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
                    nobody.ping()
    finally:
        server.stop()


def test_a_redis_with_the_shipped_file_keeps_what_it_wrote_in_transactions_and_still_has_no_default_user(
    tmp_path: Path,
) -> None:
    """Redis 7.0 asks for the rights of `default` at each EXEC of its append-only file."""
    (tmp_path / "users.acl").write_text((ROOT / "docker" / "users.acl").read_text() + "user lab on ~* &* +@all >x\n")
    server = RedisServer(tmp_path / "redis", more={"aclfile": str(tmp_path / "users.acl")}, login=("lab", "x"))
    server.start()
    try:
        server.await_ready()
        with server.client() as client:
            client.pipeline().set(KEYS.rev, 7).hset(KEYS.ban(Network(A)), "rule", "pin").execute()
        server.restart()
        with server.client() as client:
            assert (client.get(KEYS.rev), client.hget(KEYS.ban(Network(A)), "rule")) == (b"7", b"pin")
        with redis.Redis(unix_socket_path=str(server.socket)) as nobody, pytest.raises(redis.exceptions.RedisError):
            nobody.get(KEYS.rev)
        for password in ("", "default"):
            with as_user(server, "default", password) as default, pytest.raises(redis.exceptions.AuthenticationError):
                default.ping()
    finally:
        server.stop()


def test_passwords_are_made_once_and_kept(tmp_path: Path) -> None:
    words = ["acl", "--passwords", str(tmp_path / "new"), "rp1"]
    first, again = (CliRunner().invoke(main, words).output for _ in range(2))
    assert first == again
    files = {path.name: path for path in (tmp_path / "new").iterdir()}
    assert set(files) == {"receiver", "operator", "enforcer-rp1"}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    for name, path in files.items():
        assert path.stat().st_mode & 0o777 == 0o600
        password = path.read_text().strip()
        assert len(password) >= 40
        assert password not in first
        assert f"user {name} on resetpass #{sha256(password)} " in first
    more = CliRunner().invoke(main, [*words, "rp2"]).output
    assert more.startswith(first), "one more reverse proxy changes nothing for the others"


@pytest.mark.parametrize("node", ["", "rp 1", "*", "rp1\nuser x on nopass ~* +@all", "rp?", "-rp"])
def test_what_is_no_name_of_a_node_is_refused(tmp_path: Path, node: str) -> None:
    done = CliRunner().invoke(main, ["acl", "--passwords", str(tmp_path / "p"), "--", node])
    assert done.exit_code == 1
    assert "is no node" in done.output
    assert not (tmp_path / "p").exists()


def test_an_empty_or_unreadable_password_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "receiver").write_text("\n")
    done = CliRunner().invoke(main, ["acl", "--passwords", str(tmp_path), "rp1"])
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "receiver is empty" in done.output
    done = CliRunner().invoke(main, ["acl", "--passwords", str(tmp_path / "receiver"), "rp1"])
    assert (done.exit_code, done.output.count("\n")) == (1, 1)


def test_scripts_may_do_what_they_do_and_no_more() -> None:
    """A command that a script gains must be added to the list, and one that none needs must go."""
    scripts = [path.read_text() for path in ROOT.glob("*/*/*.lua")]
    assert len(scripts) > 10
    called = {name.lower() for text in scripts for name in re.findall(r"redis\.p?call\('(\w+)'", text)}
    assert called <= set(_RECEIVER.split())
    assert called >= set(_SCRIPTS.split())


def test_the_rights_of_an_enforcer_are_few() -> None:
    """A change of this list is a decision about hosts that face the internet."""
    assert sorted(_ENFORCER.split()) == [
        "client|setname", "cluster|slots", "exec", "get", "hdel", "hget", "hgetall", "hset", "multi", "pexpire", "ping",
        "role", "sadd", "select", "subscribe", "time", "unsubscribe", "zrange",
    ]  # fmt: skip
    assert not {"keys", "eval", "subscribe"} & set(_RECEIVER.split())
