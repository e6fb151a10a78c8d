"""SoftHSM tokens with the same keys, for pools: one is made with real calls, the others are copies of its files."""

import os
import shutil
import subprocess
import sys
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


def configuration(home: Path, name: str, *lines: str) -> Path:
    """Write the configuration of a SoftHSM with tokens in a folder of its own; return its path.

    Args:
        home: Where it goes.
        name: What it is called.
        lines: More lines of it.
    """
    tokens = home / f"tokens-{name}"
    tokens.mkdir(exist_ok=True)
    path = home / f"{name}.conf"
    told = [f"directories.tokendir = {tokens}", "objectstore.backend = file", "log.level = ERROR", *lines, ""]
    path.write_text("\n".join(told))
    return path


def original(home: Path, script: str = _MAKE, *, copy_of: Path | None = None) -> Path:
    """Return the folder of a token with keys, which is made if it is not there.

    Args:
        home: Where it is.
        script: Puts the keys into it; gets the module's path and the PIN.
        copy_of: What was returned for the token that it starts as; an empty one if that is not said.
    """
    folder = home / "tokens-original"
    if not folder.exists():
        environment = {**os.environ, "SOFTHSM2_CONF": str(configuration(home, "original"))}
        module = str(softhsm_module())
        if copy_of is not None:
            shutil.copytree(copy_of, folder, dirs_exist_ok=True)
        else:
            make = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", SO_PIN, "--pin", PIN]
            subprocess.run([*make, "--module", module], env=environment, check=True, capture_output=True)
        subprocess.run([sys.executable, "-c", script, module, PIN], env=environment, check=True)
    return folder


def member(home: Path, made: Path, name: str, **options: object) -> str:
    """Make a token and return the [backend] section of its module.

    Args:
        home: Where its files go.
        made: Where the token is that all are copies of.
        name: The backend's name.
        options: More options, in TOML.
    """
    conf = configuration(home, name)
    shutil.copytree(original(made), home / f"tokens-{name}", dirs_exist_ok=True)
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
