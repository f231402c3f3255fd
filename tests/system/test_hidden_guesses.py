"""Whatever nginx does to a request on its way, a guess that a node refused is read as a wrong PIN, and nothing else is.

Each configuration is a server with a port of its own. The node's records, with nginx's request ids, are the truth.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from h2.connection import H2Connection
from h2.events import PingAckReceived

from receiver.lines import Class, Line, Reading, Rulebook
from shared.settings import Settings
from tests.lab.http1 import Connection, Header
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.nginx import Nginx
from tests.lab.process import Process
from tests.lab.tap import Tap

HERE = "127.0.0.1"

NODE, PINBAN = 8080, 5514

PATH = "/api/client/v2/conferences/meet.alice/request_token"

#: What the servers have between their braces. $uri, the method or the status are others when the line is written.
SERVERS = {
    "as advised": "location /api/ { proxy_pass http://node; }",
    "a rewrite that adds a path": """
        location /api/ { rewrite ^/api/(.*) /pexip/api/$1 break; proxy_pass http://inner; }""",
    "a rewrite to another location": """
        location /api/ { rewrite ^/api/(.*) /pexip/api/$1 last; }
        location /pexip/ { proxy_pass http://inner; }""",
    "a rewrite to a path that nobody would know": """
        location /api/ { rewrite ^/api/client/(.*) /opaque/$1 break; proxy_pass http://inner; }""",
    "a rewrite of the end": """
        location /api/ { rewrite ^/api/(.*)/request_token/?$ /api/$1/ask break; proxy_pass http://inner; }""",
    "a path that is cut off": """
        location /pexip/ { proxy_pass http://node/; }
        location /api/ { proxy_pass http://node; }""",
    "an error page of its own": """
        proxy_intercept_errors on; error_page 401 403 404 /denied.html;
        location /api/ { proxy_pass http://node; }
        location = /denied.html { internal; return 403 "no"; }""",
    "a file as error page": """
        proxy_intercept_errors on; error_page 403 404 /missing.html;
        location /api/ { proxy_pass http://node; }
        location = /missing.html { root /nonexistent; }""",
    "a named location as error page": """
        proxy_intercept_errors on; error_page 403 = @denied;
        location /api/ { proxy_pass http://node; }
        location @denied { return 403 "no"; }""",
    "an error page of the node": """
        proxy_intercept_errors on; error_page 403 404 /webapp3/denied;
        location /api/ { proxy_pass http://node; }
        location /webapp3/ { proxy_pass http://node; }""",
    "an error page of the node, named": """
        proxy_intercept_errors on; error_page 403 = @denied;
        location /api/ { proxy_pass http://node; }
        location @denied { proxy_method GET; rewrite ^ /webapp3/denied break; proxy_pass http://node; }""",
    "an error page that succeeds": """
        proxy_intercept_errors on; error_page 403 =200 /fine;
        location /api/ { proxy_pass http://node; }
        location = /fine { return 200 "fine"; }""",
    "slashes that are not merged": "merge_slashes off; location / { proxy_pass http://node; }",
    "slashes that are not merged, and an error page": """
        merge_slashes off; proxy_intercept_errors on; error_page 403 404 /webapp3/denied;
        location / { proxy_pass http://node; }""",
    "a rewrite and an error page": """
        proxy_intercept_errors on; error_page 403 404 /denied.html;
        location /api/ { rewrite ^/api/(.*) /pexip/api/$1 break; proxy_pass http://inner; }
        location = /denied.html { return 403 "no"; }""",
    "a cross-site refusal": """
        location /api/ { if ($pinban_cross_site) { return 403; } proxy_pass http://node; }""",
}

#: A server that logs as the appliance does: without what follows `state=` and its like.
APPLIANCE = "the appliance"

HTTP2 = "HTTP/2"

PORTS = {APPLIANCE: 8099, HTTP2: 8098} | {name: 8100 + number for number, name in enumerate(SERVERS)}

