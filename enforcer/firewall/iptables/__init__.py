"""The backend iptables: bans in ipset sets, rules in the legacy tables."""

from enforcer.firewall.iptables.backend import IptablesFirewall, load_modules

__all__ = [
    "IptablesFirewall",
    "load_modules",
]
