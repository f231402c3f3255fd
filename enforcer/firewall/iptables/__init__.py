"""The backend iptables: bans in ipset sets by netlink, rules in the legacy tables."""

from enforcer.firewall.iptables.backend import IptablesFirewall, load_modules
from enforcer.firewall.iptables.kernel import set_names

__all__ = [
    "IptablesFirewall",
    "load_modules",
    "set_names",
]
