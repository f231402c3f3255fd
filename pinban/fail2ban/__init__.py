"""fail2ban's configuration as pinban's settings: files -> jails and filters -> TOML and notes."""

from pinban.fail2ban.jail_import import import_jails

__all__ = [
    "import_jails",
]