#: How a client may write PATH.
SPELLINGS = (
    PATH,
    PATH + "/",
    PATH + "?a=%2f//",
    PATH.replace("client", "CLIENT"),
    PATH.replace("request_", "request%5F"),
    PATH.replace("/v2", "//v2"),
    PATH.replace("/client", "/x/../client"),
    PATH.replace("/client", "/x/%2e%2E/./client"),
    PATH.replace("/conferences/", "%2Fconferences/"),
    PATH.replace("meet.alice", "meet%2Ealice"),
    PATH.replace("meet", "%6d%65%65%74") + "?" + "q" * 2_000,
    PATH.replace("/meet", "/./" * 100 + "meet"),
    "/pexip" + PATH,
    "/pexip" + PATH.replace("request_", "request%5F"),
    "http://rp" + PATH,
    "http://rp" + PATH.replace("request_", "request%5F"),
)

#: Ways that no datagram has room for.
LONG = (PATH.replace("/v2", "/" + "/%2e" * 200 + "/v2"), PATH.replace("/meet", "/./" * 300 + "meet"))

#: What a browser adds to a POST that a page of another site makes without asking the node first (Fetch, no-cors).
NO_CORS = (
    ("Origin", "https://example.org"),
    ("Content-Type", "text/plain"),
    ("Sec-Fetch-Mode", "no-cors"),
    ("Sec-Fetch-Site", "cross-site"),
)

#: What is no request for a token, however it is written.
ASIDE = (
    "/webapp3/",
    "/api/client/v2/conferences/meet.alice/refresh_token",
    "/api/client/v2/conferences/meet.a%40x.com/refresh_token",
    "/api/client/v2/conferences/meet.a%40x.com/participants/1f-2e/ack",
    "/api/client/v2/status",
)

#: What only the receiver can tell from a request for a token.
ODD = ("/api/client/v2/st%61tus", "/api//client/v2/status/", "/api/client/v2/\\", "/api/x/.y")

#: The payload of a UDP datagram over IPv6 in one Ethernet frame, bytes.
LONGEST = 1_500 - 40 - 8

SITE = """\
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;

    include {directory}/pinban.conf;

    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Request-ID $request_id;
    upstream node {{ server {node}; }}
    upstream inner {{ server 127.0.0.1:82; }}
    map $request $filtered {{
        "~^(?<before>.*(?:code|state|token|pin|data)=)[^& ]*(?<after>.*)$" "$before[FILTERED]$after";
        default $request;
    }}
    log_format pexapp '$remote_addr - $remote_user [$time_local]  "$filtered" $status $body_bytes_sent '
        '"$http_referer" "$http_user_agent" "$upstream_addr" "$upstream_status" "$upstream_response_time"';
    server {{
        listen 8099;
        access_log syslog:server=127.0.0.1:5514,nohostname,tag=pexapp pexapp;
        location / {{ proxy_pass http://node; }}
    }}
    server {{
        listen 8098 http2;
        location / {{ proxy_pass http://node; proxy_ignore_client_abort on; }}
    }}
    server {{ listen 80; }}
    server {{
        listen 82;
        access_log off;
        proxy_set_header X-Request-ID $http_x_request_id;
        location /pexip/ {{ proxy_pass http://node/; }}
        location /opaque/ {{ proxy_pass http://node/api/client/; }}
        location /api/ {{ rewrite ^(.*)/ask$ $1/request_token break; proxy_pass http://node; }}
    }}
    {server}
}}
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of some requests."""

    raw: list[bytes]
    readings: list[Reading]
    verdicts: dict[str, str]  #: of the node, by the id that nginx gave the request

    @property
    def lines(self) -> list[Line]:
        return [reading.line for reading in self.readings]

    def counted(self, rule: str) -> list[Line]:
        return [reading.line for reading in self.readings if reading.rule == rule]


