"""Addresses as text and as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.address import ANY_CID, Address, AddressError, Gss, Inherited, Tcp, Tls, Unix, Vsock, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/k.sock", Unix("/run/k.sock")),
        ("unix:/run/k.sock", Unix("/run/k.sock")),
        ("unix:/run/50%25", Unix("/run/50%25")),
        ("unix:path=/run/a%20b", Unix("/run/a b")),
        ("tcp://127.0.0.1:5657", Tcp("127.0.0.1", 5657)),
        ("tls://hsm.example.org:5658", Tls("hsm.example.org", 5658)),
        ("tls://[2001:db8::1]:1", Tls("2001:db8::1", 1)),
        ("gss://hsm.example.org:5660", Gss("hsm.example.org", 5660)),
        ("gss://[::1]:0", Gss("::1", 0)),
        ("vsock:cid=2;port=1000", Vsock(2, 1000)),
        ("vsock:port=1000;cid=any", Vsock(ANY_CID, 1000)),
        ("vsock://3:99", Vsock(3, 99)),
        ("systemd:", Inherited("")),
        ("systemd:p11-kit", Inherited("p11-kit")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "k.sock",
            "unix:",
            "unix:k.sock",
            "unix:path=k",
            "unix:path=/a%00",
            "tcp:host:1",
            "tcp://host",
            "tcp://:1",
            "tcp://host:",
        ),
        *(
            "tcp://host:65536",
            "tcp://host:-1",
            "tcp://a:b:1",
            "tls://::1:5",
            "tls://[::1]",
            "tls://host:1/x",
            "gss://host",
            "http://host:1",
            "vsock:",
            "vsock:cid=1",
        ),
        *("vsock:cid=x;port=1", "vsock:cid=1;port=4294967296", "vsock:cid=1;port=1;a=b", "vsock://1", "|command"),
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse(text)


@given(st.text())
def test_whatever_the_text_it_is_an_address_or_an_error(text: str) -> None:
    try:
        address = parse(text)
    except AddressError:
        return
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("hsm", False),
    ],
)
def test_loopback_is_told_from_the_world(host: str, is_loopback: bool) -> None:
    assert Tcp(host, 1).is_loopback is is_loopback
