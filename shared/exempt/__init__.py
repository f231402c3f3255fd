"""Who is never counted and never dropped: ignoreip, the allow-list, own addresses."""

from shared.exempt.exemptions import Exemptions, names_of, own_addresses

__all__ = [
    "Exemptions",
    "names_of",
    "own_addresses",
]