class Site:
    """One nginx, one node and the socket where the receiver would be."""

    def __init__(self, directory: Path) -> None:
        self.namespace = Namespace(f"{unique_prefix()}-hidden")
        self._records = directory / "node.jsonl"
        argv = [sys.executable, "-m", "tests.lab.node", "--listen", f"{HERE}:{NODE}", "--records", str(self._records)]
        self._node = Process("node", [*argv, "--pin=meet.alice=1234"], directory, self.namespace)
        servers = (f"server {{ listen {PORTS[name]}; {inside} }}" for name, inside in SERVERS.items())
        self._nginx = Nginx(
            self.namespace,
            directory,
            receivers=[f"{HERE}:{PINBAN}"],
            node=f"{HERE}:{NODE}",
            server="\n".join(servers),
            site=SITE,
        )
        self._rulebook = Rulebook(Settings())

    def start(self, stack: ExitStack) -> None:
        """Begin; the stack ends all of it."""
        stack.callback(self.namespace.remove)
        self.namespace.create()
        self._tap = stack.enter_context(Tap((HERE, PINBAN), self.namespace))
        for process in (self._node, self._nginx):
            stack.callback(process.stop)
            process.start()
        self._node.await_ready(lambda: self.namespace.call(partial(_accepts, NODE)))
        self._nginx.await_ready()

    def ask(self, server: str, targets: Sequence[str], *headers: Header, method: str = "POST") -> Asked:
        """Ask one server for all of the targets. nginx has one worker, which sends its lines in order."""
        known = self._verdicts().keys()
        self.namespace.call(partial(_ask_all, PORTS[server], targets, headers, method))
        raw = []
        while b'"a":"the.end"' not in (line := self._tap.raw()):
            raw.append(line)
        verdicts = {id_: verdict for id_, verdict in self._verdicts().items() if id_ not in known}
        verdicts.popitem()
        return Asked(raw, [self._rulebook.read(line) for line in raw], verdicts)

    def _verdicts(self) -> dict[str, str]:
        """What the node decided, in order; of a request with an error page that it serves too, the first."""
        found: dict[str, str] = {}
        for line in self._records.read_text().splitlines():
            record = json.loads(line)
            found.setdefault(record["id"], record["outcome"])
        return found

    def reset(self, streams: int) -> Asked:
        """Begin so many guesses by HTTP/2 and reset each before its body is there."""
        self.namespace.call(partial(_begin_and_reset, streams))
        return self.ask("as advised", [])


def _begin_and_reset(streams: int) -> None:
    with socket.create_connection((HERE, PORTS[HTTP2]), 5) as connection:
        client = H2Connection()
        client.initiate_connection()
        for _ in range(streams):
            stream = client.get_next_available_stream_id()
            head = {":method": "POST", ":scheme": "http", ":authority": "rp", ":path": PATH, "pin": "9999"}
            client.send_headers(stream, head.items(), end_stream=False)
            client.reset_stream(stream)
        client.ping(b"all read")
        connection.sendall(client.data_to_send())
        while not any(isinstance(event, PingAckReceived) for event in client.receive_data(connection.recv(65_536))):
            pass


