"""One agent per reverse proxy: ledger in Redis -> desired bans -> plan -> firewall. Parses no logs, serves no port."""
