import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.address import Tcp
from keyway.config import ConfigError, MemberOptions, error_classes_of, members_of, parse
from keyway.cryptoki import RV, Uri

BACKENDS = '[backend.a]\nmodule = "/m"\n[backend.b]\nmodule = "/m"\n'
POOL = f'{BACKENDS}[token.t]\nmembers = ["pkcs11:token=v?backend=a", "pkcs11:token=v?backend=b"]\n'
ONE = '[backend.s]\nmodule = "/m"\n'


def members(*uris):
    listed = ", ".join(f'"{uri}"' for uri in uris)
    return f"{BACKENDS}[token.t]\nmembers = [{listed}]\n"


def problems(text):
    with pytest.raises(ConfigError) as raised:
        parse(text, "k.toml")
    return raised.value.problems


def test_a_pool_with_every_option():
    config = parse("""
[backend.hsm1]
module = "/m"
error_classes = { 0x80000383 = "lost", "2147484548" = "busy", CKR_FUNCTION_FAILED = "caller" }
[backend.hsm2]
address = "unix:/k"
[token.vault]
members = [
    "pkcs11:token=vault?backend=hsm1&name=here&weight=3",
    "pkcs11:serial=7;token=vault?backend=hsm2&standby=no",
    "pkcs11:token=rest?weight=1000&backend=hsm2&name=rest-2&standby=yes",
]
policy = "balance"
writes = "all"
quorum = 2
wrapping_key = "between us"
deadline = 1.5
long_deadline = 300
journal = 0
remember_pin = false
pin_file = "/run/keyway/pin"
label = "the vault"
serial = "0000000000000017"
slot = 4
""")
    vault = config.tokens["vault"]
    assert vault.is_pool
    assert members_of(vault, config) == (
        MemberOptions(name="here", backend="hsm1", uri=Uri(token="vault"), weight=3, is_standby=False),
        MemberOptions(name="hsm2", backend="hsm2", uri=Uri(token="vault", serial="7"), weight=1, is_standby=False),
        MemberOptions(name="rest-2", backend="hsm2", uri=Uri(token="rest"), weight=1000, is_standby=True),
    )
    assert (vault.label, vault.serial, vault.long_deadline, vault.backend) == (
        "the vault",
        "0000000000000017",
        300.0,
        "",
    )
    assert error_classes_of(config.backends["hsm1"]) == {
        0x80000383: "lost",
        2147484548: "busy",
        RV.CKR_FUNCTION_FAILED: "caller",
    }
    assert error_classes_of(config.backends["hsm2"]) == {}


def test_a_pool_with_nothing_but_members():
    config = parse(POOL)
    token = config.tokens["t"]
    assert (token.policy, token.writes, token.quorum, token.wrapping_key) == ("failover", "deny", 0, "")
    assert (token.deadline, token.long_deadline, token.journal) == (2.0, 120.0, 1_048_576)
    assert token.remember_pin
    assert token.pin_file is None
    assert [(each.name, each.backend) for each in members_of(token, config)] == [("a", "a"), ("b", "b")]


def test_a_pool_shows_its_name_and_a_number_of_its_own():
    config = parse(POOL.replace("[token.t]", "[token.T-1]") + POOL.removeprefix(BACKENDS))
    assert [token.label for token in config.tokens.values()] == ["T-1", "t"]
    serials = [token.serial for token in config.tokens.values()]
    assert all(re.fullmatch(r"[0-9a-f]{16}", serial) for serial in serials)
    assert len(set(serials)) == 2
    assert parse(POOL).tokens["t"].serial == serials[1], "the same after a restart"


def test_members_need_not_name_the_only_backend():
    config = parse(f'{ONE}[token.t]\nmembers = ["pkcs11:token=a?name=x", "pkcs11:token=b?name=y"]\n')
    assert [each.backend for each in members_of(config.tokens["t"], config)] == ["s", "s"]


def test_the_query_is_read_as_a_uri_is():
    config = parse(POOL.replace("backend=a", "backend=%61&name=x%2dy"))
    assert [(each.name, each.backend) for each in members_of(config.tokens["t"], config)] == [("x-y", "a"), ("b", "b")]


