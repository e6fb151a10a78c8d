"""The commands of the applications guide do what the guide says, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = [
    "Private Key Object; EC",  # pkcs11-tool
    "subject=CN = localhost",  # OpenSSL: a certificate signed by the token
    "java, PrivateKeyEntry",  # keytool
    'Module "keyway" added to database',  # modutil
    r"rsa +01 +web",  # certutil
    "type=private",  # p11tool
    "ecdsa-sha2-nistp256 ",  # ssh-keygen
]


@pytest.mark.timeout(300)
def test_applications_guide(root: Path, keyway: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "guides" / "applications.md").read_text()
    script = tmp_path / "guide.sh"
    script.write_text("".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)))

    done = subprocess.run(
        [str(keyway), "run", "--", "bash", "-eux", str(script)],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    for text in SHOWN:
        assert re.search(text, done.stdout), done.stdout
