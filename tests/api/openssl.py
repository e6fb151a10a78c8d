"""OpenSSL as the CA."""

import subprocess
from pathlib import Path


class Ca:
    """A CA with its files in a directory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.certificate = home / "ca.crt"
        self._key = home / "ca.key"
        run(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"),
            *("-subj", "/CN=Test CA", "-keyout", self._key, "-out", self.certificate),
        )

    @property
    def pem(self) -> str:
        return self.certificate.read_text()

    def sign(self, csr: str, *, days: int = 30, usage: str = "critical,digitalSignature") -> str:
        """Return the certificate for a request."""
        extensions = self._home / "extensions"
        extensions.write_text(f"keyUsage={usage}\n")
        return run(
            *("x509", "-req", "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", days),
            *("-extfile", extensions),
            text=csr,
        )


def run(*arguments: object, text: str = "") -> str:
    """Run openssl and return what it prints."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def verified(csr: str) -> str:
    """Return a request in words; its signature must be good."""
    return run("req", "-noout", "-verify", "-text", text=csr)


def public_key(csr: str) -> str:
    return run("req", "-noout", "-pubkey", text=csr)
