"""Certificates for tests, made by openssl: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Keys and certificates as files in a folder: ca.pem, NAME.pem and NAME.key."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._name = name
        directory.mkdir(parents=True, exist_ok=True)
        _openssl("req", "-x509", *_new_key(self._path("key")), "-out", str(self.certificate), "-days", "2",
                 "-subj", f"/CN=authority {name}", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip

    @property
    def certificate(self) -> Path:
        return self._path("pem")

    def sign(self, name: str, *, alternative: str = "", on: str = "") -> tuple[Path, Path]:
        """A certificate, good for two days from `on` or now, and its key. `alternative` as IP:127.0.0.1."""
        certificate, key = (self._directory / f"{name}.{kind}" for kind in ("pem", "key"))
        request, extensions = (self._directory / f"{name}.{kind}" for kind in ("csr", "ext"))
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "basicConstraints=CA:FALSE\n")
        _openssl("req", *_new_key(key), "-out", str(request), "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._path("key")),
                 "-CAcreateserial", "-out", str(certificate), "-days", "2", "-extfile", str(extensions),
                 on=on)  # fmt: skip
        return certificate, key

    def _path(self, kind: str) -> Path:
        return self._directory / f"{self._name}.{kind}"


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path)]


def _openssl(*arguments: str, on: str = "") -> None:
    subprocess.run([*(["faketime", on] if on else []), "openssl", *arguments], check=True, capture_output=True)
