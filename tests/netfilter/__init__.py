"""The firewall backends against a real kernel, in network namespaces. Needs root, ipset and iptables-legacy."""
