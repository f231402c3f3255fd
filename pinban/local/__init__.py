"""Everything on one host: an embedded store, the daemons as children, and their end."""

from pinban.local.run import run_all

__all__ = [
    "run_all",
]
