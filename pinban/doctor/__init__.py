"""What quietly costs bans or counts, on this host and in Redis: each finding with its remedy."""

from pinban.doctor.examination import examine

__all__ = [
    "examine",
]
