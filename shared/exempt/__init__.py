"""Who is never counted and never dropped: ignoreip, the allow-list, own addresses."""

from shared.exempt.exemptions import Spared, names_of

__all__ = [
    "Spared",
    "names_of",
]
