"""What hides a guess in a location that passes requests for a conference token on to the nodes. Pure.

What a format can see decides how bad a finding is: ours decides from the client's own request line and the nodes'
answers, one of an earlier version or a text format from what nginx made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Literal

from pinban.doctor.blocks import Block, Directive, milliseconds, place_of
from pinban.doctor.finding import Finding
from receiver.lines import v1_fields

#: A node takes about 4 s to refuse a PIN; nginx must wait longer than it, ms.
PATIENCE_MS = 10_000

#: nginx's own default for the three timeouts, ms.
_DEFAULT_MS = 60_000


class Sight(Enum):
    """What the best format that a location logs with can see."""

    FULL = "our format, of this version"
    OLD = "our format, of an earlier version"
    TEXT = "a text format"
    NONE = "no log to syslog"


def to_syslog(log: Directive) -> bool:
    """Whether an access_log line goes to syslog."""
    return bool(log["args"]) and log["args"][0].startswith("syslog:")


def sight_of(log: Directive, formats: Mapping[str, Directive]) -> Sight:
    """What the format of an access_log line can see; its name may be any."""
    known = formats.get(log["args"][1]) if len(log["args"]) > 1 else None
    text = "".join(known["args"][1:]).removeprefix("escape=json") if known is not None else ""
    if not text.startswith('{"v":1,'):
        return Sight.TEXT
    return Sight.FULL if all(f'"{name}":' in text for name in v1_fields()) else Sight.OLD


def best_sight(block: Block, formats: Mapping[str, Directive]) -> Sight:
    """What the best of the formats in force in a block can see."""
    seen = {sight_of(log, formats) for log in block.in_force("access_log") if to_syslog(log)}
    return next((sight for sight in Sight if sight in seen), Sight.NONE)


def hidden(block: Block, sight: Sight, cross_site: bool) -> Iterator[Finding]:
    """Findings about one location that passes requests on; `cross_site`: the snippet offers to refuse them."""
    where = f"{block.place}: {block.name}"
    yield from _who_hangs_up(block, where, sight)
    yield from _two_pins(block, where, sight)
    yield from _impatient(block, where)
    yield from _second_node(block, sight)
    yield from _unlimited(block, where)
    if sight is Sight.FULL:
        yield from _sizes_hidden(block)
    else:
        yield from _changed(block, sight)
    if cross_site and not _refuses_cross_site(block):
        yield Finding(
            "note",
            "nginx",
            f"{where} lets any web page make its visitors' browsers ask for tokens. Nobody is banned for it, but nodes"
            " and log have the work. Unless you serve the web app from another site than the nodes, add"
            " if ($pinban_cross_site) { return 403; }",
        )


def _who_hangs_up(block: Block, where: str, sight: Sight) -> Iterator[Finding]:
    if block.value("proxy_ignore_client_abort") == "on":
        return
    gain = (
        "a guesser who hangs up early is counted for each guess, but so is a person who gives up waiting"
        if sight is Sight.FULL
        else "a guesser who hangs up early is not counted, or not as one who guessed"
    )
    yield Finding(
        _bad_unless(sight is Sight.FULL),
        "nginx",
        f"{where} does not wait for the node when a client disconnects, and logs 499 instead of the node's answer:"
        f" {gain}; set proxy_ignore_client_abort on",
    )


def _two_pins(block: Block, where: str, sight: Sight) -> Iterator[Finding]:
    """A text format has no PIN flag, so there nothing depends on it."""
    passed = [[arg.lower() for arg in each["args"]] for each in block.in_force("proxy_set_header")]
    if sight is Sight.TEXT or ["pin", "$http_pin"] in passed:
        return
    yield Finding(
        "bad",
        "nginx",
        f"{where} passes on two pin headers as they came: nginx before 1.23 logs the first, a node may take the last."
        " A guess is then seen by the size of its refusal alone (receiver.wrong_pin_bytes), and any number may be"
        " under way; add"
        " proxy_set_header pin $http_pin beside the other proxy_set_header lines in force there",
    )


def _impatient(block: Block, where: str) -> Iterator[Finding]:
    for name in ("proxy_read_timeout", "proxy_connect_timeout", "proxy_send_timeout"):
        text = block.value(name)
        length = milliseconds(text) if text else _DEFAULT_MS
        if length is None or length >= PATIENCE_MS:
            continue
        set_at = place_of(block.in_force(name)[-1])
        if name == "proxy_read_timeout":
            yield Finding(
                "bad",
                "nginx",
                f"{set_at}: {name} {text} is in force in {where}. A node takes about 4 s to refuse a PIN, and answers a"
                " right one at once: a 504 tells a guesser that his PIN is wrong, and it is counted for nobody; set it"
                " to 10s or more",
            )
        else:
            yield Finding(
                "note",
                "nginx",
                f"{set_at}: {name} {text} is in force in {where}. When a node is that slow, its clients get 502 or 504,"
                " which is counted for nobody; set it to 10s or more",
            )


def _second_node(block: Block, sight: Sight) -> Iterator[Finding]:
    for each in block.in_force("proxy_next_upstream"):
        if "http_403" in each["args"]:
            yield Finding(
                _bad_unless(sight is Sight.FULL),
                "nginx",
                f"{place_of(each)}: proxy_next_upstream http_403 asks a second node after a refused PIN, in"
                f" {block.name}: a guess costs every node its delay, and the last answer may hide the refusal from the"
                " log; take http_403 out",
            )


def _unlimited(block: Block, where: str) -> Iterator[Finding]:
    if {"pinban_clients", "pinban_blocks"} <= {each["args"][0] for each in block.in_force("limit_conn")}:
        return
    yield Finding(
        "bad",
        "nginx",
        f"{where} has not the limits of pinban.conf on guesses that are under way: nginx logs a"
        " request when it is over, so a client who delays that has thousands of guesses answered before the first one"
        " counts; add limit_conn pinban_clients 32; limit_conn pinban_blocks 64; beside any other limit_conn there",
    )


def _sizes_hidden(block: Block) -> Iterator[Finding]:
    """Our format tells the refusal, but nginx reads nothing of a body that a page replaces."""
    for page in _error_pages(block, "403"):
        yield Finding(
            "note",
            "nginx",
            f"{place_of(page)}: error_page hides the size of the nodes' 403 in {block.name} (proxy_intercept_errors):"
            " whoever has the right PIN, and is refused by a full room or sent to a login, is counted as one with a"
            " wrong PIN; take 403 out",
        )


def _error_pages(block: Block, *statuses: str) -> Iterator[Directive]:
    """The error_page lines that take the place of a node's answer with one of these statuses."""
    if block.value("proxy_intercept_errors") == "on":
        yield from (page for page in block.in_force("error_page") if set(statuses) & set(page["args"][:-1]))


