"""What protects a connection to Redis: the password, read again for each connection, and TLS. Connects to nothing."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import redis
from redis.credentials import CredentialProvider

from shared.errors import SettingsError
from shared.settings import Settings, password_of, secret_of

#: What redis-py says when OpenSSL fails, and what it means here; the first that fits.
_TLS_REMEDIES = {
    r"mismatch, certificate is not valid for": "the server's certificate is for another name than redis.url has",
    r"certificate has expired": "the server's certificate has expired; renew it there",
    r"certificate is not yet valid": "the server's certificate is not valid yet; see the clocks",
    r"CERTIFICATE_VERIFY_FAILED": "the server's certificate is signed by nobody we trust; see redis.ca_file",
    r"SSL: WRONG_VERSION_NUMBER": "it does not speak TLS on this port; see redis.url and redis.tls",
    r"SSL: \w+ALERT_CERTIFICATE_EXPIRED": "it refuses our certificate, which has expired; renew redis.cert_file",
    r"SSL: \w+ALERT|EOF occurred in violation of protocol": (
        "it refuses our certificate, or wants one and got none; see redis.cert_file and redis.key_file"
    ),
    r":\d+\. (No such file|Permission denied)": (
        "redis.ca_file, redis.cert_file or redis.key_file cannot be read; make them readable for this user"
    ),
}


class UnreadableError(redis.exceptions.AuthenticationError):
    """The password's file cannot be read now. redis-py passes on its own errors only, so this is one."""


class _PasswordFile(CredentialProvider):
    """Asked at every connect, so that a new password needs no restart."""

    def __init__(self, username: str, key: str, path: str) -> None:
        self._username = username
        self._key = key
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """User and password, as AUTH takes them."""
        try:
            password = secret_of(self._key, self._path) or ""
        except SettingsError as error:
            raise UnreadableError(str(error)) from error
        return (self._username, password) if self._username else (password,)


def uses_tls(settings: Settings) -> bool:
    """Whether connections are encrypted."""
    return settings.redis.tls or settings.redis.url.startswith("rediss:")


def in_tls(settings: Settings) -> str:
    """The URL for redis-py, which knows TLS by the scheme."""
    url = settings.redis.url
    return f"rediss:{url.removeprefix('redis:')}" if uses_tls(settings) and url.startswith("redis:") else url


def secure_options(settings: Settings) -> dict[str, Any]:
    """User, password and TLS, as redis-py calls them."""
    told = settings.redis
    return _login(told.username, "redis.password_file", told.password_file) | _tls(settings)


def sentinel_options(settings: Settings) -> dict[str, Any]:
    """The same for the sentinels, which have users of their own and the same TLS."""
    told = settings.redis
    login = _login(told.sentinel_username, "redis.sentinel_password_file", told.sentinel_password_file)
    return login | _tls(settings)


def _login(username: str, key: str, path: str) -> dict[str, Any]:
    if path:
        return {"credential_provider": _PasswordFile(username, key, path)}
    return {"username": username} if username else {}


def _tls(settings: Settings) -> dict[str, Any]:
    if not uses_tls(settings):
        return {}
    return {
        "ssl_ca_certs": settings.redis.ca_file or None,
        "ssl_certfile": settings.redis.cert_file or None,
        "ssl_keyfile": settings.redis.key_file or None,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def check_secrets(settings: Settings) -> None:
    """SettingsError when files of password, certificates or key cannot be read, or do not go together.

    For the start and for a reload: when a file goes bad later, each connection that fails says so, and is tried again.
    """
    told = settings.redis
    if told.password_file and "@" in told.url:
        raise SettingsError("redis.password_file: redis.url names a user already; write redis.username instead")
    password_of(settings)
    secret_of("redis.sentinel_password_file", told.sentinel_password_file)
    files = {name: getattr(told, name) for name in ("ca_file", "cert_file", "key_file")}
    if not uses_tls(settings):
        for name in (name for name, path in files.items() if path):
            raise SettingsError(f"redis.{name} is for TLS; write redis.tls = true, or rediss:// in redis.url")
        return
    if told.url.startswith("unix:"):
        raise SettingsError("redis.tls is not for a unix socket; write redis.tls = false")
    if told.key_file and not told.cert_file:
        raise SettingsError("redis.key_file goes with a certificate; set redis.cert_file")
    context = ssl.create_default_context()
    for name, path in files.items():
        try:
            if path:
                Path(path).read_bytes()
            if path and name == "ca_file":
                context.load_verify_locations(path)
            elif path and name == "cert_file":
                context.load_cert_chain(path, told.key_file or None)
        except ssl.SSLError as error:
            other = " with redis.key_file" if name == "cert_file" and told.key_file else ""
            raise SettingsError(f"redis.{name} = {path!r} cannot be used{other} ({error.reason}); write PEM") from error
        except OSError as error:
            why = error.strerror or error
            raise SettingsError(f"redis.{name} = {path!r} cannot be read ({why}); make it readable for us") from error


def tls_remedy(text: str) -> str:
    """What an error of TLS means, or "" when it is another error."""
    return next((remedy for sign, remedy in _TLS_REMEDIES.items() if re.search(sign, text)), "")
