"""The backend nftables: one table of our own, rules by nft(8), bans by netlink."""

from enforcer.firewall.nftables.backend import NftablesFirewall
from enforcer.firewall.nftables.ruleset import Standing, hooks_of, read, tables_with_rules
from enforcer.firewall.nftables.watch import NftWatch

__all__ = [
    "NftWatch",
    "NftablesFirewall",
    "Standing",
    "hooks_of",
    "read",
    "tables_with_rules",
]