def test_a_plain_token_is_no_pool():
    config = parse(f'{ONE}[token.t]\nlabel = "x"\n')
    assert not config.tokens["t"].is_pool
    assert members_of(config.tokens["t"], config) == ()
    assert config.tokens["t"].serial == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # What is for one kind of token only
        (POOL + 'backend = "a"\n', r":7: token.t.backend: is not for a pool"),
        (POOL + 'uri = "pkcs11:token=v"\n', r":7: token.t.uri: is not for a pool"),
        (POOL + "backend_slot = 0\n", r":7: token.t.backend_slot: is not for a pool"),
        *(
            (f'{ONE}[token.t]\nlabel = "x"\n{option}\n', rf":5: token.t.{option.split()[0]}: is for a pool only")
            for option in (
                'policy = "balance"',
                'writes = "first"',
                "quorum = 1",
                'wrapping_key = "w"',
                "deadline = 3",
                "long_deadline = 3",
                "journal = 0",
                "remember_pin = false",
            )
        ),
        (f"{ONE}[token.t]\nmembers = []\n", r":3: token.t: one of uri, .* is needed; or members, for a pool"),
        # Options of pools
        (POOL + 'policy = "random"\n', r":7: token.t.policy: must be one of: failover, balance"),
        (POOL + 'writes = "yes"\n', r":7: token.t.writes: must be one of: deny, first, all"),
        (POOL + "quorum = -1\n", r":7: token.t.quorum: must be at least 0"),
        (POOL + "quorum = 3\n", r":7: token.t.quorum: is more than the 2 members"),
        (POOL + 'wrapping_key = "w"\n', r':7: token.t.wrapping_key: is for writes = "all" only'),
        (POOL + 'writes = "first"\nwrapping_key = "w"\n', r':8: token.t.wrapping_key: is for writes = "all" only'),
        (POOL + "deadline = 0\n", r":7: token.t.deadline: must be at least 0.1"),
        (POOL + "deadline = 601\n", r":7: token.t.deadline: must be at most 600"),
        (POOL + "long_deadline = 0\n", r":7: token.t.long_deadline: must be at least 0.1"),
        (POOL + "journal = -1\n", r":7: token.t.journal: must be at least 0"),
        (ONE + '[token.t]\nlabel = "x"\npin_file = "/p"\n', r":5: token.t.pin_file: is for pools, or for identities"),
        (POOL + 'pin_file = "pin"\n', r":7: token.t.pin_file: must be an absolute path"),
        (POOL + f'label = "{"é" * 17}"\n', r":7: token.t.label: is longer than 32 bytes"),
        (POOL + f'serial = "{"1" * 17}"\n', r":7: token.t.serial: is longer than 16 bytes"),
        (POOL.replace("token.t", "token." + "t" * 33), r":5: token.t+: label is missing, and the name is longer than"),
        (POOL + 'slot = 3\n[token.u]\nbackend = "a"\nlabel = "x"\nslot = 3\n', r":11: token.u.slot: slot 3 is also"),
        # Members
        (f'{BACKENDS}[token.t]\nmembers = "pkcs11:token=v"\n', r":6: token.t.members: must be a list of strings"),
        (members("http:x"), r":6: token.t.members: member 1: no PKCS #11 URI"),
        (members("pkcs11:?backend=a", "pkcs11:object=o?backend=b"), r":6: .*: member 2: names an object"),
        (members("pkcs11:token=v?backend=a&pin-value=1234"), r":6: .*: member 1: must not hold a PIN"),
        (members("pkcs11:token=v?backend=a&pin-source=/p"), r":6: .*: member 1: must not hold a PIN"),
        (members("pkcs11:token=v?backend=a&module-path=/m"), r":6: .*: member 1: names a module"),
        (members("pkcs11:token=v?backend=a&wieght=2"), r":6: .*: member 1: wieght is not known here"),
        (
            members("pkcs11:token=v;backend=a"),
            r":6: .*: member 1: backend is not known here; .* behind a question mark",
        ),
        (members("pkcs11:token=v?backend=a&backend=b"), r":6: .*: member 1: backend occurs twice"),
        (members("pkcs11:token=v"), r":6: .*: member 1: backend= is missing, and there are several"),
        (members("pkcs11:token=v?backend=c"), r":6: .*: member 1: there is no section \[backend.c\]"),
        (members("pkcs11:token=v?backend=a&name=x%20y"), r":6: .*: member 1: a name has letters"),
        (members("pkcs11:token=v?backend=a&name="), r":6: .*: member 1: a name has letters"),
        *(
            (
                members(f"pkcs11:token=v?backend=a&weight={weight}"),
                r":6: .*: member 1: weight is a number from 1 to 1000",
            )
            for weight in ("0", "1001", "+1", "", "1.5", "9" * 30)
        ),
        (members("pkcs11:token=v?backend=a&standby=maybe"), r":6: .*: member 1: standby is yes or no"),
        (
            members("pkcs11:token=v?backend=a", "pkcs11:token=w?backend=a"),
            r":6: .*: member 2: there is another a; give each a name=",
        ),
        (
            members("pkcs11:token=v?backend=a", "pkcs11:token=w?backend=b&name=a"),
            r":6: .*: member 2: there is another a",
        ),
        (
            members("pkcs11:token=v;serial=1?backend=a", "pkcs11:serial=1;token=%76?backend=a&name=x"),
            r":6: .*: member 2: is the same token as a",
        ),
        (
            members("pkcs11:token=v?backend=a&standby=yes", "pkcs11:token=v?backend=b&standby=yes"),
            r":6: .*: all are standbys; one must serve",
        ),
        # What return values mean
        (ONE + 'error_classes = { 0x80000383 = "gone" }\n', r":3: .*\.0x80000383: must be one of: lost, session, busy"),
        (ONE + 'error_classes = { CKR_DEVICE_EROR = "lost" }\n', r":3: .*\.CKR_DEVICE_EROR: is no return value"),
        (ONE + 'error_classes = { 0x8g = "lost" }\n', r":3: .*\.0x8g: is no return value"),
        (ONE + 'error_classes = { 0x = "lost" }\n', r":3: .*\.0x: is no return value"),
        (ONE + 'error_classes = { "" = "lost" }\n', r":3: .*: is no return value"),
        (ONE + 'error_classes = { "-1" = "lost" }\n', r":3: .*\.-1: is no return value"),
        (ONE + 'error_classes = { 1_0 = "lost" }\n', r":3: .*\.1_0: is no return value"),
        (ONE + 'error_classes = { 0x10000000000000000 = "lost" }\n', r":3: .*: is more than 64 bits"),
        (ONE + 'error_classes = { 0 = "lost" }\n', r":3: .*\.0: is CKR_OK, which is no error"),
        (ONE + 'error_classes = { 0x30 = "lost", 48 = "busy" }\n', r":3: .*\.48: is the same as 0x30"),
        (ONE + "error_classes = { 48 = 3 }\n", r":3: backend.s.error_classes: must be a table of strings"),
        # Metrics
        (ONE + '[metrics]\naddress = "tcp://0.0.0.0:9464"\n', r":4: metrics.address: plain HTTP outside loopback"),
        (ONE + '[metrics]\naddress = "unix:/m"\n', r":4: metrics.address: must be tcp://host:port"),
        (ONE + '[metrics]\naddress = "127.0.0.1:1"\n', r":4: metrics.address: an address is"),
        (ONE + "[metrics]\nport = 1\n", r":4: metrics.port: unknown; known here: address, insecure"),
    ],
)
def test_a_mistake_is_told_with_its_line(text, problem):
    found = problems(text)
    assert any(re.search(rf"k\.toml{problem}", line) for line in found), found


