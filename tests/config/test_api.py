"""The sections of the provisioning API."""

from pathlib import Path

import pytest

from keyway.address import Tcp
from keyway.config import ConfigError, parse

BACKEND = '[backend.a]\nmodule = "/m.so"\n'


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (
            'address = "tcp://0.0.0.0:0"\ninsecure = true\nanonymous = "all"',
            "api.anonymous: is for a tcp address on loop",
        ),
        ('address = "tcp://0.0.0.0:0"\nanonymous = "all"', "api.address: plain tcp outside loopback"),
        ('address = "unix:/tmp/x"\nanonymous = "all"', "api.address: must be tcp"),
        ('address = "tls://127.0.0.1:0"', "api.address: TLS needs certificate and key"),
        ('anonymous = "all"\nca = "/x"', "api.ca: is for TLS only"),
        ('anonymous = "all"\ncompatible_pin = "x"', "api.compatible_pin: there is no section [api.pin.x]"),
        ('anonymous = "all"\n[api.pin.x]\nfile = "/x"', "api.pin.x: token is missing"),
        ('anonymous = "all"\nkeytab = "/k"', "api.keytab: is for Kerberos only"),
        ('anonymous = "all"\nprincipals = ["a@R"]', "api.principals: is for Kerberos only"),
        ('kerberos = true\nprincipals = ["alice"]', "api.principals: alice: must be a principal with its realm"),
        ('kerberos = true\nchannel_binding = "optional"', "api.channel_binding: is for TLS only"),
        ('kerberos = true\nchannel_binding = "none"', "api.channel_binding: must be one of: required, optional"),
        ('anonymous = "some"', "api.anonymous: must be one of: none, compatible, all"),
        ('anonymous = "all"\nport = 1', "api.port: unknown"),
    ],
)
def test_what_is_no_configuration(section, told):
    with pytest.raises(ConfigError) as caught:
        parse(f"[api]\n{section}\n", "api.toml", serves=False)
    assert told in str(caught.value)


def test_without_section():
    assert parse(BACKEND).api is None
    with pytest.raises(ConfigError, match="nobody would be let in"):
        parse(BACKEND + "[api]\n")


def test_defaults():
    config = parse('[api]\nanonymous = "compatible"\n', serves=False)
    assert config.api is not None
    assert config.api.address == Tcp("127.0.0.1", 8081)
    assert config.api.socket is None
    assert config.api.compatible_token == "sdewan-sgx"
    assert not config.api_pins


def test_pins():
    config = parse(
        BACKEND + '[api]\ntokens_file = "/t"\ncompatible_pin = "a"\n'
        '[api.pin.a]\nfile = "/p"\ntoken = "vault"\n[api.pin.b]\nfile = "/q"\ntoken = "vault"\nuser = "so"\ncallers = ["x"]\n'
    )
    assert config.api_pins["a"].file == Path("/p")
    assert config.api_pins["b"].callers == ("x",)
    assert config.api_pins["b"].user == "so"


def test_tickets_are_enough():
    config = parse('[api]\nkerberos = true\nkeytab = "/k"\nprincipals = ["alice@R"]\n', serves=False)
    assert config.api is not None
    assert (config.api.kerberos, config.api.channel_binding) == (True, "required")


@pytest.mark.parametrize("text", ["api = 1", "[api.pin]\nx = 1", "[api]\npin = 1"])
def test_what_is_no_section(text):
    with pytest.raises(ConfigError, match=r"must be (a section|sections)"):
        parse(text + "\n", serves=False)
