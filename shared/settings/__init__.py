"""What can be set: declared (schema, rules) -> read from file and environment (load) -> values. Speaks to nobody."""

from shared.settings.reading import DEFAULT_FILE, load, password_of, secret_of
from shared.settings.rules import BUILT_IN, LONG, Rooms, Rule, Window
from shared.settings.schema import Endpoint, Mail, Receiver, Redis, Settings, parse_endpoint, parse_ignored
from shared.settings.servers import Address, Servers, parse_servers

__all__ = [
    "BUILT_IN",
    "DEFAULT_FILE",
    "LONG",
    "Address",
    "Endpoint",
    "Mail",
    "Receiver",
    "Redis",
    "Rooms",
    "Rule",
    "Servers",
    "Settings",
    "Window",
    "load",
    "parse_endpoint",
    "parse_ignored",
    "parse_servers",
    "password_of",
    "secret_of",
]
