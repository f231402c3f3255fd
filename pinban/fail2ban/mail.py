"""To whom fail2ban mails about bans, as pinban's [mail]. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pinban.fail2ban.files import listed, words_of
from pinban.fail2ban.jails import Jail
from pinban.fail2ban.values import toml_text

#: The actions that mail: action_mw, action_mwl, action_cf_mwl; mail-whois, sendmail-whois and the like.
_MAILS = re.compile(r"action_\w*mwl?\b|\b(?:send)?mail\b", re.IGNORECASE)

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


def mail_of(jails: Sequence[Jail], notes: list[str]) -> list[str]:
    """The section about mail; nothing when no jail mails."""
    mailing = [jail for jail in jails if _MAILS.search(jail.raw("action"))]
    if not mailing:
        return []
    to = _addresses(mailing, "destemail", notes)
    senders = _addresses(mailing, "sender", notes)
    silent = [jail.name for jail in jails if jail not in mailing]
    if silent:
        notes.append(f"destemail: pinban mails every ban, those of {listed(silent)} too")
    if not to:
        notes.append("destemail is not a mail address, so nobody is told of bans; set [mail] to")
        return []
    lines = ["", "[mail]", f"to = [{', '.join(toml_text(each) for each in to)}]"]
    if senders:
        lines.append(f"sender = {toml_text(senders[0])}")
    if len(senders) > 1:
        notes.append(f"sender differs between jails; mail comes from {senders[0]}")
    notes.append("destemail is [mail] to here; a receiver sends the mail, by [mail] server, which is localhost:25")
    return lines


def _addresses(jails: Sequence[Jail], option: str, notes: list[str]) -> list[str]:
    words = [word for jail in jails for word in words_of(jail.maybe(option, notes))]
    return [word for word in dict.fromkeys(words) if _ADDRESS.fullmatch(word)]
