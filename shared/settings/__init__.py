"""All settings, and reading them from a file and the environment. A new setting is a field in schema.py.

schema -> declared (every key with its type) -> reading: the file, then the environment -> Settings, or a one-line error
"""

from shared.settings.levels import Level
from shared.settings.reading import DEFAULT_FILE, load, password_of, secret_of
from shared.settings.schema import BUILT_IN, Enforcer, Mail, Receiver, Redis, Rooms, Rule, Settings
from shared.settings.servers import Address, Servers, parse_servers
from shared.settings.texts import Endpoint, parse_endpoint, parse_ignored
from shared.settings.windows import LONG, Window

__all__ = [
    "BUILT_IN",
    "DEFAULT_FILE",
    "LONG",
    "Address",
    "Endpoint",
    "Enforcer",
    "Level",
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
