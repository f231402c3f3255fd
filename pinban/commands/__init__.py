"""The commands, one file for each group. They parse words and print; what they do is elsewhere.

A new command: write it in the file of its group, or in a new file for a new group, and name it in COMMANDS below.
It raises PinbanError when it fails and click.UsageError for wrong words; the group in pinban/cli.py prints either in
one line. What takes long to load (an engine of patterns, a parser, a plot) is imported inside the command.
"""

from pinban.commands.allow import allow, trust
from pinban.commands.bans import ban, bans, unban
from pinban.commands.history import history
from pinban.commands.live import top, watch
from pinban.commands.logs import explain, import_fail2ban, replay
from pinban.commands.run import run
from pinban.commands.setup import acl, check, doctor
from pinban.commands.status import counters, status

#: Every command, under the headings of `pinban --help`.
COMMANDS = {
    "See what goes on": (status, bans, counters, history, watch, top),
    "Ban and let in": (ban, unban, allow, trust),
    "Set up and check": (check, doctor, acl, run),
    "Read logs and files": (explain, replay, import_fail2ban),
}

__all__ = ["COMMANDS"]
