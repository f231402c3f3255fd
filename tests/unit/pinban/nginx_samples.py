"""Configurations of a reverse proxy for `pinban doctor`: what goes into nginx's http block behind the snippet."""

from __future__ import annotations

import re

from tests.lab.nginx import SNIPPET

GOOD = """\
server {
    listen 80;
    listen [::]:80;
    listen 443;
    location /api/ {
        proxy_pass http://127.0.0.1:8080;
        proxy_ignore_client_abort on;
        proxy_set_header Host $host;
        proxy_set_header pin $http_pin;
        if ($pinban_cross_site) { return 403; }
    }
}
"""

#: Logs with the format of an earlier snippet: fields are only ever added, so it lacks the last one.
_FORMAT = re.search(r"^log_format pinban (.*);$", SNIPPET.read_text(), re.MULTILINE)
assert _FORMAT is not None
OLD_FORMAT = f"""\
log_format old {re.sub(r',"[a-z]+":"[^"]*"}', "}", _FORMAT[1])};
access_log syslog:server=127.0.0.1:5514,nohostname,tag=pinban old if=$pinban_kind;
"""

PEXAPP_FORMAT = """\
log_format pexapp '$remote_addr - $remote_user [$time_local]  "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent" "$upstream_addr" "$upstream_status" "$upstream_response_time"';
access_log syslog:server=127.0.0.1:5514,nohostname pexapp;
"""


def changed(old: str, new: str) -> str:
    """The good site, with this instead of that."""
    assert old in GOOD
    return GOOD.replace(old, new)


def at_first(more: str) -> str:
    """The good site, with more in its server."""
    return changed("listen 80;", f"listen 80; {more}")


def added(more: str) -> str:
    """The good site, with more in its location."""
    return changed("proxy_pass ", f"{more} proxy_pass ")


HANGS_UP = changed("proxy_ignore_client_abort on;", "")
TWO_PINS = changed("proxy_set_header pin $http_pin;", "")
REWRITE = added("rewrite ^/api/(.*) /pexip/api/$1 break;")
ERROR_PAGE = added("proxy_intercept_errors on; error_page 403 404 /denied.html;")
SLASHES = at_first("merge_slashes off;")
SECOND_NODE = added("proxy_next_upstream error timeout http_403;")

#: Everything, by a name; Debian's nginx takes each with the snippet of this version.
SAMPLES = {
    "good": GOOD,
    "hangs up": HANGS_UP,
    "two pins": TWO_PINS,
    "two pins, replaced": added("proxy_set_header X-Other 1;"),
    "rewrite": REWRITE,
    "rewrite in a condition": added("if ($args) { rewrite ^/api/(.*) /pexip/api/$1 break; }"),
    "rewrite before": at_first("rewrite ^/x(/.*) $1;"),
    "redirect": at_first("rewrite ^/$ /webapp/ redirect; rewrite ^/meet/(.*) https://example.org/$1;"),
    "error page": ERROR_PAGE,
    "slashes": SLASHES,
    "second node": SECOND_NODE,
    "read timeout": added("proxy_read_timeout 2s;"),
    "read timeout around": at_first("proxy_read_timeout 1500ms;"),
    "read timeout mended": at_first("proxy_read_timeout 2s;").replace(
        "proxy_pass ", "proxy_read_timeout 1m; proxy_pass "
    ),
    "connect timeout": added("proxy_connect_timeout 5;"),
    "send timeout": added("proxy_send_timeout 5s;"),
    "other port": changed("listen 80;", "listen 80; listen 8443;"),
    "other ports": changed("listen 80;", "listen 127.0.0.2:80; listen *:8000-8002;"),
    "local ports": changed("listen 80;", "listen 127.0.0.1:8099; listen [::1]:8099;"),
    "balancers": "set_real_ip_from 10.0.0.0/8; set_real_ip_from 10.1.0.0/16; set_real_ip_from unix:;\n" + GOOD,
    "any balancer": "set_real_ip_from 0.0.0.0/0; set_real_ip_from ::/0;\n" + GOOD,
    "proxy protocol": changed("listen 443;", "listen 443 proxy_protocol;"),
    "cross site": changed("if ($pinban_cross_site) { return 403; }", ""),
    "earlier snippet": OLD_FORMAT + GOOD,
    "pexapp": PEXAPP_FORMAT + GOOD,
}

#: What Debian's nginx is too old for.
QUIC = changed("listen 443;", "listen 443 quic reuseport; listen 443 ssl; http3 on;")
