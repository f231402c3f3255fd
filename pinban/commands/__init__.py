"""The commands, one file for each group. They parse words and print; the work is done in other packages.

A new command: write it in the file of its group, or in a new file for a new group, and add it to COMMANDS below. It
raises PinbanError when it fails and click.UsageError for wrong words; pinban/cli.py prints each as one line. A command
imports modules that are slow to load (regular expressions, nginx's parser, the plot) inside its function.
"""

from pinban.commands.allow import allow, trust
from pinban.commands.bans import ban, bans, unban
from pinban.commands.history import history
from pinban.commands.live import top, watch
from pinban.commands.logs import calibrate, explain, import_fail2ban, replay
from pinban.commands.run import run
from pinban.commands.setup import acl, check, doctor
from pinban.commands.status import counters, status

#: Every command, under the headings of `pinban --help`.
COMMANDS = {
    "See what goes on": (status, bans, counters, history, watch, top),
    "Ban and let in": (ban, unban, allow, trust),
    "Set up and check": (check, doctor, acl, run),
    "Read logs and files": (explain, replay, calibrate, import_fail2ban),
}

__all__ = ["COMMANDS"]
