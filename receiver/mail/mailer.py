"""The thread that mails bans with their evidence.

Its queue is the ledger's history, so a ban is mailed also when a receiver dies. One receiver at a time sends, with a
pause between two mails: many bans make few mails.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
import threading
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from receiver.mail.messages import TOLD, message
from shared.errors import PinbanError, StoreError
from shared.logs import Sparingly
from shared.settings import Mail, secret_of
from shared.store import Store, text_of

#: How often the history is looked at, s.
_EVERY_S = 2.0

#: Longest wait for the mail server at each step, s; all steps together take less than the least `mail.every`.
_SERVER_S = 5.0

#: Most entries of the history in one mail.
_BATCH = 1_000

_log = logging.getLogger("pinban.receiver")


class Mailer(threading.Thread):
    """Runs until told to stop."""

    def __init__(self, store: Store, mail: Mail, node: str) -> None:
        super().__init__(name="mailer", daemon=True)
        self._mail = mail
        self._node = node
        self._store = store
        self._keys = store.keys
        self._mailed = store.script("receiver.mail", "mailed")
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=60.0)

    def stop(self) -> None:
        """End the loop; a mail under way is finished, or another receiver sends it again."""
        self._stopping.set()

    def run(self) -> None:
        """Mail what the history says since the last mail."""
        while not self._stopping.wait(_EVERY_S):
            try:
                self.look()
            except StoreError as error:
                self._sparingly.warning("store", "no mail can be sent: %s", error)
            except (OSError, smtplib.SMTPException, PinbanError) as error:
                self._sparingly.warning("mail", "mail through %s failed (%s); trying again in %s",
                                        self._mail.server, error, self._mail.every)  # fmt: skip
            except Exception:  # noqa: BLE001  a bug here must not end the mails for good
                _log.exception("could not mail: a bug in pinban")

    def look(self) -> bool:
        """Send one mail if there is something to tell and it is time; returns whether it did.

        StoreError when Redis fails; OSError, SMTPException or SettingsError when the mail cannot be sent.
        """
        mail, node = self._mail, self._node
        last: bytes = self._store.call("GET", self._keys.mailed) or self._begin()
        rows = self._store.call("XRANGE", self._keys.history, b"(" + last, "+", "COUNT", _BATCH)
        if not rows:
            return False
        entries = [{text_of(k): text_of(v) for k, v in fields.items()} for _, fields in rows]
        told = [entry for entry in entries if entry.get("event") in TOLD]
        if told:
            if not self._store.call("SET", self._keys.mailing, node, "PX", int(mail.every), "NX"):
                return False
            send(mail, message(mail, told, node), node)
        self._mailed([self._keys.mailed], [last, rows[-1][0]])
        return bool(told)

    def _begin(self) -> bytes:
        """The entry to begin after: what happened before mail was set up is not mailed."""
        newest = self._store.call("XREVRANGE", self._keys.history, "+", "-", "COUNT", 1)
        begin: bytes = newest[0][0] if newest else b"0-0"
        self._store.call("SET", self._keys.mailed, begin, "NX")
        return begin


def send(mail: Mail, message: EmailMessage, node: str) -> None:
    """Hand a message to the mail server. OSError, SMTPException, or SettingsError for the password's file."""
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=mail.sender.rpartition("@")[2])
    host, _, port = mail.server.rpartition(":")
    password = secret_of("mail.password_file", mail.password_file)
    context = ssl.create_default_context()
    if mail.tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host.strip("[]"), int(port), node, timeout=_SERVER_S, context=context)
    else:
        server = smtplib.SMTP(host.strip("[]"), int(port), node, timeout=_SERVER_S)
    with server:
        if mail.tls == "starttls":
            server.starttls(context=context)
        if mail.username:
            server.login(mail.username, password or "")
        server.send_message(message)
