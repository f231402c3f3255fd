"""Redis behind TLS with client certificates: what works, and one clear line, tried again, for whatever does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from pinban.cli import main
from shared.errors import SettingsError, StoreError
from shared.settings.schema import Redis, Settings
from shared.store.connection import PATIENT_S, connect
from shared.store.tls import check_secrets
from tests.lab.certificates import Authority
from tests.lab.one_host import OneHost, public_folder
from tests.lab.process import Process, wait_until
from tests.lab.redis_server import RedisServer

PORT = 6380
URL = f"rediss://127.0.0.1:{PORT}/0"


class Files:
    """Every certificate that the tests need, as (certificate, key)."""

    def __init__(self, directory: Path) -> None:
        self.ca, self.stranger = Authority(directory), Authority(directory, "stranger")
        self.server = self.ca.sign("server", alternative="IP:127.0.0.1")
        self.elsewhere = self.ca.sign("elsewhere", alternative="IP:192.0.2.1,DNS:redis.example.com")
        self.expired = self.ca.sign("expired", alternative="IP:127.0.0.1", on="2020-01-01")
        self.too_early = self.ca.sign("early", alternative="IP:127.0.0.1", on="2040-01-01")
        self.client = self.ca.sign("client")
        self.expired_client = self.ca.sign("expired-client", on="2020-01-01")
        self.foreign_client = self.stranger.sign("foreign")

    def directives(self, pair: tuple[Path, Path]) -> dict[str, str]:
        """Of redis.conf, for a server with this certificate."""
        return {
            "tls-port": str(PORT),
            "tls-cert-file": str(pair[0]),
            "tls-key-file": str(pair[1]),
            "tls-ca-cert-file": str(self.ca.certificate),
            "tls-auth-clients": "yes",
        }

    def told(self, client: tuple[Path, Path] | None, ca: Path | None = None, url: str = URL) -> dict[str, Any]:
        """The section [redis] of the settings."""
        table: dict[str, Any] = {"url": url, "ca_file": str(ca or self.ca.certificate)}
        if client:
            table |= {"cert_file": str(client[0]), "key_file": str(client[1])}
        return table


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with public_folder() as place:
        yield place


@pytest.fixture(scope="module")
def files(place: Path) -> Files:
    return Files(place / "tls")


@pytest.fixture
def host(place: Path, files: Files) -> Iterator[OneHost]:
    """A namespace for servers; nothing is started in it."""
    with OneHost(place / "bare", redis=files.directives(files.server), start=False) as host:
        yield host


def server(host: OneHost, place: Path, files: Files, pair: tuple[Path, Path]) -> RedisServer:
    """Started in the namespace, on TLS alone."""
    server = RedisServer(place / "redis", host.namespace, bind="127.0.0.1", port=0, more=files.directives(pair))
    server.start()
    server.await_ready()
    return server


def outcome(host: OneHost, table: dict[str, Any]) -> str:
    """What three commands on one client say; "" when all are well."""
    settings = msgspec.structs.replace(Settings(), redis=Redis(**table))

    def ask() -> set[str]:
        store = connect(settings, "test", PATIENT_S)
        said = set()
        for _ in range(3):
            try:
                store.call("PING")
                said.add("")
            except StoreError as error:
                said.add(str(error).partition(": ")[2].partition(" (")[0])
        store.close()
        return said

    return "; ".join(sorted(host.namespace.call(ask)))


def test_with_the_right_certificates_it_works(host: OneHost, place: Path, files: Files) -> None:
    running = server(host, place, files, files.server)
    try:
        assert outcome(host, files.told(files.client)) == ""
        assert outcome(host, files.told(files.client, url=f"redis://127.0.0.1:{PORT}/0") | {"tls": True}) == ""
        assert outcome(host, files.told(files.client, files.stranger.certificate)) == (
            "the server's certificate is signed by nobody we trust; see redis.ca_file"
        )
        assert "is signed by nobody we trust" in outcome(host, files.told(files.client) | {"ca_file": ""})
        refused = "it refuses our certificate, or wants one and got none; see redis.cert_file and redis.key_file"
        assert outcome(host, files.told(None)) == refused
        assert outcome(host, files.told(files.foreign_client)) == refused
        assert "cannot be read" in outcome(host, files.told((place / "none.pem", files.client[1])))
        assert outcome(host, {"url": f"redis://127.0.0.1:{PORT}/0"}).startswith("cannot be reached")
    finally:
        running.stop()


def test_an_expired_certificate_of_ours_is_told_as_such_or_as_refused(host: OneHost, place: Path, files: Files) -> None:
    """By TLS 1.3 a server refuses a client after the handshake, and its word may be lost with the connection."""
    running = server(host, place, files, files.server)
    try:
        settings = msgspec.structs.replace(Settings(), redis=Redis(**files.told(files.expired_client)))
        store = host.namespace.call(lambda: connect(settings, "test", PATIENT_S))
        for _ in range(3):
            with pytest.raises(StoreError, match=r"it refuses our certificate, .* redis\.cert_file"):
                host.namespace.call(lambda: store.call("PING"))
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("elsewhere", "the server's certificate is for another name than redis.url has"),
        ("expired", "the server's certificate has expired; renew it there"),
        ("too_early", "the server's certificate is not valid yet; see the clocks"),
    ],
)
def test_a_server_with_a_wrong_certificate_is_not_believed(
    host: OneHost, place: Path, files: Files, pair: str, said: str
) -> None:
    running = server(host, place, files, getattr(files, pair))
    try:
        assert outcome(host, files.told(files.client)) == said
    finally:
        running.stop()


def test_sentinels_and_the_master_that_they_name_are_spoken_to_in_tls(host: OneHost, place: Path, files: Files) -> None:
    running = server(host, place, files, files.server)
    directives = files.directives(files.server) | {"tls-port": "26380", "tls-replication": "yes", "port": "0"}
    lines = [*(f"{key} {value}" for key, value in directives.items()), f"dir {place}", "protected-mode no"]
    (place / "sentinel.conf").write_text("\n".join([*lines, f"sentinel monitor house 127.0.0.1 {PORT} 1"]) + "\n")
    command = ["redis-server", str(place / "sentinel.conf"), "--sentinel"]
    sentinel = Process("sentinel", command, place, host.namespace)
    sentinel.start()
    try:
        table = files.told(files.client, url="sentinel://127.0.0.1:26380/house") | {"tls": True}
        wait_until(lambda: outcome(host, table) == "", "the sentinel names the master, and both believe us")
        assert outcome(host, table | {"tls": False, "ca_file": "", "cert_file": "", "key_file": ""}) != ""
        assert outcome(host, table | {"ca_file": str(files.stranger.certificate)}) != ""
        assert outcome(host, table | {"cert_file": "", "key_file": ""}) != ""
    finally:
        sentinel.stop()
        running.stop()


def test_a_cluster_is_spoken_to_in_tls(host: OneHost, place: Path, files: Files) -> None:
    more = files.directives(files.server) | {"cluster-enabled": "yes", "tls-cluster": "yes"}
    node = RedisServer(place / "node", host.namespace, bind="127.0.0.1", port=0, more=more)
    node.start()
    try:
        node.await_ready()
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        table = files.told(files.client, url=f"cluster://127.0.0.1:{PORT}") | {"tls": True}
        wait_until(lambda: outcome(host, table) == "", "the cluster answers")
        assert "signed by nobody we trust" in outcome(host, table | {"ca_file": str(files.stranger.certificate)})
    finally:
        node.stop()


@pytest.mark.row(28)
def test_both_daemons_wait_for_a_good_certificate_and_then_ban(place: Path, files: Files) -> None:
    """They start before anything is right: the server's certificate has expired, and then is for another name."""
    shown, key = place / "shown.pem", place / "shown.key"

    def show(pair: tuple[Path, Path]) -> None:
        shutil.copy(pair[0], shown)
        shutil.copy(pair[1], key)

    show(files.expired)
    told = {"redis": files.told(files.client)}
    with OneHost(
        place / "whole", redis=files.directives((shown, key)), receiver=told, enforcer=told, start=False
    ) as host:
        host.redis.start()
        host.redis.await_ready()
        host.receiver.start()
        host.enforcer.start()
        daemons = (host.receiver, host.enforcer)
        for process in daemons:
            wait_until(lambda log=process.log: log.exists() and "certificate has expired" in log.read_text(), "expired")  # type: ignore[misc]
        host.receiver.await_ready(lambda: host.receiver.status("/healthz") == 200)
        assert host.receiver.status("/readyz") == 503
        workers = host.receiver.workers()
        host.fail("203.0.113.1", 5)

        show(files.server)
        with host.redis.client() as client:
            for setting, path in (("tls-cert-file", shown), ("tls-key-file", key)):
                client.config_set(setting, str(path))
        host.await_ban("203.0.113.1")
        host.await_well()
        assert host.receiver.workers() == workers
        for process in daemons:
            assert "Traceback" not in process.log.read_text()
        with host.redis.client() as client:
            encrypted = [each for each in client.client_list() if each["name"].startswith("pinban-")]
            assert encrypted
            assert all(each["laddr"].endswith(f":{PORT}") for each in encrypted)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"ca_file": "/none.pem"}, "redis.ca_file = '/none.pem' cannot be read (No such file or directory); make it"),
        ({"ca_file": __file__}, "cannot be used"),
        ({"cert_file": __file__}, "cannot be used"),
        ({"key_file": "x"}, "redis.key_file goes with a certificate; set redis.cert_file"),
        ({"url": "redis://x", "ca_file": "x"}, "redis.ca_file is for TLS; write redis.tls = true, or rediss://"),
        ({"url": "redis://x", "key_file": "x"}, "redis.key_file is for TLS"),
        ({"url": "unix:///x", "tls": True}, "redis.tls is not for a unix socket"),
        ({"url": "redis://u:p@x", "password_file": "x"}, "redis.url names a user already; write redis.username"),
        ({"password_file": "/none"}, "redis.password_file = '/none' cannot be read (No such file or directory)"),
    ],
)
def test_files_that_do_not_fit_stop_the_start_with_one_line(table: dict[str, Any], said: str) -> None:
    settings = msgspec.structs.replace(Settings(), redis=Redis(**({"url": URL} | table)))
    with pytest.raises(SettingsError) as caught:
        check_secrets(settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_certificate_is_told(files: Files) -> None:
    settings = msgspec.structs.replace(Settings(), redis=Redis(**files.told((files.client[0], files.server[1]))))
    with pytest.raises(SettingsError, match=r"redis.cert_file = .* cannot be used with redis.key_file"):
        check_secrets(settings)
    check_secrets(msgspec.structs.replace(Settings(), redis=Redis(**files.told(files.client))))


@pytest.mark.parametrize("words", [["status"], ["check"]])
def test_the_operators_command_tells_it_in_one_line(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "pinban.toml").write_text('[redis]\nurl = "rediss://127.0.0.1:1"\nca_file = "/none.pem"\n')
    done = CliRunner().invoke(main, ["-c", str(tmp_path / "pinban.toml"), *words])
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "redis.ca_file = '/none.pem' cannot be read" in done.output
