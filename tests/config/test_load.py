import re
from pathlib import Path

import pytest

from keyway.address import Gss, Tls
from keyway.config import ConfigError, load, parse

MODULE = '[backend.s]\nmodule = "/m"\n'
LISTENER = MODULE + '[listener.l]\naddress = "unix:/l"\n'

GOOD = """
[listen]
socket = "/run/k.sock"
mode = "0600"

[backend.soft]
module = "/usr/lib/soft.so"
threads = 1
environment = { SOFTHSM2_CONF = "/etc/s.conf" }

[backend."net.hsm"]
module = "/usr/lib/net.so"
call_timeout = 30

[token.a]
backend = "soft"
label = "demo"
slot = 5

[token.b]
backend = "net.hsm"
uri = "pkcs11:serial=01"
"""


def test_a_good_configuration():
    config = parse(GOOD)
    assert config.listen is not None
    assert config.listen.socket == Path("/run/k.sock")
    assert config.listen.mode == 0o600
    assert config.backends["soft"].environment == {"SOFTHSM2_CONF": "/etc/s.conf"}
    assert config.backends["soft"].threads == 1
    assert config.backends["net.hsm"].call_timeout == 30.0
    assert config.tokens["a"].slot == 5
    assert config.limits.contexts == 1024


def test_a_configuration_with_every_transport():
    config = parse("""
[backend.far]
command = ["ssh", "hsm1", "p11-kit", "remote", "/usr/lib/m.so"]
[backend.gateway]
address = "tls://hsm2:5658"
ca = "/ca.pem"
[backend.kerberized]
address = "gss://hsm3:5660"
service = "pkcs11@gw.example.org"
[backend.behind]
offered = "site-3"
[listener.clients]
address = "tls://[::]:5658"
certificate = "/c.pem"
key = "/k.pem"
ca = "/ca.pem"
[listener.tickets]
address = "gss://[::]:5660"
keytab = "/k.keytab"
[listener.both]
address = "systemd:both"
certificate = "/c.pem"
key = "/k.pem"
client_certificates = "none"
kerberos = true
[listener.old]
address = "unix:/run/p11.sock"
protocol = "p11-kit"
tokens = ["pkcs11:token=demo?write-protected=yes"]
first_slot = 17
[offer.public]
to = "tls://gw:5659"
certificate = "/c.pem"
key = "/k.pem"
ca = "/ca.pem"
""")
    assert config.backends["far"].command[0] == "ssh"
    assert [backend.protocol for backend in config.backends.values()] == ["p11-kit", "keyway", "keyway", "keyway"]
    assert [backend.spares for backend in config.backends.values()] == [0, 0, 0, 0]
    assert config.listeners["clients"].address == Tls("::", 5658)
    assert config.listeners["clients"].client_certificates == "required"
    assert config.listeners["tickets"].address == Gss("::", 5660)
    kerberized = {name for name, each in config.listeners.items() if each.speaks_kerberos}
    assert kerberized == {"tickets", "both"}
    assert config.backends["kerberized"].speaks_kerberos
    assert not config.backends["gateway"].speaks_kerberos
    assert config.listeners["old"].tokens == ("pkcs11:token=demo?write-protected=yes",)
    assert config.offers["public"].to == Tls("gw", 5659)


