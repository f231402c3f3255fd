"""fail2ban's patterns, matched in linear time: pattern -> tree -> rewritten -> re2. Pure; knows nothing of pinban."""

from receiver.failregex.dates import without_date
from receiver.failregex.errors import FailregexError
from receiver.failregex.filter import Filter, Found, compile_filter, patterns_of
from receiver.failregex.re2_pattern import Pattern

__all__ = [
    "FailregexError",
    "Filter",
    "Found",
    "Pattern",
    "compile_filter",
    "patterns_of",
    "without_date",
]
