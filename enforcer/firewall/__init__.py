"""The firewall: what the agent asks of it (the port), the backends that do it, and the choice of one."""

from enforcer.firewall.choose import Choice, decide, hand_over, iptables_traces, look, nftables_traces
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.firewall.iptables import IptablesFirewall, load_modules
from enforcer.firewall.nftables import NftablesFirewall, NftWatch
from enforcer.firewall.port import Capacity, Firewall

__all__ = [
    "Capacity",
    "Choice",
    "DryRunFirewall",
    "Firewall",
    "IptablesFirewall",
    "NftWatch",
    "NftablesFirewall",
    "decide",
    "hand_over",
    "iptables_traces",
    "load_modules",
    "look",
    "nftables_traces",
]