def test_the_only_backend_need_not_be_named():
    config = parse('[backend.soft]\nmodule = "/m.so"\n[token.a]\nlabel = "x"\n')
    assert config.tokens["a"].backend == "soft"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r":1: backend: at least one \[backend.NAME\]"),
        ("[backend.s]\n", r":1: backend.s: one of module, command, address, offered, offered_principal is needed"),
        ("\n[backend.s]\nmodule = 1\n", r":3: backend.s.module: must be a path"),
        ('[backend.s]\nmodule = "relative.so"\n', r":2: backend.s.module: must be an absolute path"),
        (
            '[backend.s]\nmodule = "/m"\nmodul = 3\n',
            r":3: backend.s.modul: unknown; known here: .*module, command, .*threads",
        ),
        ('[backend.s]\nmodule = "/m"\nthreads = 0\n', r":3: backend.s.threads: must be at least 1"),
        ('[backend.s]\nmodule = "/m"\ncall_timeout = nan\n', r":3: backend.s.call_timeout: must be at least 0"),
        ('[backend.s]\nmodule = "/m"\ncall_timeout = inf\n', r":3: backend.s.call_timeout: must be at most"),
        ('[backend.s]\nmodule = "/m"\nthreads = true\n', r":3: backend.s.threads: must be an integer"),
        ('[backend.s]\nmodule = "/m"\nisolation = "x"\n', r":3: backend.s.isolation: must be one of: client"),
        ('[backend.s]\nmodule = "/m"\nenvironment = {A = 1}\n', r":3: backend.s.environment: must be a table of str"),
        ('[backend.s]\nmodule = "/m"\ninit_string = "a\\u0000b"\n', r":3: .*must not hold a zero character"),
        ("backend = 3\n", r":1: backend: must be sections"),
        ("[backend]\ns = 3\n", r":2: backend.s: must be a section"),
        ('[backend."a b"]\nmodule = "/m"\n', r":1: backend.a b: a name has letters"),
        ('[listen]\nmode = "0999"\n[backend.s]\nmodule = "/m"\n', r":2: listen.mode: must be permissions"),
        ('[listen]\nmode = 432\n[backend.s]\nmodule = "/m"\n', r":2: listen.mode: must be permissions"),
        ('lisen = 1\n[backend.s]\nmodule = "/m"\n', r":1: lisen: unknown"),
        ('[backend.s]\nmodule = "/m"\n[token.t]\n', r":3: token.t: one of uri, label, serial and backend_slot"),
        (
            '[backend.s]\nmodule = "/m"\n[token.t]\nbackend = "x"\nlabel = "l"\n',
            r":4: token.t.backend: there is no section",
        ),
        ('[backend.s]\nmodule = "/m"\n[token.t]\nuri = "http:x"\n', r":4: token.t.uri: no PKCS #11 URI"),
        (
            '[backend.s]\nmodule = "/m"\n[token.t]\nuri = "pkcs11:token=a?pin-value=1234"\n',
            r":4: .*must not hold a PIN",
        ),
        ('[backend.s]\nmodule = "/m"\n[token.t]\nuri = "pkcs11:object=a"\n', r":4: .*names an object"),
        ('[backend.s]\nmodule = "/m"\n[token.t]\nuri = "pkcs11:?module-path=/m"\n', r":4: .*names a module"),
        (
            '[backend.s]\nmodule = "/m"\n[token.t]\nuri = "pkcs11:?write-protected=yes"\n',
            r":4: .*write-protected is not known here",
        ),
        (LISTENER + 'tokens = ["pkcs11:?write-protected=maybe"]\n', r":5: .*write-protected is yes or no"),
        (LISTENER + 'tokens = ["pkcs11:?write-protected=no&write-protected=yes"]\n', r":5: .*is yes or no"),
        (LISTENER + 'tokens = ["pkcs11:?max-sessions=3"]\n', r":5: .*max-sessions is not known here"),
        (LISTENER + 'tokens = ["pkcs11:", "pkcs11:?pin-source=/p"]\n', r":5: .*must not hold a PIN"),
        (LISTENER + 'tokens = ["pkcs11:library-manufacturer=x"]\n', r":5: .*names a module"),
        (
            '[backend.s]\nmodule = "/m"\n[token.t]\nlabel = "a"\nslot = 1\n[token.u]\nlabel = "b"\nslot = 1\n',
            r":8: token.u.slot: slot 1 is also that of token.t",
        ),
        (
            '[backend.s]\nmodule = "/m"\n[backend.u]\nmodule = "/m"\n[token.t]\nlabel = "a"\n',
            r":5: .*backend is missing",
        ),
        (
            '[backend.s]\nmodule = "/m"\naddress = "unix:/k"\n',
            r":1: backend.s: one of .* is needed, not module and address",
        ),
        ('[backend.s]\ncommand = "ssh"\n', r":2: backend.s.command: must be a list of strings"),
        ('[backend.s]\naddress = "k.sock"\n', r":2: backend.s.address: an address is unix:/path"),
        ('[backend.s]\naddress = "tcp://hsm:1"\n', r":2: backend.s.address: plain tcp outside loopback"),
        ('[backend.s]\naddress = "tls://hsm:1"\n', r":1: backend.s: ca is missing"),
        ('[backend.s]\naddress = "systemd:"\n', r":2: backend.s.address: systemd: is for listeners only"),
        ('[backend.s]\nmodule = "/m"\nca = "/ca"\n', r":3: backend.s.ca: is for TLS only"),
        ('[backend.s]\naddress = "/k"\nthreads = 3\n', r":3: backend.s.threads: is for a module only"),
        ('[backend.s]\nmodule = "/m"\nprotocol = "keyway"\n', r":3: backend.s.protocol: is not for module"),
        (f"{MODULE}[listener.l]\n", r":3: listener.l: address is missing"),
        (f'{MODULE}[listener.l]\naddress = "tcp://0.0.0.0:1"\n', r":4: listener.l.address: plain tcp outside loopback"),
        (
            f'{MODULE}[listener.l]\naddress = "tls://0.0.0.0:1"\n',
            r":4: listener.l.address: TLS needs certificate and key",
        ),
        (f'{MODULE}[listener.l]\naddress = "tls://0.0.0.0:1"\n', r":3: listener.l.client_certificates: needs ca"),
        (
            f'{MODULE}[listener.l]\naddress = "tls://0.0.0.0:1"\nkey = "/k"\n',
            r":3: listener.l: certificate and key belong",
        ),
        (
            f'{MODULE}[listener.l]\naddress = "unix:/l"\nprotocol = "offer"\n',
            r":5: listener.l.protocol: offer needs TLS",
        ),
        (
            f'{MODULE}[listener.l]\naddress = "unix:/l"\nkerberos = true\n',
            r":5: listener.l.kerberos: is for a gss or tls",
        ),
        (f'{MODULE}[listener.l]\naddress = "unix:/l"\nkeytab = "/k"\n', r":5: listener.l.keytab: is for Kerberos only"),
        (f'{MODULE}[listener.l]\naddress = "gss://[::]:1"\nca = "/ca"\n', r":5: listener.l.ca: is for TLS only"),
        (
            f'{MODULE}[listener.l]\naddress = "unix:/l"\noutlive_ticket = false\n',
            r":5: listener.l.outlive_ticket: is for Kerberos only",
        ),
        ('[backend.s]\naddress = "/k"\nservice = "x@y"\n', r":3: backend.s.service: is for Kerberos only"),
        ('[backend.s]\nmodule = "/m"\nkerberos = true\n', r":3: backend.s.kerberos: is for a gss or tls"),
        (f'{MODULE}[listener.l]\naddress = "unix:/l"\ntokens = ["x"]\n', r":5: listener.l.tokens: no PKCS #11 URI"),
        (f'{MODULE}[listener.l]\naddress = "unix:/l"\ntokens = ["pkcs11:object=a"]\n', r":5: .*names an object"),
        (f'{MODULE}[offer.o]\nto = "tcp://127.0.0.1:1"\n', r":4: offer.o.to: must be tls://host:port or gss"),
        (f'{MODULE}[offer.o]\nto = "tls://gw:1"\n', r":3: offer.o: certificate is missing"),
        (f'{MODULE}[offer.o]\nto = "tls://gw:1"\nkerberos = true\n', r":3: offer.o: ca is missing"),
        (f'{MODULE}[offer.o]\nto = "gss://gw:1"\nca = "/ca"\n', r":5: offer.o.ca: is for TLS only"),
        (f'{MODULE}[offer.o]\nto = "tls://gw:1"\nkeytab = "/k"\n', r":5: offer.o.keytab: is for Kerberos only"),
        ('[backend.s]\noffered = "a"\noffered_principal = "a@R"\n', r":1: .* not offered and offered_principal"),
        ('[backend.s]\noffered_principal = "a"\n', r":2: backend.s.offered_principal: must be a principal with"),
        ('[backend.s]\noffered_principal = "a@"\n', r":2: backend.s.offered_principal: must be a principal with"),
        (
            '[backend.s]\noffered_principal = "a@R"\n[backend.t]\noffered_principal = "a@R"\n',
            r":4: backend.t.offered_principal: a@R offers to backend.s already",
        ),
        ("a = \n", r"not TOML: .*line 1"),
    ],
)
def test_a_mistake_is_told_with_its_line(text, problem):
    with pytest.raises(ConfigError) as raised:
        parse(text, "k.toml")
    assert re.match(r"k\.toml", raised.value.problems[0])
    assert any(re.search(problem, line) for line in raised.value.problems), raised.value.problems


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as raised:
        parse('[log]\nlevel = "loud"\nformat = 3\n[backend.s]\nmodule = 1\n')
    assert len(raised.value.problems) == 3


def test_the_tokens_of_a_listener_may_be_write_protected():
    text = LISTENER + 'tokens = ["pkcs11:token=a?write-protected=yes", "pkcs11:?write-protected=no"]\nfirst_slot = 17\n'
    listener = parse(text, "k.toml").listeners["l"]
    assert listener.tokens == ("pkcs11:token=a?write-protected=yes", "pkcs11:?write-protected=no")
    assert listener.first_slot == 17


def test_a_pin_in_a_uri_is_not_repeated():
    with pytest.raises(ConfigError) as raised:
        parse('[backend.s]\nmodule = "/m"\n[token.t]\nuri = "pkcs11:token=a?pin-value=7391&pin-value=7391"\n')
    assert "7391" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "k.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)
