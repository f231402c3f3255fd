"""The commands, one file for each group. They parse words and print; what they do is elsewhere."""

from pinban.commands.allow import allow, trust
from pinban.commands.bans import ban, bans, unban
from pinban.commands.history import history
from pinban.commands.live import top, watch
from pinban.commands.logs import explain, import_fail2ban, replay
from pinban.commands.run import run
from pinban.commands.setup import acl, check, doctor
from pinban.commands.status import counters, status

COMMANDS = (
    status, bans, ban, unban, allow, trust, counters, top, watch, history,
    check, doctor, acl, run, explain, replay, import_fail2ban,
)  # fmt: skip

__all__ = ["COMMANDS"]
