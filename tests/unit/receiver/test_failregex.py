"""fail2ban's patterns, in linear time, with the matches that fail2ban would find."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from receiver.failregex import FailregexError
from receiver.failregex.dates import without_date
from receiver.failregex.filter import Found, compile_filter, patterns_of
from receiver.failregex.re2_pattern import Pattern

PIN_LINE = (
    '1.2.3.4 - - [24/Apr/2016:12:39:32 +0000]  "POST /api/client/v2/conferences/pextestpin/request_token HTTP/1.1" '
    '403 56 "-" "python-requests/2.2.1 CPython/2.7.6 Linux/3.13.0-83-generic" "" "403" "4.016"'
)
PIN_REGEX = r'^<HOST> - - \[.*\]  "POST /api/client/v2/conferences/.+/request_token HTTP/1.1" 403 .*$'

#: A login daemon's patterns, of the forms that fail2ban's own are of.
LOGIN = compile_filter(
    [
        r"^Failed \b(?!publickey)\S+ for (?P<inv>invalid user )?<F-USER>(?P<one>\S+)|(?(inv)(?:(?! from ).)*?|[^:]+)"
        r"</F-USER> from <HOST>(?: (?:port \d+|on \S+)){0,2}(?: ssh\d*)?(?(one): |(?:(?:(?! from ).)*)$)",
        r"^[iI](?:llegal|nvalid) user <F-USER>.*?</F-USER> from <HOST>(?: (?:port \d+|on \S+)){0,3}\s*$",
        r"^<F-NOFAIL>session;</F-NOFAIL> ruser=<F-ALT_USER>\S*</F-ALT_USER> rhost=<HOST>"
        r"(?:\s+user=<F-USER>\S*</F-USER>)?$",
        r"^<F-MLFGAINED>Accepted \w+</F-MLFGAINED> for <F-USER>\S+</F-USER> from <HOST>(?:\s|$)",
        r"^Too many failures",
    ],
    prefregex=r"^<F-MLFID>\s*\S+ sshd\[\d+\]: </F-MLFID><F-CONTENT>.+</F-CONTENT>$",
)
HTTP_AUTH = compile_filter(
    [
        r'^\s*\[error\] \d+#\d+: \*\d+ user "(?:[^"]+|.*?)":? (?:password mismatch|was not found in "[^"]*"), '
        r'client: <HOST>, server: \S*, request: "\S+ \S+ HTTP/\d+\.\d+", host: "\S+"(?:, referrer: "\S+")?\s*$'
    ]
)


def login(text: str) -> Found | None:
    return LOGIN.match(f"Nov 22 10:00:01 host sshd[123]: {text}")


def counts(pattern: str, line: str) -> str | None:
    found = compile_filter([pattern]).match(line)
    return found.address if found else None


@pytest.mark.parametrize(
    ("text", "address", "user"),
    [
        ("Failed password for invalid user admin from 203.0.113.7 port 22 ssh2", "203.0.113.7", "admin"),
        ("Failed password for root from 2001:db8::1 port 50022 ssh2", "2001:db8::1", "root"),
        ("Failed none for root from ::ffff:203.0.113.7 port 1 ssh2", "203.0.113.7", "root"),
        ("Invalid user x from 203.0.113.7 port 1", "203.0.113.7", "x"),
        ("Invalid user  from 203.0.113.7 port 1", "203.0.113.7", None),
    ],
)
def test_a_failed_login_names_its_address(text: str, address: str, user: str | None) -> None:
    assert login(text) == Found(address, user, nofail=False)


@pytest.mark.parametrize(
    "text",
    [
        "Failed publickey for root from 203.0.113.7 port 22 ssh2",
        "Connection from 203.0.113.7 port 22",
        "Failed password for root from somewhere.example.org port 22 ssh2",
        "Too many failures",
    ],
)
def test_what_is_no_failure_or_names_no_address_counts_nothing(text: str) -> None:
    assert login(text) is None


def test_a_success_or_a_hint_is_no_failure() -> None:
    accepted = login("Accepted password for root from 203.0.113.7 port 22 ssh2")
    assert accepted is not None
    assert accepted.nofail
    assert login("session; ruser=eve rhost=203.0.113.7") == Found("203.0.113.7", "eve", nofail=True)
    assert login("session; ruser=eve rhost=203.0.113.7 user=bob") == Found("203.0.113.7", "bob", nofail=True)


@pytest.mark.parametrize("user", ["root from 9.9.9.9", "root from 9.9.9.9 port 22 ssh2", " from 9.9.9.9", "x from "])
@pytest.mark.parametrize("what", ["Failed password for invalid user", "Failed password for", "Invalid user"])
def test_a_user_name_cannot_choose_the_address(what: str, user: str) -> None:
    found = login(f"{what} {user} from 203.0.113.7 port 22" + (" ssh2" if what.startswith("Failed") else ""))
    assert found is not None
    assert found.address == "203.0.113.7"


def test_a_failure_in_nginxs_error_log_names_its_client() -> None:
    line = (
        '2026/11/22 14:12:18 [error] 12#12: *7 user "{}": password mismatch, client: 203.0.113.7, server: rp, '
        'request: "GET / HTTP/1.1", host: "rp"'
    )
    for user in ("bob", 'x": password mismatch, client: 9.9.9.9, server: a, request: "a b HTTP/1.1", host: "c"'):
        assert HTTP_AUTH.match(line.format(user)) == Found("203.0.113.7", None, nofail=False)
    assert HTTP_AUTH.match(line.replace("[error]", "[info]").format("bob")) is None


def test_the_pin_recipe_counts_its_line() -> None:
    assert counts(PIN_REGEX, PIN_LINE) == "1.2.3.4"
    assert counts(PIN_REGEX, PIN_LINE.replace('" 403 ', '" 200 ')) is None
    assert counts(PIN_REGEX, PIN_LINE.replace("1.2.3.4", "2001:db8::1")) == "2001:db8::1"


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("1.2.3.4 - - [24/Apr/2016:12:39:32 +0000] x", "1.2.3.4 - - [] x"),
        ("Nov 22 14:12:18 host x", " host x"),
        ("Nov  2 14:12:18 host x", " host x"),
        ("Sun Nov 22 14:12:18.123 2026 x", " x"),
        ("2026/11/22 14:12:18 [error] x", " [error] x"),
        ("2026-11-22T14:12:18.003Z host x", " host x"),
        ("[2026-11-22 14:12:18,003 +01:00] x", "[] x"),
        ("1795356738.348 x", " x"),
        ("[1795356738] x", "[] x"),
        ("audit 22-11-2026 14:12:18: x", "audit : x"),
        ("CET Nov 22 14:12:18 x", " x"),
        ("x 1795356738 y", "x 1795356738 y"),
        ("no date at 14:12:18", "no date at 14:12:18"),
        ("", ""),
    ],
)
def test_the_date_is_cut_out(line: str, left: str) -> None:
    assert without_date(line) == left


def test_the_date_in_front_goes_before_one_that_a_client_wrote() -> None:
    assert (
        without_date("Nov 22 14:12:18 host x: [24/Apr/2016:12:39:32 +0000]") == " host x: [24/Apr/2016:12:39:32 +0000]"
    )


def test_the_first_pattern_that_matches_wins_and_ignoreregex_beats_it() -> None:
    both = ["^from <HOST>", "to <HOST>$"]
    assert compile_filter(both).match("from 1.1.1.1 to 2.2.2.2") == Found("1.1.1.1", None, nofail=False)
    assert compile_filter(both, [r"to 2\."]).match("from 1.1.1.1 to 2.2.2.2") is None
    assert compile_filter(both, [r"to 3\."]).match("from 1.1.1.1 to 2.2.2.2") is not None


def test_prefregex_says_what_the_patterns_see() -> None:
    seen = compile_filter(["^bad$"], ["^good$"], prefregex="^<HOST>: <F-CONTENT>.+</F-CONTENT>$")
    assert seen.match("1.1.1.1: bad") == Found("1.1.1.1", None, nofail=False)
    assert seen.match("1.1.1.1: good") is None
    assert seen.match("bad") is None
    assert compile_filter(["^a <HOST>"], prefregex="^a").match("a 1.1.1.1") is not None


@pytest.mark.parametrize(
    ("pattern", "line", "address"),
    [
        ("<HOST>", "[2001:db8::1]", "2001:db8::1"),
        ("^<ADDR>$", "1.1.1.1", "1.1.1.1"),
        ("^<IP6>$", "1.1.1.1", None),
        ("^<IP4>$", "1.1.1.1", "1.1.1.1"),
        ("^<DNS>$", "1.1.1.1", "1.1.1.1"),
        ("^<HOST>$", "proxy.example.org", None),
        ("^<SUBNET>$", "10.0.0.0/24", None),
        ("^<SUBNET>$", "10.0.0.1/32", "10.0.0.1"),
        ("^<F-ID>[^ ]+</F-ID>$", "1.1.1.1", "1.1.1.1"),
        ("^<F-ID/>$", "session-7", None),
        (r"^(?P<host>\S+) x", "1.1.1.1 x", "1.1.1.1"),
        (r"x <HOST>\Z", "x 1.1.1.1", "1.1.1.1"),
        (r"x <HOST>\s", "x 1.1.1.1", "1.1.1.1"),
        ("x ((?i)LOGIN|y) <HOST>", "x login 1.1.1.1", "1.1.1.1"),
        ("(?i)[A-C]X <HOST>", "bx 1.1.1.1", "1.1.1.1"),
        (r"^\w+ <HOST>", "żółć 1.1.1.1", "1.1.1.1"),
        ("^((?! from ).)* from <HOST>", "a from 1.1.1.1 from 2.2.2.2", "1.1.1.1"),
        ("^.{,3} <HOST>", "abc 1.1.1.1", "1.1.1.1"),
        ("<unknown> <HOST>", "<unknown> 1.1.1.1", "1.1.1.1"),
    ],
)
def test_tags_and_grammar_mean_what_they_mean_to_fail2ban(pattern: str, line: str, address: str | None) -> None:
    assert counts(pattern, line) == address


def test_a_line_that_is_no_unicode_is_searched_all_the_same() -> None:
    assert counts("^.* <HOST>$", "\udcff\0 1.1.1.1\r\n") == "1.1.1.1"
    assert counts("^a.b <HOST>$", "a\nb 1.1.1.1") == "1.1.1.1"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("no address", "no <HOST>"),
        ("<HOST> <HOST>", "redefinition"),
        ("(<HOST>", "not a regular expression"),
        ("", "no <HOST>"),
        ("%(__prefix)s<HOST>", r"%(__prefix)s"),
        ("<HOST><SKIPLINES>", "several lines"),
        (r"(?P<q>.)<HOST>(?P=q)", "refers back"),
        ("<HOST>(?=x)", "looks ahead"),
        ("(?<!x)<HOST>", "looks behind"),
        ("(?<=x)<HOST>", "looks ahead"),
        ("<HOST>(?>x+)", "atomic"),
        ("<HOST>x++", "possessive"),
        ("(?!x+y)a<HOST>", "look-ahead"),
        ("(?:(?!ab).)*(?:b|<HOST>)", "look-ahead"),
        ("(?:(?P<c>a)|b)*(?(c)x|y)<HOST>", "repetition"),
        ("<HOST>(?:a{1000}){1000}", "too large"),
        ("(?i)[^a]<HOST>", "both cases"),
    ],
)
def test_what_cannot_be_matched_exactly_is_refused_in_one_line(
    pattern: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FailregexError) as refused:
        compile_filter([pattern])
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")  # re2 tells its errors to stderr unless told not to


def test_a_filter_needs_an_address_somewhere() -> None:
    with pytest.raises(FailregexError, match="empty"):
        compile_filter([])
    with pytest.raises(FailregexError, match="no <HOST>"):
        compile_filter(["^a"], prefregex="^<F-MLFID>x</F-MLFID>")


def test_a_setting_has_one_pattern_per_line() -> None:
    assert patterns_of("\n  ^a <HOST>\n\n^b <HOST>  \n") == ["^a <HOST>", "^b <HOST>"]


# What is rewritten must match as Python's backtracking matcher does, groups and all.

words = st.sampled_from(["a", "ab", "aba", "aab", " a", " ab ", "a|b", "ab|b", r"ab\b", "a|aba"])
runs = st.sampled_from([r"\S+", "[ab]*", r"\w+?", r"(?:\S*|.*?)", r"(?:a|b)\S+", "", r"(?P<dns>\S+|.*?)"])
plain = st.lists(
    st.sampled_from(["a", "b", " ", ".", r"\S", "[^a]", "a?", "b*", ".*?", r"\b", "(?:a|ab)", "(?:b| )+", "[ab]{1,2}"]),
    max_size=3,
).map("".join)
tempered = st.builds(
    lambda word, one, times: f"(?:(?!{word}){one}){times}",
    words.filter(lambda word: "|" not in word and "\\" not in word),
    st.sampled_from([".", r"\S", "[ab]"]),
    st.sampled_from(["*", "*?", "+", "+?"]),
)
looking = tempered | st.builds("(?!{}){}".format, words, runs)
ends = st.sampled_from(["", "$", "a", " ", "ab", " a$", "(?P<fid>.*)"])
patterns = st.one_of(
    st.builds("{}(?P<user>{}){}".format, plain, tempered, ends),
    st.builds("(?P<host>{}){}{}".format, plain, looking, ends),
    st.builds("{}(?P<c>{})?{}(?(c){}|{}){}".format, plain, plain, plain, plain, looking | plain, ends),
    st.builds("(?P<user>(?P<c>{})|{}){}(?(c){}|{}){}".format, plain, looking, plain, plain, tempered, ends),
)


@example("(?P<user>(?:(?!aba).)+?) a", ["aaa aaa a "])
@example("(?P<user>(?:(?! from ).)*?) from (?P<host>.*)", ["a from from b", " from  from b"])
@given(patterns, st.lists(st.text("aab ", max_size=10), min_size=5, max_size=8))
def test_a_rewritten_pattern_matches_as_the_original(pattern: str, lines: list[str]) -> None:
    try:
        ours = Pattern(pattern)
    except FailregexError:
        assume(False)
    theirs = re.compile(pattern)
    for line in lines:
        found = theirs.search(line + "\n")
        expected = None
        if found is not None:
            expected = {name: value for name, value in found.groupdict().items() if name != "c" and value is not None}
        assert ours.search(line.encode() + b"\n") == expected


@pytest.mark.parametrize(
    "hostile",
    [
        lambda n: "Nov 22 10:00:01 host sshd[1]: Failed password for invalid user " + " from" * n,
        lambda n: "Nov 22 10:00:01 host sshd[1]: Invalid user" + " from 1.1.1.1" * n + "x",
        lambda n: " " * n,
        lambda n: "1" * n,
        lambda n: "Jan 1 2026/01/01 " * n,
        lambda n: "a" * n + "!",
    ],
)
def test_time_grows_with_the_line_and_no_faster(hostile: Callable[[int], str]) -> None:
    slow = compile_filter([r"^(a+)+$<HOST>", r"(?:\s*\S*)*:<HOST>", r"(.*)*x<HOST>y"])

    def took(line: str) -> float:
        tries = []
        for _ in range(9):
            begun = time.process_time()
            LOGIN.match(line)
            slow.match(line)
            tries.append(time.process_time() - begun)
        return statistics.median(tries)

    assert took(hostile(16_000)) < 0.002 + 40 * took(hostile(1_000))  # 16 times is linear, 256 times is quadratic


@given(st.text(max_size=80))
def test_no_line_is_an_error(line: str) -> None:
    for one in (LOGIN, HTTP_AUTH):
        one.match(line)
        one.match(f"Nov 22 10:00:01 host sshd[1]: Failed password for {line} from 203.0.113.7 port 22 ssh2")
