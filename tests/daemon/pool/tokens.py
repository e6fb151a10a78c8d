"""SoftHSM tokens with the same keys, for pools: one is made with real calls, the others are copies of its files."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from keyway.config.locate import softhsm_module

PIN = "pin-7391-for-tests"
SO_PIN = "so-pin-5512-for-tests"
LABEL = "vault"

_MAKE = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters
module, pin = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label="vault")
with token.open(user_pin=pin, rw=True) as session:
    session.generate_keypair(KeyType.RSA, 2048, id=b"\\x01", label="rsa", store=True)
    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True)
    parameters.generate_keypair(id=b"\\x02", label="ec", store=True, mechanism_param=None)
    session.generate_key(KeyType.AES, 256, id=b"\\x03", label="aes", store=True)
    session.create_object({Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: True, Attribute.PRIVATE: False,
                           Attribute.LABEL: "note", Attribute.VALUE: b"a note"})
"""


def configuration(home: Path, name: str) -> Path:
    """Write the configuration of a SoftHSM with tokens in a folder of its own; return its path."""
    tokens = home / f"tokens-{name}"
    tokens.mkdir(exist_ok=True)
    path = home / f"{name}.conf"
    path.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return path


@cache
def _original(home: Path) -> Path:
    conf = configuration(home, "original")
    environment = {**os.environ, "SOFTHSM2_CONF": str(conf)}
    module = str(softhsm_module())
    make = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", SO_PIN, "--pin", PIN]
    subprocess.run([*make, "--module", module], env=environment, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", _MAKE, module, PIN], env=environment, check=True)
    return home / "tokens-original"


def member(home: Path, made: Path, name: str, **options: object) -> str:
    """Make a token and return the [backend] section of its module.

    Args:
        home: Where its files go.
        made: Where the token is that all are copies of.
        name: The backend's name.
        options: More options, in TOML.
    """
    conf = configuration(home, name)
    shutil.copytree(_original(made), home / f"tokens-{name}", dirs_exist_ok=True)
    lines = [f"{key} = {value}" for key, value in options.items()]
    return "\n".join(
        [
            f"[backend.{name}]",
            f'module = "{softhsm_module()}"',
            f'environment = {{ SOFTHSM2_CONF = "{conf}" }}',
            *lines,
            "",
        ]
    )


def pool(*members: str, name: str = LABEL, **options: object) -> str:
    """Return the [token] section of a pool.

    Args:
        members: The backends' names, or whole URIs.
        name: The pool's name.
        options: More options, in TOML.
    """
    uris = [each if ":" in each else f"pkcs11:token={LABEL}?backend={each}" for each in members]
    lines = [f"{key} = {value}" for key, value in options.items()]
    return "\n".join([f"[token.{name}]", f"members = {uris!r}".replace("'", '"'), *lines, ""])