def _accepts(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((HERE, port), 1).close()
        return True
    return False


def _ask_all(port: int, targets: Sequence[str], headers: Sequence[Header], method: str) -> None:
    """Ask for all, and then for a room whose line shows that there is no other."""
    for target in targets:
        with Connection(HERE, port) as connection:
            assert connection.ask(method, target, headers), target
    with Connection(HERE, PORTS["as advised"]) as connection:
        assert connection.ask("POST", PATH.replace("meet.alice", "the.end"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("hidden"))
    with ExitStack() as stack:
        site.start(stack)
        yield site


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_guess_that_a_node_refused_is_a_wrong_pin(site: Site, server: str) -> None:
    asked = site.ask(server, SPELLINGS, ("pin", "9999"))
    refused = {id_ for id_, verdict in asked.verdicts.items() if verdict == "wrong"}
    assert len(refused) >= len(SPELLINGS) - 3, "all but those that this server has no location for"
    assert {line.id for line in asked.counted("pin")} == refused
    assert {line.alias for line in asked.counted("pin")} == {"meet.alice"}


def test_a_path_too_long_for_a_datagram_is_a_guess_all_the_same(site: Site, server: str) -> None:
    asked = site.ask(server, LONG, ("pin", "9999"))
    assert list(asked.verdicts.values()) == ["wrong"] * len(LONG)
    assert {line.id for line in asked.counted("pin")} == asked.verdicts.keys()


def test_prompts_and_joins_are_no_guesses(site: Site, server: str) -> None:
    for verdict, meaning, headers in (("prompt", Class.PIN_PROMPT, ()), ("joined", Class.JOINED, (("pin", "1234"),))):
        asked = site.ask(server, SPELLINGS, *headers)
        ids = {id_ for id_, found in asked.verdicts.items() if found == verdict}
        assert ids
        assert {line.id for line in asked.lines if line.meaning is meaning} == ids
        assert not asked.counted("pin")


def test_a_page_of_another_site_gets_nobody_counted(site: Site, server: str) -> None:
    rooms = [PATH.replace("meet.alice", f"gone{number}") for number in range(3)]
    devices = [room.replace("conferences", "registrations") for room in rooms]
    by_a_page = site.ask(server, [*rooms, *devices], *NO_CORS)
    assert not [reading for reading in by_a_page.readings if reading.rule in ("pin", "scan", "registration")]
    asked = 0 if server == "a cross-site refusal" else 6
    assert len(by_a_page.verdicts) == asked
    by_hand = site.ask(server, [*rooms, *devices], ("Authorization", "x-pexip-basic YTpi"))
    assert [reading.rule for reading in by_hand.readings] == ["scan"] * 3 + ["registration"] * 3


def test_other_requests_are_not_counted(site: Site, server: str) -> None:
    odd = site.ask(server, ODD, ("pin", "9999"))
    assert {reading.rule for reading in odd.readings} == {None}
    assert {line.meaning for line in odd.lines} == {Class.OTHER}
    assert not site.ask(server, (*ASIDE, *ODD), method="GET").lines
    assert not site.ask(server, ASIDE, ("pin", "9999")).lines


def test_no_line_is_longer_than_a_packet_takes(site: Site, server: str) -> None:
    controls, quotes = "%01" * 600, '"' * 600
    targets = (
        PATH.replace("meet.alice", controls),
        PATH.replace("meet.alice", quotes),
        f"/api//{quotes}",
        f"/{LONG[0]}",
    )
    assert max(map(len, site.ask(server, targets, ("pin", "9999")).raw)) < LONGEST


def test_streams_that_are_reset_before_a_node_is_asked_are_no_guesses(site: Site) -> None:
    asked = site.reset(20)
    assert not asked.verdicts, "no node was asked"
    assert len(asked.raw) == 20
    assert all(b'"s":"499","us":""' in raw and b'"p":"1"' in raw for raw in asked.raw)
    assert {reading.rule for reading in asked.readings} == {None}


def test_a_path_that_the_appliance_cuts_off_its_log_hides_no_guess(site: Site) -> None:
    ways = [way + PATH for way in ("/state=/..", "/x/code=y/../..", "/a&pin=b/..", "/token=%2F..")]
    guessed = site.ask(APPLIANCE, ways, ("pin", "9999"))
    assert list(guessed.verdicts.values()) == ["wrong"] * len(ways)
    assert [(reading.rule, reading.line.took_ms >= 0) for reading in guessed.readings] == [("pin", True)] * len(ways)
    assert all(b"[FILTERED]" in raw and b"request_token" not in raw for raw in guessed.raw)
    asked = site.ask(APPLIANCE, [*ways, "/webapp3/?state=x", "/state=x"])
    assert {reading.rule for reading in asked.readings} == {None}
