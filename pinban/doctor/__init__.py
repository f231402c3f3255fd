"""`pinban doctor`: finds faults that lose bans or failures without an error, and says what to do about each."""

from pinban.doctor.examination import examine

__all__ = [
    "examine",
]
