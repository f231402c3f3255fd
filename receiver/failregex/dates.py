"""The date of a log line, cut out as fail2ban does before it searches; a failregex sees what is left. Pure.

The formats are those that fail2ban finds by itself: ISO 8601 and similar ones (nginx's error log), syslog and asctime,
nginx's and Apache's time_local, day/month/year, seconds since 1970 at the line's beginning (in brackets or not). A date
at the beginning comes before any other, else the first in the line is cut out. Brackets around it stay, as `[]`.
"""

from __future__ import annotations

import re

_YEAR = r"(?:19|20)[0-9]{2}"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_DAY = r"(?:[12][0-9]|[0 ]?[1-9]|3[01])"
_CLOCK = r"(?:[01]?[0-9]|2[0-3]):[0-5]?[0-9]:(?:[0-5]?[0-9]|6[01])"
_NAMED = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?"
_ZONE = r"(?:Z|UTC|GMT|[+-][01][0-9](?::?[0-9]{2})?)"

_DATES = "|".join(
    (
        rf"{_YEAR}(?:-{_MONTH}-|/{_MONTH}/|\.{_MONTH}\.){_DAY}(?:T|  ?){_CLOCK}(?:[.,][0-9]{{1,9}})?(?:\s?{_ZONE})?",
        rf"{_WEEKDAY}{_NAMED} {_DAY} {_YEAR}  ?{_CLOCK}(?:\.[0-9]{{1,9}})?",
        rf"{_WEEKDAY}{_NAMED} {_DAY}  ?{_CLOCK}(?:\.[0-9]{{1,9}})?(?: {_YEAR}(?![0-9:]))?",
        rf"{_DAY}(?:/{_NAMED}/|-{_NAMED}-){_YEAR}[ :]?{_CLOCK}(?:\.[0-9]{{1,9}})?(?: {_ZONE})?",
        rf"{_DAY}(?:/{_MONTH}/|-{_MONTH}-){_YEAR}  ?{_CLOCK}",
        rf"{_YEAR}[01][0-9][0-3][0-9](?:T|  ?)[0-2][0-9][0-5][0-9][0-6][0-9](?:[.,][0-9]{{1,9}})?(?:\s?{_ZONE})?",
    )
)

#: Every repetition has a limit, so a search costs the line's length times a constant.
_FIRST = re.compile(
    rf"\W{{0,2}}({_DATES}|(?-i:[A-Z]{{3,5}}) {_WEEKDAY}{_NAMED} {_DAY}  ?{_CLOCK}"
    rf"|{_NAMED}-{_DAY}-[0-9]{{2}} {_CLOCK})(?!\w)",
    re.IGNORECASE,
)
_ANYWHERE = re.compile(rf"(?<![0-9A-Za-z_])({_DATES})(?!\w)", re.IGNORECASE)
_SECONDS = re.compile(r"(?:(\[)(?=[0-9.]+\]))?([0-9]{10,11}(?:\.[0-9]{3,6})?)(?![\w])", re.ASCII)


def without_date(line: str) -> str:
    """The line without its date; unchanged if it has no date of these formats."""
    found = _FIRST.match(line)
    if found is None:
        seconds = _SECONDS.match(line)
        if seconds is not None:
            return line[: seconds.start(2)] + line[seconds.end(2) :]
        found = _ANYWHERE.search(line)
        if found is None:
            return line
    return line[: found.start(1)] + line[found.end(1) :]
