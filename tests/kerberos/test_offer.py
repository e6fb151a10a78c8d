"""A gateway that can't be reached offers its tokens by its Kerberos key: who may offer is told by the principal."""

import tempfile
from pathlib import Path

import pytest
from tests.authority import Authority
from tests.daemon.conftest import LOG
from tests.daemon.harness import RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import label_of, make, slots
from tests.kerberos.client import HOST, port_of
from tests.kerberos.realm import REALM, section

from keyway.cryptoki import Null

SITE = f"pkcs11/site-3@{REALM}"
OUTER = f"pkcs11/{HOST}@{REALM}"
ROLE = '[role.all]\ntokens = ["pkcs11:"]\nadministration = true\n'


@pytest.fixture(scope="module")
def sites(shared_realm):
    """Keytabs of gateways that may want to offer."""
    for name in ("site-3", "site-4"):
        shared_realm.service(f"pkcs11/{name}", keytab=f"{name}.keytab")
    return {name: shared_realm.home / f"{name}.keytab" for name in ("site-3", "site-4")}


@pytest.fixture
def authority(home):
    return Authority(home)


@pytest.fixture
def start_outer(start, realm):
    """Starts the gateway that clients reach."""

    def start_outer(listener="", backend=f'offered_principal = "{SITE}"\n'):
        listener = listener or section(realm)
        return start(f'[backend.inner]\n{backend}{listener}protocol = "offer"\n')

    return start_outer


@pytest.fixture
def start_inner(realm):
    """Starts gateways with a SoftHSM that offer its tokens."""
    daemons = []
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        home = Path(name)
        backend = softhsm(home)

        def start_inner(outer, keytab, scheme="gss", more=""):
            to = f"{scheme}://{HOST}:{port_of(outer, scheme)}"
            daemon = RunningDaemon(home, f'{LOG}{backend}[offer.outer]\nto = "{to}"\nkeytab = "{keytab}"\n{more}')
            daemons.append(daemon)
            return daemon

        yield start_inner
        for daemon in daemons:
            assert daemon.stop() == 0
            assert daemon.events("internal error") == []
            assert "Traceback" not in daemon.log()


def in_tls(authority, realm, clients="none"):
    """A listener that wants tickets inside TLS."""
    return (
        f'[listener.net]\naddress = "tls://127.0.0.1:0"\nclient_certificates = "{clients}"\nkerberos = true\n'
        + (f'ca = "{authority.file}"\n' if clients != "none" else "")
        + authority.issue(HOST, stem="server").options
        + f'keytab = "{realm.keytab}"\n'
    )


def sees_token(outer, label):
    with RawClient(outer.socket) as client:
        rv, _ = client.call("C_Initialize", 0, Null(), b"test")
        return rv == 0 and label in [label_of(client, slot) for slot in slots(client)]


def refusal(outer):
    until(lambda: outer.events("connection refused"), "the refusal is in the log")
    return outer.events("connection refused")[0]


def test_the_tokens_are_used_through_the_other_gateway(start_outer, start_inner, sites):
    outer = start_outer()
    inner = start_inner(outer, sites["site-3"])
    make(inner, "behind")
    until(lambda: sees_token(outer, "behind"), "the token is offered")
    assert outer.events("stream offered")[0]["principal"] == SITE
    with RawClient(outer.socket) as client:
        client.initialize()
        assert client.good("C_GetInfo", True)
        (context,) = inner.contexts()
        assert (context["transport"], context["principal"]) == ("gss", f"pkcs11/{HOST}")
        (stream,) = outer.contexts()[0]["hosts"].values()
        assert stream.startswith(f"{SITE} at 127.0.0.1:")


def test_inside_tls(start_outer, start_inner, sites, realm, authority):
    outer = start_outer(in_tls(authority, realm))
    inner = start_inner(
        outer, sites["site-3"], "tls", f'kerberos = true\nservice = "{OUTER}"\nca = "{authority.file}"\n'
    )
    make(inner, "behind")
    until(lambda: sees_token(outer, "behind"), "the token is offered")
    opened = inner.events("context opened")[-1]
    assert (opened["certificate"], opened["principal"]) == (HOST, OUTER)


@pytest.mark.parametrize(
    ("conditions", "is_known"),
    [
        (f'principal = ["{OUTER}"]', True),
        ('offer = ["outer"]', True),
        (f'offer = ["outer"]\nprincipal = ["{OUTER}"]', True),
        (f'principal = ["{SITE}"]', False),
        (f'principal = ["{OUTER}"]\nlistener = [""]', False),
    ],
)
def test_who_comes_that_way_is_known_by_principal_and_offer_and_by_no_listener(
    start_outer, start_inner, sites, conditions, is_known
):
    outer = start_outer()
    own = '[identity.own]\nlistener = [""]\nroles = ["all"]\n'
    rules = f'[identity.far]\n{conditions}\nroles = ["all"]\n{own}{ROLE}'
    inner = start_inner(outer, sites["site-3"], more=f'service = "{OUTER}"\n{rules}')
    until(lambda: outer.status()["backends"]["inner"]["offered"], "streams wait")
    assert not sees_token(outer, "behind")
    assert inner.events("context opened")[-1]["identity"] == ("far" if is_known else "")


@pytest.mark.parametrize("name", ["site-4", "site-3"])
def test_another_principal_can_offer_nothing(start_outer, start_inner, sites, name):
    """Nor can the right one if it is a name in a certificate that is wanted."""
    backend = f'offered_principal = "{SITE}"\n' if name == "site-4" else f'offered = "{SITE}"\n'
    outer = start_outer(backend=backend)
    inner = start_inner(outer, sites[name])
    principal = f"pkcs11/{name}@{REALM}"
    refused = refusal(outer)
    assert refused["reason"] == f"no backend has offered_principal = {principal}"
    assert refused["principal"] == principal
    until(lambda: inner.events("tokens not offered"), "it is in its log, too")
    (entry,) = inner.events("tokens not offered")
    assert "offered_principal = our principal" in entry["reason"]
    assert not sees_token(outer, "behind")
    assert outer.events("stream offered") == []


def test_a_certificate_with_the_name_of_a_principal_can_offer_nothing(
    start_outer, start_inner, sites, realm, authority
):
    outer = start_outer(in_tls(authority, realm, "required"))
    pair = authority.issue("site.test", SITE, stem="site")
    start_inner(outer, sites["site-4"], "tls", f'kerberos = true\nca = "{authority.file}"\n{pair.options}')
    refused = refusal(outer)
    assert refused["reason"].startswith("no backend has offered = site.test or ")
    assert outer.events("stream offered") == []


def test_one_without_a_key_can_offer_nothing(start_outer, start_inner, home):
    outer = start_outer()
    inner = start_inner(outer, home / "none.keytab")
    until(lambda: inner.events("tokens not offered"), "the failure is in its log")
    assert str(home / "none.keytab") in inner.events("tokens not offered")[0]["reason"]
    assert outer.events("stream offered") == []


def test_it_comes_back_by_itself(start_outer, start_inner, sites):
    """The connection that waits is noticed to have ended, and another one is made."""
    outer = start_outer()
    inner = start_inner(outer, sites["site-3"], more="spares = 1\n")
    make(inner, "behind")
    for _ in range(3):
        until(lambda: outer.status()["backends"]["inner"]["offered"] == 1, "a stream waits")
        assert sees_token(outer, "behind")
    assert inner.stop() == 0
    until(lambda: outer.status()["backends"]["inner"]["offered"] == 0, "none waits")
    inner.start()
    until(lambda: sees_token(outer, "behind"), "the token is offered again")
