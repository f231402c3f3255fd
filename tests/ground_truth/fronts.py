"""What operators put before their nodes: each front is a server of nginx with ports of its own. Values only."""

from __future__ import annotations

from dataclasses import dataclass

#: The load balancer's address; it writes the address of its client into X-Forwarded-For.
BALANCER = "127.0.0.99"

#: A server that answers every request with 200: the page that people see instead of a 403.
PAGES = 82

_BLOCK = """\
    server {{
        listen {http1};
        listen [::]:{http1};
        listen {http2} http2;
        listen [::]:{http2} http2;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Request-ID $request_id;
        {server}
        location / {{
            {location}
            proxy_pass http://{upstream};
        }}
        location /api/client/v66/ {{
            deny all;
        }}
    }}
"""


@dataclass(frozen=True, slots=True)
class Front:
    """One configuration of nginx."""

    name: str
    http1: int  #: a port; the next one is for HTTP/2
    server: str = "proxy_ignore_client_abort on;"  #: into the server block
    location: str = ""  #: into the location that asks the nodes
    upstream: str = "node"
    waits: bool = True  #: for the node when the client is gone
    one_pin: bool = False  #: the node gets the pin header that is logged
    balanced: bool = False  #: clients may come by way of the balancer
    rewritten: bool = False  #: what the node is asked for is not what the client asked for
    unmerged: bool = False  #: nginx leaves two slashes two
    own_pages: bool = False  #: nginx answers in a refusal's place: the size of the body is not the node's

    @property
    def http2(self) -> int:
        return self.http1 + 1

    @property
    def block(self) -> str:
        """Its configuration."""
        return _BLOCK.format(
            http1=self.http1, http2=self.http2, server=self.server, location=self.location, upstream=self.upstream
        )


_WAIT = "proxy_ignore_client_abort on;"

#: What nginx/pinban.conf advises, and less.
ADVISED = Front("advised", 100)
ONE_PIN = Front("one-pin", 102, f"{_WAIT} proxy_set_header pin $http_pin;", one_pin=True)
PLAIN = Front("plain", 104, "", waits=False)

#: The client asks for /api/, the nodes are asked for /pexip/api/.
REWRITE_BREAK = Front("rewrite-break", 106, location="rewrite ^/api/(.*) /pexip/api/$1 break;", rewritten=True)
REWRITE_LAST = Front(
    "rewrite-last",
    108,
    _WAIT + " location /api/ { rewrite ^/api/(.*) /pexip/api/$1 last; }",
    rewritten=True,
)

#: nginx answers itself when a node refuses: from a file, or with what another server says.
ERROR_PAGE = Front(
    "error-page",
    110,
    _WAIT + " proxy_intercept_errors on; error_page 403 404 /denied.html;"
    " location = /denied.html { internal; return 200 '<!doctype html><title>No</title>'; }",
    own_pages=True,
)
PROXIED_PAGE = Front(
    "proxied-page",
    112,
    _WAIT + " proxy_intercept_errors on; error_page 403 = @page;"
    f" location @page {{ proxy_pass http://127.0.0.1:{PAGES}; }}",
    own_pages=True,
)
#: Both: the path is changed before the node is asked and again when it refuses.
REWRITTEN_PAGE = Front("rewritten-page", 120, ERROR_PAGE.server, REWRITE_BREAK.location, rewritten=True, own_pages=True)

BALANCED = Front(
    "balanced", 114, f"{_WAIT} set_real_ip_from {BALANCER}; real_ip_header X-Forwarded-For;", balanced=True
)
UNMERGED = Front("unmerged", 116, f"{_WAIT} merge_slashes off;", unmerged=True)

#: One of its nodes is dead, so that a guess may be answered by the second that is asked.
RETRIED = Front(
    "retried",
    118,
    f"{_WAIT} proxy_next_upstream error timeout http_500 http_502 http_503 http_504 non_idempotent;",
    upstream="shaky",
)

#: All that wait for the node.
WAITING = (
    ADVISED,
    ONE_PIN,
    REWRITE_BREAK,
    REWRITE_LAST,
    ERROR_PAGE,
    PROXIED_PAGE,
    REWRITTEN_PAGE,
    BALANCED,
    UNMERGED,
    RETRIED,
)

FRONTS = {front.name: front for front in (*WAITING, PLAIN)}
