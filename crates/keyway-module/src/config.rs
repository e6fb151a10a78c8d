//! Where the daemon is: `KEYWAY_ADDRESS`, else the user's `module.toml`, else the system's, else the usual socket.

use std::env;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const SYSTEM_FILE: &str = "/etc/keyway/module.toml";
const DEFAULT_SOCKET: &str = "/run/keyway/keyway.sock";

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
}

/// What is wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable or `file:line`.
    place: String,
    problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl Address {
    /// Reads `unix:/path` or a bare absolute path.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.starts_with('/') {
            Ok(Self::Unix(PathBuf::from(path)))
        } else {
            Err(format!("\"{text}\" is not an address: unix:/path is one"))
        }
    }
}

/// What the environment says; a parameter, so that decisions can be tested without one.
#[derive(Debug, Default)]
pub struct Environment {
    /// KEYWAY_ADDRESS.
    pub address: Option<String>,
    /// The folder of the user's configuration.
    pub user: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process; that of a set-uid program is its caller's and tells nothing.
    #[must_use]
    pub fn current() -> Self {
        if keyway_abi::process::is_privileged() {
            return Self::default();
        }
        let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            address: env::var("KEYWAY_ADDRESS").ok().filter(|value| !value.is_empty()),
            user: folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config"))),
        }
    }

    /// The address of the daemon.
    ///
    /// # Errors
    /// The variable or the first file that exists is wrong.
    pub fn address(&self) -> Result<Address, ConfigError> {
        if let Some(text) = &self.address {
            let error = |problem| ConfigError {
                place: "KEYWAY_ADDRESS".to_owned(),
                problem,
            };
            return Address::parse(text).map_err(error);
        }
        let user = self.user.as_ref().map(|folder| folder.join("keyway/module.toml"));
        for file in user.as_deref().into_iter().chain([Path::new(SYSTEM_FILE)]) {
            if let Some(address) = read(file)? {
                return Ok(address);
            }
        }
        Ok(Address::Unix(PathBuf::from(DEFAULT_SOCKET)))
    }
}

/// The address in a file; None if there is no such file or it names none.
fn read(file: &Path) -> Result<Option<Address>, ConfigError> {
    match fs::read_to_string(file) {
        Ok(text) => parse(&text).map_err(|(line, problem)| ConfigError {
            place: format!("{}:{line}", file.display()),
            problem,
        }),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(ConfigError {
            place: file.display().to_string(),
            problem: error.to_string(),
        }),
    }
}

/// Reads the part of TOML that the file needs: comments, empty lines and `key = "text"` or `key = 'text'` on one line.
///
/// # Errors
/// The line, from 1, and what is wrong with it.
fn parse(text: &str) -> Result<Option<Address>, (usize, String)> {
    let mut address = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |problem: String| (index + 1, problem);
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| fail("expected key = \"value\"".to_owned()))?;
        match key.trim() {
            "address" if address.is_some() => return Err(fail("address is given twice".to_owned())),
            "address" => {
                let value = quoted(value.trim()).ok_or_else(|| fail("expected a text in quotes".to_owned()))?;
                address = Some(Address::parse(value).map_err(fail)?);
            }
            key => return Err(fail(format!("unknown key {key}; there is only address"))),
        }
    }
    Ok(address)
}

/// The text of a TOML string without escapes, which may be followed by a comment.
fn quoted(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let (text, behind) = value[1..].split_once(quote)?;
    let behind = behind.trim_start();
    let escaped = quote == '"' && text.contains('\\');
    (!escaped && (behind.is_empty() || behind.starts_with('#'))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &str) -> Address {
        Address::Unix(PathBuf::from(path))
    }

    #[test]
    fn an_address_is_a_unix_socket_with_or_without_its_scheme() {
        assert_eq!(Address::parse("unix:/run/k.sock"), Ok(unix("/run/k.sock")));
        assert_eq!(Address::parse("/run/k.sock"), Ok(unix("/run/k.sock")));
        assert!(Address::parse("k.sock").is_err());
        assert!(Address::parse("tcp:host:1").is_err());
    }

    #[test]
    fn a_file_may_have_comments_and_both_kinds_of_quotes() {
        let text = "# where\n\n  address = 'unix:/a b#c'  # the daemon\n";
        assert_eq!(parse(text), Ok(Some(unix("/a b#c"))));
        assert_eq!(parse("address=\"/x\""), Ok(Some(unix("/x"))));
        assert_eq!(parse("# nothing\n"), Ok(None));
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number() {
        for text in [
            "\naddress",
            "\naddress = /x",
            "\naddress = \"/x",
            "\naddress = \"/x\" y",
            "\naddress = \"/\\x\"",
            "\n[module]",
            "\nsocket = \"/x\"",
            "address = \"/x\"\naddress = \"/y\"",
        ] {
            assert_eq!(parse(text).map_err(|(line, _)| line), Err(2), "{text:?}");
        }
    }

    #[test]
    fn the_variable_goes_before_the_files_and_the_user_before_the_system() {
        let folder = env::temp_dir().join(format!("keyway-config-{}", std::process::id()));
        fs::create_dir_all(folder.join("keyway")).expect("a folder");
        fs::write(folder.join("keyway/module.toml"), "address = \"/user\"\n").expect("a file");
        let mut environment = Environment {
            address: Some("/variable".to_owned()),
            user: Some(folder.clone()),
        };
        assert_eq!(environment.address(), Ok(unix("/variable")));
        environment.address = None;
        assert_eq!(environment.address(), Ok(unix("/user")));
        fs::write(folder.join("keyway/module.toml"), "\nport = 1\n").expect("a file");
        let error = environment.address().expect_err("a wrong file");
        assert!(error.to_string().contains("module.toml:2: unknown key port"), "{error}");
        fs::remove_dir_all(folder).expect("to clean up");
    }
}