def test_mistakes_of_several_members_are_told_at_once():
    found = problems(members("pkcs11:token=v?backend=c", "pkcs11:token=v?backend=b", "pkcs11:token=w?weight=0"))
    assert re.findall(r"member (\d)", "\n".join(found)) == ["1", "3"]


def test_a_pin_in_a_member_is_not_repeated():
    found = problems(members("pkcs11:token=v?backend=a&pin-value=7391", "pkcs11:pin-value=7391"))
    assert found
    assert "7391" not in "".join(found)


def test_where_metrics_are():
    assert parse(ONE).metrics.address is None
    assert parse(ONE + '[metrics]\naddress = "tcp://127.0.0.1:9464"\n').metrics.address == Tcp("127.0.0.1", 9464)
    abroad = '[metrics]\naddress = "tcp://[::]:9464"\ninsecure = true\n'
    assert parse(ONE + abroad).metrics.address == Tcp("::", 9464)


@given(st.integers(1, 2**64 - 1), st.sampled_from(["{:d}", "{:#x}", "0x{:X}", "0x{:020x}"]))
def test_every_return_value_can_be_written(rv, form):
    text = form.format(rv)
    backend = parse(f'{ONE}error_classes = {{ "{text}" = "busy" }}\n').backends["s"]
    assert error_classes_of(backend) == {rv: "busy"}


@given(st.text(max_size=24))
def test_no_key_of_error_classes_breaks_the_loader(text):
    key = "".join(f"\\U{ord(each):08x}" for each in text if not 0xD800 <= ord(each) < 0xE000)
    try:
        backend = parse(f'{ONE}error_classes = {{ "{key}" = "busy" }}\n').backends["s"]
    except ConfigError:
        return
    assert all(0 < rv < 2**64 for rv in error_classes_of(backend))
