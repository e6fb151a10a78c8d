//! Where a daemon listens, as text and as a value.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port, without protection.
    Tcp(Port),
    /// A TCP port with TLS.
    Tls(Port),
}

/// A TCP port of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name or IP address, an IPv6 address without brackets.
    pub host: String,
    /// The port's number, not 0.
    pub number: u16,
}

impl Address {
    /// Reads `unix:/path`, p11-kit's `unix:path=/path` with percent encoding, a bare absolute path, `tcp://host:port` or
    /// `tls://host:port`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let unix = |path: String| {
            if path.starts_with('/') && !path.contains('\0') {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err(format!("\"{text}\": the path of a unix socket must be absolute"))
            }
        };
        if text.starts_with('/') {
            unix(text.to_owned())
        } else if let Some(encoded) = text.strip_prefix("unix:path=") {
            unix(unquoted(encoded).ok_or_else(|| format!("\"{text}\": a wrong percent encoding"))?)
        } else if let Some(path) = text.strip_prefix("unix:") {
            unix(path.to_owned())
        } else if let Some(rest) = text.strip_prefix("tcp:") {
            Ok(Self::Tcp(Port::parse(text, rest)?))
        } else if let Some(rest) = text.strip_prefix("tls:") {
            Ok(Self::Tls(Port::parse(text, rest)?))
        } else {
            Err(format!(
                "\"{text}\" is not an address: unix:/path, tcp://host:port and tls://host:port are"
            ))
        }
    }

    /// Whether everything that goes there can be read on the way.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Tcp(port) => !port.is_loopback(),
            Self::Unix(_) | Self::Tls(_) => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(port) => write!(f, "tcp://{port}"),
            Self::Tls(port) => write!(f, "tls://{port}"),
        }
    }
}

impl Port {
    /// Reads `//host:port`, the part of `text` after the scheme.
    fn parse(text: &str, rest: &str) -> Result<Self, String> {
        let fail = || format!("\"{text}\" needs a host and a port, as in tls://host:port or tls://[::1]:port");
        let (host, number) = rest
            .strip_prefix("//")
            .and_then(|rest| rest.rsplit_once(':'))
            .ok_or_else(fail)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.contains(':') => inner,
            None if !host.contains(':') => host,
            _ => return Err(fail()),
        };
        let strange = |sign: char| sign.is_whitespace() || sign.is_control() || matches!(sign, '/' | '[' | ']' | '@');
        if host.is_empty() || host.contains(strange) || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(fail());
        }
        match number.parse() {
            Ok(0) | Err(_) => Err(format!("\"{text}\": ports go from 1 to 65535")),
            Ok(number) => Ok(Self {
                host: host.to_owned(),
                number,
            }),
        }
    }

    /// Whether nobody outside this machine can be at the other end.
    fn is_loopback(&self) -> bool {
        self.host
            .parse::<IpAddr>()
            .map_or(self.host == "localhost", |ip| ip.is_loopback())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.number)
        } else {
            write!(f, "{}:{}", self.host, self.number)
        }
    }
}

/// Undoes percent encoding; None if it is wrong or no UTF-8.
fn unquoted(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            (digit()? << 4 | digit()?) as u8
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &str) -> Result<Address, String> {
        Ok(Address::Unix(PathBuf::from(path)))
    }

    fn port(host: &str, number: u16) -> Port {
        Port {
            host: host.to_owned(),
            number,
        }
    }

    #[test]
    fn a_unix_socket_is_written_in_three_ways() {
        assert_eq!(Address::parse("unix:/run/k.sock"), unix("/run/k.sock"));
        assert_eq!(Address::parse("/run/k.sock"), unix("/run/k.sock"));
        assert_eq!(Address::parse("unix:/run/50%25"), unix("/run/50%25"));
        assert_eq!(Address::parse("unix:path=/run/a%20b%2Fc"), unix("/run/a b/c"));
    }

    #[test]
    fn a_port_has_a_name_or_an_ip_address() {
        for (text, address) in [
            ("tcp://127.0.0.1:5657", Address::Tcp(port("127.0.0.1", 5657))),
            (
                "tls://hsm.example.org:5658",
                Address::Tls(port("hsm.example.org", 5658)),
            ),
            ("tls://[2001:db8::1]:65535", Address::Tls(port("2001:db8::1", 65_535))),
            ("tls://[fe80::1%eth0]:1", Address::Tls(port("fe80::1%eth0", 1))),
        ] {
            assert_eq!(Address::parse(text), Ok(address.clone()));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn other_text_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "is not an address"),
            ("k.sock", "is not an address"),
            ("http://host:1", "is not an address"),
            ("vsock:cid=2;port=1", "is not an address"),
            ("unix:", "absolute"),
            ("unix:k.sock", "absolute"),
            ("unix:path=k", "absolute"),
            ("unix:path=/a%00", "absolute"),
            ("unix:path=/a%2", "percent"),
            ("unix:path=/a%zz", "percent"),
            ("unix:path=/%ff", "percent"),
            ("tcp:host:1", "needs a host and a port"),
            ("tcp://host", "needs a host and a port"),
            ("tcp://:1", "needs a host and a port"),
            ("tcp://a:b:1", "needs a host and a port"),
            ("tls://::1:5", "needs a host and a port"),
            ("tls://[::1]", "needs a host and a port"),
            ("tls://[host]:1", "needs a host and a port"),
            ("tls://host:1/x", "needs a host and a port"),
            ("tls://user@host:1", "needs a host and a port"),
            ("tls://host:+1", "needs a host and a port"),
            ("tls://host:", "ports go from 1 to 65535"),
            ("tls://host:0", "ports go from 1 to 65535"),
            ("tls://host:65536", "ports go from 1 to 65535"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn tcp_is_exposed_outside_of_this_machine_only() {
        for (text, exposed) in [
            ("tcp://127.0.0.1:1", false),
            ("tcp://127.9.9.9:1", false),
            ("tcp://[::1]:1", false),
            ("tcp://localhost:1", false),
            ("tcp://0.0.0.0:1", true),
            ("tcp://10.0.0.1:1", true),
            ("tcp://hsm:1", true),
            ("tls://10.0.0.1:1", false),
            ("/run/k.sock", false),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.is_exposed(), exposed, "{text}");
        }
    }

    #[test]
    fn whatever_the_text_it_is_an_address_or_an_error() {
        for source in [
            "unix:path=/run/a%20b",
            "tls://[2001:db8::1%eth0]:65535",
            "tcp://localhost:5657",
        ] {
            for (start, sign) in source.char_indices() {
                for other in ["", "é", ":", "/", "[", "]", "%", " ", "\0", "0"] {
                    let changed = [&source[..start], other, &source[start + sign.len_utf8()..]].concat();
                    if let Ok(address) = Address::parse(&changed) {
                        assert_eq!(Address::parse(&address.to_string()), Ok(address), "{changed:?}");
                    }
                }
            }
        }
    }
}
