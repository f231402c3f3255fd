"""Mail about bans: the history -> a message -> a mail server."""

from receiver.mail.mailer import Mailer

__all__ = [
    "Mailer",
]
