"""Sockets bound or refused with a remedy, and the datagrams that the kernel threw away."""

from __future__ import annotations

import gc
import grp
import logging
import os
import select
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from receiver.sockets import check_free, kernel_drops, open_sockets
from shared.errors import SettingsError
from shared.settings.schema import Receiver
from tests.unit.receiver.children import as_nobody

#: A socket that cannot be bound is closed by the end of the process, which is what follows.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    gc.collect()


def receiver(*listen: str, buffer: int = 1 << 16, group: str = "") -> Receiver:
    return msgspec.structs.replace(
        Receiver(), listen=listen, receive_buffer=buffer, socket_group=group or grp.getgrgid(os.getegid()).gr_name
    )


@contextmanager
def opened(settings: Receiver) -> Iterator[Sequence[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(each) for each in open_sockets(settings)]


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def refusal(settings: Receiver) -> str:
    with pytest.raises(SettingsError) as caught:
        open_sockets(settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_endpoint_is_bound_in_order(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "new" / "log.sock"
    with opened(receiver(f"udp:127.0.0.1:{port}", f"unix:{path}", f"udp:[::1]:{port}")) as sockets:
        assert [each.family for each in sockets] == [socket.AF_INET, socket.AF_UNIX, socket.AF_INET6]
        assert sockets[0].getsockname() == ("127.0.0.1", port)
        assert sockets[2].getsockname()[:2] == ("::1", port)
        assert sockets[1].getsockname() == str(path)


def test_a_taken_port_is_refused_with_a_remedy() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        listen = f"udp:127.0.0.1:{other.getsockname()[1]}"
        assert refusal(receiver(listen)) == (
            f"receiver.listen = {listen!r}: another process listens there; stop it or choose another"
        )


def test_an_address_of_another_host_is_refused_with_a_remedy() -> None:
    assert "this host has no such address; choose one of its own" in refusal(receiver("udp:192.0.2.1:5514"))


def test_a_name_that_nobody_knows_is_refused() -> None:
    assert "cannot listen there" in refusal(receiver("udp:nosuch.invalid:5514"))


def test_a_folder_without_rights_is_refused_with_a_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with as_nobody():
        assert "this user may not; choose" in refusal(receiver(f"unix:{folder}/log.sock"))


def test_a_file_in_the_way_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    path.write_text("precious", encoding="utf-8")
    assert "a file that is no socket is in the way" in refusal(receiver(f"unix:{path}"))
    assert path.read_text(encoding="utf-8") == "precious"


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    assert "too long" in refusal(receiver(f"unix:{tmp_path / ('x' * 120)}"))


def test_a_living_receivers_socket_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    with opened(receiver(f"unix:{path}")) as [first], socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx:
        assert "another process listens there" in refusal(receiver(f"unix:{path}"))
        nginx.sendto(b"still there", str(path))
        assert first.recv(99) == b"still there"


def test_a_dead_receivers_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    for _ in range(2):
        with opened(receiver(f"unix:{path}")) as [inlet], socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx:
            nginx.sendto(b"x", str(path))
            assert inlet.recv(9) == b"x"


def test_a_unix_socket_is_for_its_owner_and_group(tmp_path: Path) -> None:
    path, mask = tmp_path / "log.sock", os.umask(0)
    try:
        with opened(receiver(f"unix:{path}")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert path.stat().st_gid == os.getegid()
            assert os.umask(0) == 0
    finally:
        os.umask(mask)


def test_a_group_that_does_not_exist_is_only_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(receiver(f"unix:{tmp_path}/log.sock", group="nosuchgroup")):
        pass
    assert "set receiver.socket_group" in caplog.text


def test_the_buffer_asked_for_is_given() -> None:
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii"))
    with opened(receiver(f"udp:127.0.0.1:{free_port()}", buffer=limit)) as [inlet]:
        assert inlet.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * limit


def test_a_buffer_that_the_kernel_does_not_give_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii"))
    with as_nobody(), opened(receiver(f"udp:127.0.0.1:{free_port()}", buffer=2 * limit)):
        pass
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = record.getMessage()
    assert f"a buffer of {limit} bytes instead of {2 * limit}" in said
    assert f"net.core.rmem_max={2 * limit}" in said


@pytest.mark.row(13)
@pytest.mark.parametrize("size", [0, 300, 8_000])
def test_the_kernels_drops_are_exactly_what_did_not_arrive(tmp_path: Path, size: int) -> None:
    ports = [free_port(), free_port()]
    listen = [f"udp:127.0.0.1:{port}" for port in ports]
    with (
        opened(receiver(*listen, f"unix:{tmp_path}/s", buffer=8_192)) as sockets,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nginx,
    ):
        assert kernel_drops(sockets) == 0
        sent = 0
        for port in ports * 100:
            nginx.sendto(bytes(size), ("127.0.0.1", port))
            sent += 1
        received = 0
        for inlet in sockets[:2]:
            while select.select([inlet], [], [], 0)[0]:
                inlet.recv(9_000)
                received += 1
        assert 0 < received < sent
        assert received + kernel_drops(sockets) == sent


def test_a_free_http_address_is_free() -> None:
    check_free(f"127.0.0.1:{free_port(socket.SOCK_STREAM)}")
    check_free(f"[::1]:{free_port(socket.SOCK_STREAM)}")


@pytest.mark.parametrize(
    ("address", "remedy"),
    [("192.0.2.1:8514", "no such address"), ("127.0.0.1:99999", "no such port"), ("nosuch.invalid:1", "cannot listen")],
)
def test_an_http_address_that_cannot_be_had_is_refused(address: str, remedy: str) -> None:
    with pytest.raises(SettingsError, match=f"receiver.http = .*{remedy}"):
        check_free(address)


def test_a_taken_http_address_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SettingsError, match="another process listens"):
        check_free(f"127.0.0.1:{other.getsockname()[1]}")
