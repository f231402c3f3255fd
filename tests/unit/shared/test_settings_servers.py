"""What redis.url says when it names more than one server."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings.reading import load
from shared.settings.schema import Redis, Settings
from shared.settings.servers import Servers, parse_servers
from shared.store.connection import check_redis, shown_url
from shared.store.tls import check_secrets


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("sentinel://h1/house", Servers("sentinel", (("h1", 26_379),), "house")),
        ("sentinel://h1,h2:5,h3/house/2", Servers("sentinel", (("h1", 26_379), ("h2", 5), ("h3", 26_379)), "house", 2)),
        ("sentinel://[2001:db8::1]:7,h2/a%20b", Servers("sentinel", (("2001:db8::1", 7), ("h2", 26_379)), "a b")),
        ("cluster://h1:7000, h2", Servers("cluster", (("h1", 7_000), ("h2", 6_379)))),
        ("cluster://[::1]/", Servers("cluster", (("::1", 6_379),))),
        ("cluster://h1/0", Servers("cluster", (("h1", 6_379),))),
        ("cluster://:p%40s@h1", Servers("cluster", (("h1", 6_379),), credentials={"password": "p@s"})),
        (
            "sentinel://who:a@b/c@h1/house",
            Servers("sentinel", (("h1", 26_379),), "house", credentials={"username": "who", "password": "a@b/c"}),
        ),
        ("redis://h1,h2/0", None),
        ("unix:///sentinel", None),
    ],
)
def test_what_a_url_names(url: str, servers: Servers | None) -> None:
    assert parse_servers(url) == servers


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("sentinel://h1,h2", "names no master"),
        ("sentinel://h1,h2/", "names no master"),
        ("sentinel://h1/house/x", "sentinel://HOST:PORT,HOST/NAME/DB"),
        ("sentinel:///house", "sentinel://HOST:PORT,HOST/NAME/DB"),
        ("sentinel://:hunter2@/house", "sentinel://HOST:PORT,HOST/NAME/DB"),
        ("sentinel://h1:x/house", "'h1:x' is not HOST:PORT"),
        ("sentinel://h1,,h2/house", "'' is not HOST:PORT"),
        ("cluster://h1:99999", "'h1:99999' is not HOST:PORT"),
        ("cluster://h1:0", "'h1:0' is not HOST:PORT"),
        ("cluster://h1/3", "no database numbers"),
    ],
)
def test_a_url_that_names_nothing_is_a_bad_setting_and_shows_no_password(tmp_path: Path, url: str, remedy: str) -> None:
    file = tmp_path / "pinban.toml"
    file.write_text(f'redis.url = "{url}"\n', encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(str(file), {})
    said = str(caught.value)
    assert said.startswith(f"{file}: redis.url: ")
    assert remedy in said
    assert "hunter2" not in said
    assert "\n" not in said


def test_the_urls_are_shown_without_their_passwords() -> None:
    assert shown_url(Settings(redis=Redis(url="sentinel://who:a@b/c@h1,h2/house"))) == "sentinel://h1,h2/house"


@pytest.mark.parametrize("url", ["redis://h:x/0", "redis://h:99999/0", "redis://h/0?foo=1"])
def test_a_url_that_no_connection_can_be_made_with_stops_the_start(url: str) -> None:
    """Else each worker would end at once, and the arbiter would start another, without end."""
    with pytest.raises(SettingsError, match=r"redis\.url = .* is not understood"):
        check_redis(Settings(redis=Redis(url=url)))


def test_a_sentinels_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    redis = Redis(url="sentinel://h1/house", sentinel_password_file=str(missing))
    with pytest.raises(SettingsError, match=r"redis\.sentinel_password_file = .*missing.* cannot be read"):
        check_secrets(Settings(redis=redis))
