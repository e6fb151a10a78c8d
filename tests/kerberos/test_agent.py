"""From an application over its agent, which has the user's ticket, to a gateway and a signature."""

import hashlib
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.authority import Authority
from tests.back.remotes import Remote, make_conf
from tests.cli.conftest import LOGIN, end, keyway, labels, scratch, told, tool
from tests.cli.conftest import start as start_command
from tests.daemon.harness import until
from tests.kerberos.client import HOST, port_of
from tests.kerberos.realm import REALM, section

from keyway.config.locate import module_library

__all__ = ["keyway", "scratch", "start_command", "tool"]

MESSAGE = b"what is to be signed"


@pytest.fixture
def far(home, realm):
    with Remote(home, make_conf(home, "far", "demo")) as far:
        yield far


@pytest.fixture
def agent(start_command, home):
    """Starts an agent for a user, and returns it with what its applications need in their environment."""

    def agent(*arguments, user):
        process = start_command("agent", *arguments, env={**user, "XDG_RUNTIME_DIR": str(home)})
        return process, {"KEYWAY_ADDRESS": told(process)["KEYWAY_ADDRESS"]}

    return agent


def gss_gateway(far, realm):
    """Start a gateway, and return it with the options that lead there."""
    daemon = far.daemon(section(realm))
    return daemon, ("--to", f"gss://{HOST}:{port_of(daemon)}")


def tls_gateway(far, realm):
    """The same, with the tickets inside TLS."""
    authority = Authority(far.home)
    daemon = far.daemon(
        '[listener.net]\naddress = "tls://127.0.0.1:0"\nclient_certificates = "none"\nkerberos = true\n'
        + authority.issue(HOST, stem="server").options
        + f'keytab = "{realm.keytab}"\n'
    )
    return daemon, ("--to", f"tls://{HOST}:{port_of(daemon, 'tls')}", "--kerberos", "--ca", str(authority.file))


@pytest.mark.parametrize("gateway", [gss_gateway, tls_gateway])
def test_an_application_signs_with_its_users_ticket(agent, far, realm, tool, home, gateway):
    daemon, to = gateway(far, realm)
    process, application = agent(*to, user=realm.ticket("alice"))
    module = module_library()
    assert labels(tool(application, "-L", module=module)) == ["demo"]
    tool(application, *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", module=module)
    digest, signature, key = home / "digest", home / "signature", home / "key"
    digest.write_bytes(hashlib.sha256(MESSAGE).digest())
    how = ("-m", "ECDSA", "--signature-format", "openssl", "--id", "01", "-i", digest, "-o", signature)
    tool(application, *LOGIN, "--sign", *how, module=module)
    tool(application, *LOGIN, "--read-object", "--type", "pubkey", "--id", "01", "-o", key, module=module)
    public = serialization.load_der_public_key(key.read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature.read_bytes(), MESSAGE, ec.ECDSA(hashes.SHA256()))
    assert {entry.get("principal") for entry in daemon.events("context opened")} == {f"alice@{REALM}"}
    assert end(process) == ""


def test_a_ticket_that_comes_later_is_used(agent, far, realm, tool):
    _, to = gss_gateway(far, realm)
    late = {**realm.environment, "KRB5CCNAME": f"FILE:{realm.home}/bob.ccache"}
    process, application = agent(*to, user=late)
    assert "No slots" in tool(application, "-L", module=module_library(), status=1)
    realm.ticket("bob")

    def is_there():
        with suppress(AssertionError):
            return labels(tool(application, "-L", module=module_library())) == ["demo"]

    until(is_there, "the token is there")
    assert "there is no ticket: get one with kinit" in end(process)
