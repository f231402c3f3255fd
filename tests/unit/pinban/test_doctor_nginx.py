"""What `pinban doctor` finds in nginx's configuration: guesses that hide, and guessers whom a ban does not drop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinban.doctor.blocks import milliseconds
from pinban.doctor.finding import Finding
from pinban.doctor.nginx import examine
from shared.settings.schema import Enforcer
from tests.lab.nginx import SNIPPET
from tests.unit.pinban.nginx_samples import (
    ERROR_PAGE,
    GOOD,
    HANGS_UP,
    OLD_FORMAT,
    PEXAPP_FORMAT,
    QUIC,
    REWRITE,
    SAMPLES,
    SECOND_NODE,
    SLASHES,
    TWO_PINS,
    added,
    changed,
)

LOG = "access_log syslog:server=127.0.0.1:5514,nohostname,tag=pinban pinban if=$pinban_kind;"

#: Instead of the snippet's own log: what a site logs with that did not change to the new one.
FORMATS = {"ours": "", "old": OLD_FORMAT, "text": PEXAPP_FORMAT}


def findings(folder: Path, http: str, log: str = "ours", **enforcer: Any) -> list[Finding]:
    """Of an nginx.conf with this in its http block, behind the shipped snippet with another log or its own."""
    shipped = SNIPPET.read_text()
    if log != "ours":
        line = next(line for line in shipped.splitlines() if line.startswith("access_log "))
        shipped = shipped.replace(line, FORMATS[log])
    (folder / "pinban.conf").write_text(shipped)
    file = folder / "nginx.conf"
    file.write_text(f"events {{}}\nhttp {{\ninclude {folder}/pinban.conf;\n{http}\n}}\n")
    return list(examine(file, Enforcer(**enforcer)))


def states(folder: Path, http: str, words: str, log: str = "ours", **enforcer: Any) -> list[str]:
    """The states of the findings with these words."""
    return [each.state for each in findings(folder, http, log, **enforcer) if words in each.text]


def test_the_shipped_snippet_around_a_good_site_is_good(tmp_path: Path) -> None:
    [good] = findings(tmp_path, "access_log /var/log/nginx/access.log;\n" + GOOD)
    assert good.state == "ok"
    assert "sends every request for a conference token to 127.0.0.1:5514" in good.text


@pytest.mark.parametrize(
    ("site", "words", "ours", "old", "text"),
    [
        (HANGS_UP, "logs 499", "note", "bad", "bad"),
        (TWO_PINS, "two pin headers", "bad", "bad", ""),
        (SECOND_NODE, "http_403", "note", "bad", "bad"),
        (REWRITE, "rewrite changes", "", "bad", "bad"),
        (SAMPLES["rewrite in a condition"], "rewrite changes", "", "bad", "bad"),
        (SAMPLES["rewrite before"], "rewrite changes", "", "bad", "bad"),
        (SAMPLES["redirect"], "rewrite changes", "", "", ""),
        (ERROR_PAGE, "error_page takes", "", "bad", "bad"),
        (ERROR_PAGE, "hides the size", "note", "", ""),
        (added("proxy_intercept_errors on; error_page 404 /gone.html;"), "hides the size", "", "", ""),
        (added("error_page 403 /denied.html;"), "error_page takes", "", "", ""),
        (added("proxy_intercept_errors on; error_page 500 /oops.html;"), "error_page takes", "", "", ""),
        (SLASHES, "merge_slashes off", "", "bad", "note"),
        (SAMPLES["read timeout"], "tells a guesser", "bad", "bad", "bad"),
        (SAMPLES["read timeout around"], "tells a guesser", "bad", "bad", "bad"),
        (SAMPLES["read timeout mended"], "tells a guesser", "", "", ""),
        (added("proxy_read_timeout 10s;"), "tells a guesser", "", "", ""),
        (added("proxy_read_timeout $time;"), "tells a guesser", "", "", ""),
        (SAMPLES["connect timeout"], "proxy_connect_timeout 5", "note", "note", "note"),
        (added("limit_conn other 9;"), "under way", "bad", "bad", "bad"),
        (added("limit_conn pinban_blocks 9; limit_conn pinban_clients 9;"), "under way", "", "", ""),
        (SAMPLES["send timeout"], "proxy_send_timeout 5s", "note", "note", "note"),
    ],
)
def test_what_hides_a_guess_is_bad_by_what_the_format_can_see(
    tmp_path: Path, site: str, words: str, ours: str, old: str, text: str
) -> None:
    for log, state in (("ours", ours), ("old", old), ("text", text)):
        assert states(tmp_path, site, words, log) == ([state] if state else []), log


def test_each_finding_has_a_place_and_a_remedy(tmp_path: Path) -> None:
    for site in SAMPLES.values():
        for log in FORMATS:
            for each in findings(tmp_path, site, log):
                assert str(tmp_path) in each.text
                words = each.text.replace(";", " ").replace(".", " ").lower().split()
                assert each.state == "ok" or {"set", "add", "use", "replace", "take", "make", "do"} & set(words), each


def test_a_snippet_of_an_earlier_version_must_be_replaced(tmp_path: Path) -> None:
    assert states(tmp_path, GOOD, "earlier pinban.conf", "old") == ["bad"]
    assert states(tmp_path, GOOD, "sends every request", "old") == []
    assert states(tmp_path, REWRITE, "replace pinban.conf", "old") == ["bad"]


def test_a_text_format_beside_ours_is_only_noted_and_hides_nothing(tmp_path: Path) -> None:
    both = PEXAPP_FORMAT + LOG + ERROR_PAGE
    assert states(tmp_path, both, "too long for a datagram") == ["note"]
    assert states(tmp_path, both, "error_page takes") == []


def test_only_what_passes_requests_for_tokens_on_is_looked_at(tmp_path: Path) -> None:
    static = "server { location /static { proxy_pass http://a; rewrite ^ /x break; proxy_read_timeout 1s; } }"
    assert [each.state for each in findings(tmp_path, static, "text")] == ["bad"], "the format alone"
    for place in ("/", "/api", "~ ^/api/client/", "= /api/client/v2/conferences/x/request_token", "@node", "^~ /api/"):
        assert states(tmp_path, changed("location /api/", f"location {place}"), "logs 499") == []
        assert states(tmp_path, HANGS_UP.replace("location /api/", f"location {place}"), "logs 499") == ["note"], place


def test_headers_of_a_block_replace_all_that_it_inherits(tmp_path: Path) -> None:
    around = changed("proxy_set_header Host $host;\n        proxy_set_header pin $http_pin;", "")
    around = around.replace("listen 80;", "listen 80; proxy_set_header pin $http_pin;")
    assert states(tmp_path, around, "two pin headers") == []
    replaced = around.replace("proxy_pass ", "proxy_set_header Host $host; proxy_pass ")
    assert states(tmp_path, replaced, "two pin headers") == ["bad"]


def test_who_may_refuse_other_sites_pages_is_told_how(tmp_path: Path) -> None:
    offers = "map $http_sec_fetch_site $pinban_cross_site { cross-site 1; default 0; }\n"
    assert states(tmp_path, offers + GOOD, "any web page") == []
    assert states(tmp_path, offers + SAMPLES["cross site"], "any web page") == ["note"]


@pytest.mark.parametrize(
    ("site", "enforcer", "words", "found"),
    [
        (SAMPLES["other port"], {}, "port 8443", ["bad"]),
        (SAMPLES["other port"], {"ports": (80, 443, 8443)}, "port", []),
        (SAMPLES["other port"], {"ports": "all"}, "port", []),
        (SAMPLES["other ports"], {}, "port 8000, 8001, 8002", ["bad"]),
        (SAMPLES["local ports"], {}, "port", []),
        (changed("listen 80;", "listen unix:/run/site.sock; listen localhost:8099;"), {}, "port", []),
        (changed("listen 80;", "listen 10.0.0.1;"), {"ports": (443,)}, "port 80", ["bad", "bad"]),
        (GOOD.replace("listen", "#"), {"ports": (443,)}, "port 80", ["bad"]),
        (QUIC, {}, "HTTP/3", ["bad"]),
        (QUIC, {"protocol": "all", "ports": "all"}, "HTTP/3", []),
        (GOOD, {"protocol": "udp"}, "by TCP", ["bad", "bad", "bad"]),
        ("server { listen 8443; location /static { proxy_pass http://a; } }", {}, "port", []),
    ],
)
def test_what_a_ban_does_not_drop_is_bad(
    tmp_path: Path, site: str, enforcer: dict[str, Any], words: str, found: list[str]
) -> None:
    assert states(tmp_path, site, words, **enforcer) == found


@pytest.mark.parametrize("name", ["balancers", "any balancer", "proxy protocol"])
def test_addresses_by_somebody_elses_word_are_noted_once(tmp_path: Path, name: str) -> None:
    assert states(tmp_path, SAMPLES[name], "a ban drops nobody here") == ["note"]


def test_a_line_behind_an_include_is_named_with_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "api.conf").write_text("proxy_read_timeout 2s;\n")
    site = "set_real_ip_from 10.0.0.0/8;\n" + added(f"include {tmp_path}/api.conf; proxy_send_timeout 5s;")
    _, read, send, balancer = (each.text.partition(": ")[0] for each in findings(tmp_path, site))
    assert read == f"{tmp_path}/api.conf:1"
    assert send == f"{tmp_path}/nginx.conf:10", "the include stands in a location"
    assert balancer == f"{tmp_path}/nginx.conf:4", "the snippet stands before it"


def test_addresses_by_anybodys_word_are_bad(tmp_path: Path) -> None:
    assert states(tmp_path, SAMPLES["any balancer"], "believes everybody") == ["bad", "bad"]
    assert states(tmp_path, SAMPLES["balancers"], "believes everybody") == []


@pytest.mark.parametrize("log", ["access_log off;", "access_log /var/log/api.log;", "if ($bad) { access_log off; }"])
def test_a_log_that_replaces_the_inherited_one_is_bad(tmp_path: Path, log: str) -> None:
    assert states(tmp_path, added(log), "replaces all that it inherits") == ["bad"]
    assert states(tmp_path, added(f"{log} {LOG}") if "if" not in log else GOOD, "replaces all") == []


def test_an_nginx_that_tells_nobody_is_bad(tmp_path: Path) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text("events {}\nhttp { access_log /var/log/nginx/access.log; }\n")
    [text] = [each.text for each in examine(file, Enforcer()) if each.state == "bad"]
    assert "no access_log goes to syslog" in text


@pytest.mark.parametrize("format_", ["", "combined", "pexapp", "pinban_log"])
def test_a_format_that_clients_can_make_too_long_is_bad(tmp_path: Path, format_: str) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text(f"""events {{}}\nhttp {{ log_format pexapp '$remote_addr "$request" "$http_user_agent"';
    access_log syslog:server=10.0.0.5:5514,nohostname {format_}; }}""")
    [text] = [each.text for each in examine(file, Enforcer()) if each.state == "bad"]
    assert "too long for a datagram" in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http {",
        "events {}",
        "}",
        "http { include /nowhere/at/all.conf; }",
        "\0",
        "http { server { listen; rewrite; location { proxy_pass; rewrite; error_page; access_log; } } }",
        "http { server { location /api { proxy_pass; proxy_set_header; proxy_read_timeout; if { rewrite; } } } }",
    ],
)
def test_whatever_the_file_holds_it_is_told_and_never_raised(tmp_path: Path, text: str) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text(text)
    assert any(finding.state == "bad" for finding in examine(file, Enforcer()))


@pytest.mark.parametrize(
    ("text", "ms"),
    [("5", 5_000), ("5s", 5_000), ("500ms", 500), ("1m", 60_000), ("1m 30s", 90_000), ("1m30s", 90_000), ("$t", None),
     ("", None), ("5x", None), ("s", None)],
)  # fmt: skip
def test_lengths_of_time_are_read_as_nginx_does(text: str, ms: int | None) -> None:
    assert milliseconds(text) == ms
