"""Where the native parts and well-known modules are on this machine."""

import os
from pathlib import Path

__all__ = ["host_binary", "module_library", "softhsm_module"]

HOST_NAME = "keyway-host"
LIBRARY_NAME = "libkeyway.so"
SOFTHSM_PATHS = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


def host_binary() -> Path:
    """Return the path of keyway-host: KEYWAY_HOST_BINARY, inside the installed package, or in a source tree.

    Raises:
        FileNotFoundError: It is in none of these places.
    """
    override = os.environ.get("KEYWAY_HOST_BINARY")
    return Path(override) if override else _native(HOST_NAME)


def module_library() -> Path:
    """Return the path of libkeyway.so: inside the installed package, or in a source tree.

    Raises:
        FileNotFoundError: It is in none of these places.
    """
    return _native(LIBRARY_NAME)


def softhsm_module() -> Path:
    """Return the path of SoftHSM's module.

    Raises:
        FileNotFoundError: It is in none of the usual places.
    """
    for path in map(Path, SOFTHSM_PATHS):
        if path.is_file():
            return path
    raise FileNotFoundError("SoftHSM's module (libsofthsm2.so) is not installed; on Debian: apt install libsofthsm2")


def _native(name: str) -> Path:
    package = Path(__file__).resolve().parent.parent
    places = [package / "_native" / name]
    # src/keyway in a source tree: the tree's own build.
    if (package.parent.parent / "Cargo.toml").is_file():
        places += [package.parent.parent / "target" / "release" / name]
    for path in places:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name} is neither of: {', '.join(map(str, places))}; in a source tree, run: make build")
