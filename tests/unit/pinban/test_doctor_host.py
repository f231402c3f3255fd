"""What `pinban doctor` finds on the host itself."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pinban.doctor import examination
from pinban.doctor.finding import Finding
from shared.settings.schema import Settings

UNIX = msgspec.structs.replace(
    Settings(),
    receiver=msgspec.structs.replace(Settings().receiver, listen=("udp:127.0.0.1:5514", "unix:/run/log.sock")),
)


def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, settings: Settings) -> list[Finding]:
    """The findings about a kernel with this net.unix.max_dgram_qlen."""
    file = tmp_path / "max_dgram_qlen"
    file.write_text(text)
    monkeypatch.setattr(examination, "_MAX_DGRAM_QLEN", file)
    return [each for each in examination._host(settings) if "max_dgram_qlen" in each.text]


def test_a_short_queue_of_a_unix_socket_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [finding] = queue(monkeypatch, tmp_path, "10\n", UNIX)
    assert finding.state == "bad"
    assert "unix:/run/log.sock" in finding.text
    assert "sysctl net.unix.max_dgram_qlen=512" in finding.text


@pytest.mark.parametrize(("text", "settings"), [("512\n", UNIX), ("10\n", Settings()), ("x", UNIX), ("", UNIX)])
def test_a_long_one_or_none_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, settings: Settings
) -> None:
    assert queue(monkeypatch, tmp_path, text, settings) == []


def test_a_kernel_that_tells_nothing_is_no_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examination, "_MAX_DGRAM_QLEN", tmp_path / "nowhere")
    monkeypatch.setattr(examination, "_RMEM_MAX", tmp_path / "nowhere")
    assert list(examination._host(UNIX)) == []