def _changed(block: Block, sight: Sight) -> Iterator[Finding]:
    """What makes of a request or of an answer something else than client and node said."""
    remedy = (
        "replace pinban.conf by the one of this version"
        if sight is Sight.OLD
        else "use the format pinban of this version's pinban.conf, which decides from the client's own request line"
    )
    for line in _rewrites(block):
        yield Finding(
            "bad",
            "nginx",
            f"{place_of(line)}: rewrite changes the path before {block.name} asks a node: a guess may be logged under a"
            f" path that is no request for a token, and is not counted; {remedy}",
        )
    for page in _error_pages(block, "403", "404"):
        yield Finding(
            "bad",
            "nginx",
            f"{place_of(page)}: error_page takes the place of the nodes' 403 and 404 in {block.name}"
            " (proxy_intercept_errors): the log has the page's status, method or size instead of the refusal's, so"
            f" guesses are not counted, or prompts are; {remedy}",
        )
    for line in block.in_force("merge_slashes"):
        if line["args"] == ["off"]:
            yield Finding(
                _bad_unless(sight is Sight.TEXT),
                "nginx",
                f"{place_of(line)}: merge_slashes off is in force in {block.name}: a node may take // in a path for /,"
                f" and nginx does not, so a guess with // may not be counted; {remedy}",
            )


def _rewrites(block: Block) -> Iterator[Directive]:
    """Those of the location and of its server, also in conditions."""
    for outer in (block.within("server"), block.within("location")):
        if outer is not None:
            for each in (outer, *(Block(condition, outer) for condition in outer.own("if"))):
                yield from (line for line in each.own("rewrite") if not _redirects(line["args"]))


def _redirects(arguments: Sequence[str]) -> bool:
    """Whether a rewrite answers the client, who then makes a request of his own."""
    target = arguments[1] if len(arguments) > 1 else ""
    return bool({"redirect", "permanent"} & set(arguments[2:])) or target.startswith(("http://", "https://", "$scheme"))


def _refuses_cross_site(block: Block) -> bool:
    outers = (block, block.within("location"), block.within("server"))
    conditions = [each for outer in outers if outer is not None for each in outer.own("if")]
    return any("$pinban_cross_site" in "".join(each["args"]) for each in conditions)


def _bad_unless(seen: bool) -> Literal["note", "bad"]:
    return "note" if seen else "bad"
