"""libkeyway.so for musl is small, needs nothing but musl, and works in a program that has no other C library."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.module_transport.conftest import COMPILE, SOURCE, Application, mutual, own
from tests.module_transport.relay import Relay

if TYPE_CHECKING:
    from tests.authority import Authority
    from tests.daemon.harness import RunningDaemon

ROOT = Path(__file__).resolve().parents[2]
TARGET = f"{platform.machine()}-unknown-linux-musl"
STEPS = ("initialize", "open", "login", "keys", "sign", "large:4", "leave", "fork", "sign", "close", "finalize")
MAX_SIZE = 3_000_000


@pytest.fixture(scope="module")
def library() -> Path:
    if not shutil.which("cargo"):
        pytest.skip("there is no Rust toolchain")
    found = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", TARGET], check=False, capture_output=True, text=True
    )
    if found.returncode or not Path(found.stdout.strip()).is_dir():
        pytest.skip(f"Rust does not compile for musl here: rustup target add {TARGET}")
    subprocess.run([str(ROOT / "packaging" / "musl" / "build.sh"), TARGET], check=True, stdout=subprocess.DEVNULL)
    return ROOT / "target" / TARGET / "small" / "libkeyway.so"


@pytest.fixture(scope="module")
def musl_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("musl-gcc"):
        pytest.skip("musl-gcc is not installed (Debian: musl-tools)")
    path = tmp_path_factory.mktemp("client") / "client-musl"
    subprocess.run(["musl-gcc", *COMPILE, "-I/usr/include/p11-kit-1", str(SOURCE), "-o", str(path)], check=True)
    return path


# The library may have to be compiled first.
@pytest.mark.timeout(600)
def test_it_is_small_and_needs_the_c_library_only(library: Path) -> None:
    assert library.stat().st_size < MAX_SIZE
    read = subprocess.run(["readelf", "--dynamic", "--wide", str(library)], capture_output=True, text=True, check=True)
    assert re.findall(r"\(NEEDED\).*\[(.+?)\]", read.stdout) == ["libc.so"]
    names = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=posix", str(library)],
        capture_output=True,
        text=True,
        check=True,
    )
    exported = {line.split()[0] for line in names.stdout.splitlines()}
    assert exported == {"C_GetFunctionList", "C_GetInterface", "C_GetInterfaceList"}


@pytest.mark.timeout(600)
def test_a_program_with_musl_signs_over_a_unix_socket_and_over_tls(
    library: Path, musl_binary: Path, daemon: RunningDaemon, home: Path, authority: Authority
) -> None:
    application = Application(musl_binary, library, home)
    done = application.run(*STEPS, address=f"unix:{daemon.socket}")
    assert done.all_good(), done
    with Relay(daemon.socket, mutual(authority)) as relay:
        settings = {"ca": authority.file, **own(authority)}
        done = application.run(*STEPS, address=f"tls://localhost:{relay.port}", **settings)
        assert done.all_good(), done
        assert relay.connections == 2


def test_a_root_with_the_module_and_its_files_is_enough(
    library: Path, musl_binary: Path, daemon: RunningDaemon, home: Path, authority: Authority
) -> None:
    chroot = ("unshare", "--user", "--map-root-user", "chroot", str(home))
    loader = Path(f"/lib/ld-musl-{platform.machine()}.so.1")
    (home / "lib").mkdir()
    (home / "etc" / "keyway").mkdir(parents=True)
    for source, place in [(loader, loader), (musl_binary, "/client"), (library, "/libkeyway.so")]:
        shutil.copy(source, f"{home}{place}")
    tried = subprocess.run([*chroot, "/client", "/libkeyway.so"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no root directory of one's own here: {tried.stderr}")
    with Relay(daemon.socket, mutual(authority)) as relay:
        lines = [f'address = "tls://127.0.0.1:{relay.port}"']
        for key, file in {"ca": authority.file, **own(authority)}.items():
            shutil.copy(file, home / "etc" / "keyway" / f"{key}.pem")
            lines.append(f'{key} = "/etc/keyway/{key}.pem"')
        (home / "etc" / "keyway" / "module.toml").write_text("\n".join(lines))
        application = Application(Path("/client"), Path("/libkeyway.so"), home)
        application.command = (*chroot, *application.command)
        done = application.run(*STEPS)
        assert done.all_good(), done
        assert relay.connections == 2
