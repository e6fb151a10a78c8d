"""`keyway audit verify`."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.audit.logs import a_record

from keyway.observe.audit import Chain, Checkpoint, signed_message
from keyway.observe.audit_sinks import FileSink
from keyway.observe.audit_sinks.syslog import message


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(key, message):
    """Return a signature as a token gives it."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), SHA256())
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.fixture(scope="module")
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def make_log(tmp_path):
    """Makes a log in several files, of 21 lines, the last of which is a checkpoint."""

    def make_log(key=None):
        directory = tmp_path / "audit"
        directory.mkdir()
        sink = FileSink(directory / "audit.jsonl", 1000, 0, syncs=False)
        chain = Chain()
        lines = [chain.line(a_record(number, identity="alice")) for number in range(20)]
        head = chain.hash.hex()
        made = "" if key is None else sign(key, signed_message(20, head)).hex()
        lines.append(chain.line(Checkpoint(1, 20, head, "pkcs11:object=audit", made)))
        while lines:
            lines = lines[sink.write(lines) :]
        sink.close()
        return directory

    return make_log


def test_a_good_log(keyway, make_log):
    directory = make_log()
    done = keyway("audit", "verify", directory)
    assert done.returncode == 0
    assert done.stdout.startswith("lines 1 to 21: good; last hash ")
    assert done.stdout.endswith("; 1 checkpoint; signatures not checked: no --key\n")
    # Files may be given in any order, and one of them twice.
    files = sorted(directory.iterdir(), reverse=True)
    assert keyway("audit", "verify", *files, files[0]).stdout == done.stdout


@pytest.mark.parametrize("kind", ["ec_key", "rsa_key"])
def test_signatures(keyway, make_log, tmp_path, request, kind):
    key = request.getfixturevalue(kind)
    directory = make_log(key)
    public = tmp_path / "public.pem"
    public.write_bytes(pem(key))
    done = keyway("audit", "verify", "--key", public, directory)
    assert done.returncode == 0
    assert "signed up to line 20" in done.stdout
    public.write_bytes(
        pem(rsa.generate_private_key(65537, 2048) if kind == "ec_key" else ec.generate_private_key(ec.SECP256R1()))
    )
    done = keyway("audit", "verify", "--key", public, directory)
    assert done.returncode == 1
    assert "the signature of the checkpoint is not one of this key" in done.stdout
    assert "2 findings" in done.stdout


def test_a_changed_line_is_told_with_its_place(keyway, make_log):
    directory = make_log()
    path = sorted(directory.iterdir())[2]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"alice", b"carol")
    path.write_bytes(b"".join(lines))
    done = keyway("audit", "verify", directory)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"{path}:3: changed"
    assert ": 1 finding; " in done.stdout.splitlines()[-1]


def test_a_missing_file(keyway, make_log):
    directory = make_log()
    sorted(directory.iterdir())[2].unlink()
    done = keyway("audit", "verify", directory)
    assert done.returncode == 1
    assert "does not go on where the file before ends: lines " in done.stdout


def test_a_missing_end(keyway, make_log):
    directory = make_log()
    head = keyway("audit", "verify", directory).stdout.partition("last hash ")[2][:64]
    assert keyway("audit", "verify", "--expect", head.upper(), directory).returncode == 0
    (directory / "audit.jsonl").unlink()
    assert keyway("audit", "verify", directory).returncode == 0
    done = keyway("audit", "verify", "--expect", head, directory)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"log: cut off: no line has the hash {head}"


def test_what_syslog_took(keyway, tmp_path):
    path = tmp_path / "messages"
    lines = []
    for _ in range(2):
        chain = Chain()
        lines += [message(chain.line(a_record(number)), "host", 7) + b"\n" for number in range(3)]
    path.write_bytes(b"".join(lines))
    done = keyway("audit", "verify", "--stream", path)
    assert done.returncode == 0
    assert done.stdout.startswith("6 lines in 2 chains: good")
    assert keyway("audit", "verify", path).returncode == 1
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    assert f"{path}:2: missing: lines 2 to 2 before this one" in keyway("audit", "verify", "--stream", path).stdout


def test_what_is_no_log(keyway, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"y" * 200_000)
    done = keyway("audit", "verify", path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"{path}:1: changed: a file of an audit log begins with another line"
    assert done.stdout.splitlines()[-1] == "no lines"


@pytest.mark.parametrize("content", [b"", b"no key", pem(ed25519.Ed25519PrivateKey.generate())])
def test_what_is_no_key(keyway, make_log, tmp_path, content):
    public = tmp_path / "public.pem"
    public.write_bytes(content)
    done = keyway("audit", "verify", "--key", public, make_log())
    assert done.returncode == 1
    assert f"{public}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_there(keyway, tmp_path):
    assert keyway("audit", "verify", tmp_path / "none").returncode == 2
    (tmp_path / "empty").mkdir()
    done = keyway("audit", "verify", tmp_path / "empty")
    assert (done.returncode, done.stdout) == (1, "no lines\n")
