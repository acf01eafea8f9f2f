"""Certificate authorities that live as long as a test, made with the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


def why_not() -> str:
    """Why no certificates can be made here; empty when they can."""
    return "" if shutil.which("openssl") else "openssl is not installed"


@dataclass(frozen=True)
class Authority:
    """A certificate authority in ``folder``: ``certificate`` is what its clients must know."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def _key(self) -> Path:
        return self.folder / "ca.key"

    def issue(self, name: str, *, addresses: str = "IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
        """A certificate for these addresses, signed by this authority, and its key."""
        request, key = self.folder / f"{name}.csr", self.folder / f"{name}.key"
        signed, extensions = self.folder / f"{name}.pem", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={addresses}\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", signed,
        )  # fmt: skip
        return signed, key


def authority(folder: Path) -> Authority:
    """A new certificate authority."""
    folder.mkdir(parents=True)
    made = Authority(folder)
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out", made.certificate,
        "-days", "2", "-subj", f"/CN=test authority {folder.name}", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    return made


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
