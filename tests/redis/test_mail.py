"""Mail on a ban, through a real mail server: with its evidence, once, and never a flood of it."""

from __future__ import annotations

import json
import smtplib
import socket
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import redis
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from msgspec.structs import replace

from receiver.mail.mailer import Mailer
from receiver.mail.messages import message
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.errors import SettingsError
from shared.ledger.changes import Ledger, NewBan
from shared.settings.reading import load
from shared.settings.schema import Mail, Settings
from shared.store.store import Store
from tests.redis.conftest import KEYS, text
from tests.unit.shared.test_settings_reading import written

EVIDENCE = [{"id": "6458bd4b", "rp": "10.0.0.11", "alias": "meet.alice", "at": "1795356738348"}]


class MailServer:
    """Keeps what it is given; asks for a password if it has one."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.users: list[bytes] = []
        self.refuses = False

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  its API
        if self.refuses:
            return "451 try again later"
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients = envelope.rcpt_tos
        return "250 kept"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        self.users.append(given.login)
        return AuthResult(success=given == LoginPassword(b"pinban", b"hunter2"))


@pytest.fixture
def server_of_mail() -> Iterator[tuple[MailServer, int]]:
    kept = MailServer()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    controller = Controller(kept, "127.0.0.1", port, authenticator=kept.authenticate, auth_require_tls=False)
    controller.start()
    try:
        yield kept, port
    finally:
        controller.stop()


@pytest.fixture
def mailbox(server_of_mail: tuple[MailServer, int]) -> MailServer:
    return server_of_mail[0]


@pytest.fixture
def told(settings: Settings, server_of_mail: tuple[MailServer, int]) -> Settings:
    mail = Mail(
        to=("noc@example.org", "abuse@example.org"),
        sender="pinban@example.org",
        server=f"127.0.0.1:{server_of_mail[1]}",
    )
    return replace(settings, mail=mail)


def ban(settings: Settings, client: redis.Redis, address: str, *, simulate: bool = False) -> None:
    Ledger(Store(client)).ban(NewBan(Network(address), 300_000, "pin", json.dumps(EVIDENCE), "rx1", 0, simulate))


def begun(settings: Settings, client: redis.Redis) -> Mailer:
    mailer = Mailer(Store(client), settings.mail, settings.receiver.node)
    assert not mailer.look()
    return mailer


def test_a_ban_is_mailed_with_its_evidence(told: Settings, client: redis.Redis, mailbox: MailServer) -> None:
    mailer = begun(told, client)
    ban(told, client, "203.0.113.7")
    assert mailer.look()
    [mail] = mailbox.mails
    assert mail["Subject"] == "[pinban] banned 203.0.113.7, rule pin"
    assert mailbox.recipients == ["noc@example.org", "abuse@example.org"]
    body = mail.get_content()
    assert "2026-11-22 14:12:18  room meet.alice  through 10.0.0.11  request 6458bd4b" in body
    assert "pinban unban 203.0.113.7" in body
    assert not mailer.look()
    assert len(mailbox.mails) == 1


def test_a_flood_of_bans_is_one_mail_now_and_one_later(
    told: Settings, client: redis.Redis, mailbox: MailServer
) -> None:
    mailer = begun(told, client)
    ban(told, client, "203.0.113.1")
    assert mailer.look()
    for last in range(2, 102):
        ban(told, client, f"203.0.113.{last}")
        assert not mailer.look()
    assert 0 < client.pttl(KEYS.mailing) <= 60_000
    client.delete(KEYS.mailing)  # as time does
    assert mailer.look()
    _, later = mailbox.mails
    assert later["Subject"] == "[pinban] 100 bans, 0 other events"
    assert "and 50 more" in later.get_content()


def test_two_receivers_tell_of_a_ban_once(told: Settings, client: redis.Redis, mailbox: MailServer) -> None:
    one, other = begun(told, client), begun(told, client)
    ban(told, client, "203.0.113.7")
    assert [one.look(), other.look(), one.look()] == [True, False, False]
    client.delete(KEYS.mailing)
    assert not other.look()
    assert len(mailbox.mails) == 1


def test_what_a_dead_receiver_did_not_tell_another_tells(
    told: Settings, client: redis.Redis, mailbox: MailServer
) -> None:
    begun(told, client)
    ban(told, client, "203.0.113.7")
    assert Mailer(Store(client), told.mail, told.receiver.node).look()
    assert len(mailbox.mails) == 1


def test_a_mail_that_was_refused_is_sent_again(told: Settings, client: redis.Redis, mailbox: MailServer) -> None:
    mailer = begun(told, client)
    ban(told, client, "203.0.113.7")
    mailbox.refuses = True
    with pytest.raises(smtplib.SMTPException, match="try again later"):
        mailer.look()
    mailbox.refuses = False
    assert not mailer.look()  # not at once: a mail server in trouble is left in peace
    client.delete(KEYS.mailing)
    assert mailer.look()
    assert len(mailbox.mails) == 1


def test_what_was_before_mail_was_set_up_is_not_told(told: Settings, client: redis.Redis, mailbox: MailServer) -> None:
    ban(told, client, "203.0.113.7")
    assert not begun(told, client).look()
    assert mailbox.mails == []


def test_an_unban_is_no_reason_for_mail_and_does_not_keep_the_next_one_waiting(
    told: Settings, client: redis.Redis, mailbox: MailServer
) -> None:
    mailer = begun(told, client)
    Ledger(Store(client)).unban(Network("203.0.113.7"), "asked", "me")
    assert not mailer.look()
    ban(told, client, "203.0.113.8", simulate=True)
    assert mailer.look()
    assert mailbox.mails[0]["Subject"] == "[pinban] would ban 203.0.113.8, rule pin (simulated)"


def test_a_receiver_that_lags_does_not_move_the_others_back(told: Settings, client: redis.Redis) -> None:
    mailer = begun(told, client)
    before = text(client, KEYS.mailed)
    client.set(KEYS.mailed, "99-0")
    assert mailer._mailed([KEYS.mailed], [before, "1-0"]) == 0
    assert text(client, KEYS.mailed) == "99-0"


def test_the_mail_server_may_ask_for_a_password(
    told: Settings, client: redis.Redis, mailbox: MailServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    told = replace(told, mail=replace(told.mail, username="pinban", password_file=str(secret)))
    mailer = begun(told, client)
    ban(told, client, "203.0.113.7")
    assert mailer.look()
    assert mailbox.users == [b"pinban"]
    secret.unlink()
    ban(told, client, "203.0.113.8")
    client.delete(KEYS.mailing)
    with pytest.raises(SettingsError, match=r"mail\.password_file"):
        mailer.look()


def test_a_room_that_a_client_named_cannot_write_headers_or_lines() -> None:
    entry = {
        "event": "hot",
        "room": "x\r\nBcc: all@example.org\x1b[2J",
        "failures": "20",
        "addresses": "12",
        "by": "rx1",
    }
    mail = message(Mail(to=("noc@example.org",)), [entry], "rx1")
    assert mail["Bcc"] is None
    assert "\nBcc" not in mail.as_string()
    assert "\x1b" not in mail.as_string()


def test_a_sender_that_is_only_observed_is_told_of() -> None:
    entry = {"event": "doubt", "sender": "10.0.0.11", "most": "1000", "by": "rx1"}
    mail = message(Mail(to=("noc@example.org",)), [entry], "rx1")
    assert mail["Subject"] == "[pinban] 10.0.0.11 is doubted: too many bans by its lines"
    assert "pinban trust 10.0.0.11" in mail.get_content()


@pytest.mark.parametrize("evidence", ["", "{", '"text"', "[1]", '[{"at": "1e99"}]', '{"why": "a\\nb"}'])
def test_no_evidence_breaks_a_mail(evidence: str) -> None:
    entry = {"event": "ban", "network": "203.0.113.7", "rule": "manual", "until": "", "evidence": evidence, "by": "me"}
    assert "203.0.113.7 banned until (unknown)" in message(Mail(to=("noc@example.org",)), [entry], "rx1").get_content()


@pytest.mark.parametrize("line", ['to = "noc"', 'to = ["noc"]', 'server = "mail"', 'every = "5s"', 'tls = "ssl"'])
def test_mail_that_cannot_be_is_refused_at_start(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match=r"mail\."):
        load(written(tmp_path, f"[mail]\n{line}"), {})


def test_mail_that_can_be_is_taken(tmp_path: Path) -> None:
    mail = load(written(tmp_path, '[mail]\nto = ["noc@example.org"]\nevery = "5m"'), {}).mail
    assert mail == Mail(to=("noc@example.org",), every=Milliseconds(300_000))
