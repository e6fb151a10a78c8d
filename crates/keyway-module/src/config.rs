//! Where the daemon is and how to get there: variables, else the user's `module.toml`, else the system's.

use crate::address::Address;
use crate::credentials::{Credentials, Files, Own};
use crate::setting::{ConfigError, Setting};
use crate::toml::{self, Value};
use keyway_wire::limits::MAX_BODY;
use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SYSTEM_FILE: &str = "/etc/keyway/module.toml";
const DEFAULT_SOCKET: &str = "/run/keyway/keyway.sock";

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One text or several; in a variable, several stand between white space.
    Addresses,
    Text,
    /// true or false; in a variable 1 or 0.
    Bool,
    /// A whole number, at most this.
    Number(u64),
}

/// The settings: key of the file, variable, kind.
const SETTINGS: [(&str, &str, Kind); 10] = [
    ("address", "KEYWAY_ADDRESS", Kind::Addresses),
    ("ca", "KEYWAY_CA", Kind::Text),
    ("certificate", "KEYWAY_CERTIFICATE", Kind::Text),
    ("key", "KEYWAY_KEY", Kind::Text),
    ("server_name", "KEYWAY_SERVER_NAME", Kind::Text),
    ("insecure", "KEYWAY_INSECURE", Kind::Bool),
    ("renewal", "KEYWAY_RENEWAL", Kind::Number(3_600)),
    ("journal", "KEYWAY_JOURNAL", Kind::Number(MAX_BODY as u64)),
    ("remember_pin", "KEYWAY_REMEMBER_PIN", Kind::Bool),
    ("silence", "KEYWAY_SILENCE", Kind::Number(3_600)),
];

/// How sessions are made anew when their connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// How long a call waits for a daemon. Without any patience sessions are lost with their connection.
    pub patience: Duration,
    /// So many bytes of the operations of a session are kept, to be made again.
    pub journal: usize,
    /// Whether PINs are kept, to log in again.
    pub remember_pin: bool,
    /// After this time a daemon that says nothing is asked whether it is there, and after as long again it is taken for gone.
    /// Zero: it may be silent for as long as it likes.
    pub silence: Duration,
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            journal: 1 << 20,
            remember_pin: true,
            silence: Duration::from_secs(5),
        }
    }
}

/// Where to find a daemon.
#[derive(Debug)]
pub struct Config {
    /// Tried in this order.
    pub addresses: Vec<Address>,
    /// For those with TLS; there if there is one.
    pub credentials: Option<Credentials>,
    /// What becomes of sessions when the connection is lost.
    pub renewal: Renewal,
}

impl Config {
    /// One unix socket.
    #[must_use]
    pub fn unix(path: PathBuf) -> Self {
        Self {
            addresses: vec![Address::Unix(path)],
            credentials: None,
            renewal: Renewal::default(),
        }
    }
}

/// What the process's surroundings say; a parameter, so that decisions can be tested without them.
#[derive(Debug, Default)]
pub struct Environment {
    /// The variables of `SETTINGS` that are set and not empty.
    pub variables: HashMap<&'static str, OsString>,
    /// The files that may be there, the first one first.
    pub files: Vec<PathBuf>,
}

impl Environment {
    /// The environment of this process; that of a set-uid program is its caller's and tells nothing.
    #[must_use]
    pub fn current() -> Self {
        let system = PathBuf::from(SYSTEM_FILE);
        if keyway_abi::process::is_privileged() {
            return Self {
                variables: HashMap::new(),
                files: vec![system],
            };
        }
        let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let folder = given("XDG_CONFIG_HOME").map(PathBuf::from);
        let folder = folder.or_else(|| given("HOME").map(|home| PathBuf::from(home).join(".config")));
        Self {
            variables: SETTINGS
                .iter()
                .filter_map(|(_, name, _)| Some((*name, given(name)?)))
                .collect(),
            files: folder
                .map(|folder| folder.join("keyway/module.toml"))
                .into_iter()
                .chain([system])
                .collect(),
        }
    }

    /// Where the daemon is. Each setting is taken from the first place that has it.
    ///
    /// # Errors
    /// A setting is wrong, or a file that had to be read.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut settings = Settings::default();
        settings.read_variables(&self.variables)?;
        for file in &self.files {
            if settings.are_enough() {
                break;
            }
            settings.read_file(file)?;
        }
        settings.config()
    }
}

fn is_number(text: &str, most: u64) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit()) && text.parse().is_ok_and(|number: u64| number <= most)
}

/// Settings by their keys.
#[derive(Debug, Default)]
struct Settings(HashMap<&'static str, Setting<Value>>);

impl Settings {
    fn read_variables(&mut self, variables: &HashMap<&'static str, OsString>) -> Result<(), ConfigError> {
        for (key, name, kind) in SETTINGS {
            let Some(text) = variables.get(name) else { continue };
            let place = name.to_owned();
            let Some(text) = text.to_str() else {
                let problem = "not UTF-8".to_owned();
                return Err(ConfigError { place, problem });
            };
            let value = match (kind, text) {
                (Kind::Addresses, text) => Value::Texts(text.split_whitespace().map(str::to_owned).collect()),
                (Kind::Text, text) => Value::Text(text.to_owned()),
                (Kind::Bool, "0") => Value::Word("false".to_owned()),
                (Kind::Bool, "1") => Value::Word("true".to_owned()),
                (Kind::Bool, _) => {
                    let problem = format!("\"{text}\" is neither 0 nor 1");
                    return Err(ConfigError { place, problem });
                }
                (Kind::Number(most), text) if is_number(text, most) => Value::Word(text.to_owned()),
                (Kind::Number(most), _) => {
                    let problem = format!("\"{text}\" is no whole number from 0 to {most}");
                    return Err(ConfigError { place, problem });
                }
            };
            self.0.insert(key, Setting { value, place });
        }
        Ok(())
    }

    /// Adds what a file says and was not known yet; nothing if there is no such file.
    fn read_file(&mut self, file: &Path) -> Result<(), ConfigError> {
        let wrong = |place: String| move |problem| ConfigError { place, problem };
        let at = |line: usize| format!("{}:{line}", file.display());
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(error) => return Err(wrong(file.display().to_string())(error.to_string())),
        };
        let entries = toml::parse(&text).map_err(|(line, problem)| wrong(at(line))(problem))?;
        let mut own = Self::default();
        for toml::Entry { line, key, value } in entries {
            let setting = Setting { value, place: at(line) };
            let Some((key, _, kind)) = SETTINGS.into_iter().find(|(name, ..)| *name == key) else {
                let keys = SETTINGS.map(|(key, ..)| key).join(", ");
                return Err(setting.wrong(format!("unknown key {key}; there are {keys}")));
            };
            let expected = match (kind, &setting.value) {
                (Kind::Addresses, Value::Text(_) | Value::Texts(_)) | (Kind::Text, Value::Text(_)) => None,
                (Kind::Bool, Value::Word(word)) if word == "true" || word == "false" => None,
                (Kind::Number(most), Value::Word(word)) if is_number(word, most) => None,
                (Kind::Addresses, _) => Some("a text in quotes or an array of them".to_owned()),
                (Kind::Text, _) => Some("a text in quotes".to_owned()),
                (Kind::Bool, _) => Some("true or false".to_owned()),
                (Kind::Number(most), _) => Some(format!("a whole number from 0 to {most}")),
            };
            if let Some(expected) = expected {
                return Err(setting.wrong(format!("{key} is {expected}")));
            }
            if own.0.contains_key(key) {
                return Err(setting.wrong(format!("{key} is given twice")));
            }
            own.0.insert(key, setting);
        }
        for (key, setting) in own.0 {
            self.0.entry(key).or_insert(setting);
        }
        Ok(())
    }

    /// Whether no further setting could change anything.
    fn are_enough(&self) -> bool {
        SETTINGS.iter().all(|(key, ..)| self.0.contains_key(key))
    }

    fn addresses(&self) -> Option<Setting<Vec<String>>> {
        let Setting { value, place } = self.0.get("address")?;
        let value = match value {
            Value::Text(text) => vec![text.clone()],
            Value::Texts(texts) => texts.clone(),
            Value::Word(_) => Vec::new(),
        };
        Some(Setting {
            value,
            place: place.clone(),
        })
    }

    fn text(&self, key: &str) -> Option<Setting<String>> {
        match self.0.get(key)? {
            Setting {
                value: Value::Text(text),
                place,
            } => Some(Setting {
                value: text.clone(),
                place: place.clone(),
            }),
            _ => None,
        }
    }

    /// The path of a file. A relative one would depend on where the application happens to be.
    fn path(&self, key: &str) -> Result<Option<Setting<PathBuf>>, ConfigError> {
        let Some(setting) = self.text(key) else { return Ok(None) };
        if !setting.value.starts_with('/') {
            return Err(setting.wrong(format!("{key} is \"{}\", which is no absolute path", setting.value)));
        }
        Ok(Some(Setting {
            value: PathBuf::from(setting.value),
            place: setting.place,
        }))
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let renewal = self.renewal();
        let Some(texts) = self.addresses() else {
            return Ok(Config {
                renewal,
                ..Config::unix(PathBuf::from(DEFAULT_SOCKET))
            });
        };
        if texts.value.is_empty() {
            return Err(texts.wrong("there is no address"));
        }
        let parsed: Result<Vec<_>, _> = texts.value.iter().map(|text| Address::parse(text)).collect();
        let addresses = parsed.map_err(|problem| texts.wrong(problem))?;
        let insecure = self.word("insecure") == Some("true");
        if let Some(exposed) = addresses.iter().find(|address| address.is_exposed() && !insecure) {
            return Err(texts.wrong(format!(
                "{exposed} would carry PINs and keys unprotected; use tls://, or set insecure = true (KEYWAY_INSECURE=1)"
            )));
        }
        let mut secured = addresses.iter().filter_map(|address| match address {
            Address::Tls(port) => Some(port),
            Address::Unix(_) | Address::Tcp(_) => None,
        });
        let credentials = match secured.clone().next() {
            None => None,
            Some(_) => Some(self.credentials(&texts)?),
        };
        if let Some(credentials) = &credentials {
            secured.try_for_each(|port| {
                credentials
                    .server_name(port)
                    .map(drop)
                    .map_err(|problem| texts.wrong(problem))
            })?;
        }
        Ok(Config {
            addresses,
            credentials,
            renewal,
        })
    }

    fn word(&self, key: &str) -> Option<&str> {
        match &self.0.get(key)?.value {
            Value::Word(word) => Some(word),
            _ => None,
        }
    }

    fn renewal(&self) -> Renewal {
        let usual = Renewal::default();
        // What is no number has been refused.
        let number = |key| self.word(key).and_then(|word| word.parse().ok());
        Renewal {
            patience: number("renewal").map_or(usual.patience, Duration::from_secs),
            journal: number("journal").map_or(usual.journal, |bytes| bytes as usize),
            remember_pin: self
                .word("remember_pin")
                .map_or(usual.remember_pin, |word| word == "true"),
            silence: number("silence").map_or(usual.silence, Duration::from_secs),
        }
    }

    fn credentials(&self, addresses: &Setting<Vec<String>>) -> Result<Credentials, ConfigError> {
        let ca = self.path("ca")?.ok_or_else(|| {
            addresses
                .wrong("tls:// needs ca (KEYWAY_CA), the file with the certificates that the server's is signed by")
        })?;
        let own = match (self.path("certificate")?, self.path("key")?) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Own { certificate, key }),
            (Some(certificate), None) => return Err(certificate.wrong("certificate needs key (KEYWAY_KEY), too")),
            (None, Some(key)) => return Err(key.wrong("key needs certificate (KEYWAY_CERTIFICATE), too")),
        };
        Credentials::read(Files {
            ca,
            own,
            server_name: self.text("server_name"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder for files, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let folder = env::temp_dir().join(format!("keyway-config-{}-{count}", std::process::id()));
            fs::create_dir(&folder).expect("a folder");
            Self(folder)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).expect("a file");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn environment(variables: &[(&'static str, &str)], files: &[PathBuf]) -> Environment {
        Environment {
            variables: variables
                .iter()
                .map(|(name, value)| (*name, OsString::from(value)))
                .collect(),
            files: files.to_vec(),
        }
    }

    fn addresses(environment: &Environment) -> Vec<String> {
        let config = environment.config().expect("a configuration");
        config.addresses.iter().map(Address::to_string).collect()
    }

    fn error(environment: &Environment) -> String {
        environment.config().expect_err("an error").to_string()
    }

    #[test]
    fn without_any_word_it_is_the_usual_socket() {
        let missing = PathBuf::from("/nonexistent/module.toml");
        assert_eq!(
            addresses(&environment(&[], &[missing])),
            ["unix:/run/keyway/keyway.sock"]
        );
    }

    #[test]
    fn addresses_keep_their_order() {
        let folder = Folder::new();
        let several = [("KEYWAY_ADDRESS", " unix:path=/a%20b\ttcp://127.0.0.1:1\n/c ")];
        assert_eq!(
            addresses(&environment(&several, &[])),
            ["unix:/a b", "tcp://127.0.0.1:1", "unix:/c"]
        );
        let file = folder.file(
            "module.toml",
            "address = [\n  'tcp://[::1]:1', # first\n  'unix:/a b',\n]\n",
        );
        assert_eq!(addresses(&environment(&[], &[file])), ["tcp://[::1]:1", "unix:/a b"]);
    }

    #[test]
    fn the_first_place_that_has_a_setting_counts() {
        let folder = Folder::new();
        let user = folder.file("user.toml", "insecure = true\n");
        let system = folder.file("system.toml", "address = 'tcp://10.0.0.1:1'\ninsecure = false\n");
        let files = [user, system];
        assert_eq!(addresses(&environment(&[], &files)), ["tcp://10.0.0.1:1"]);
        assert!(error(&environment(&[("KEYWAY_INSECURE", "0")], &files)).contains("system.toml:1: tcp://10.0.0.1:1"));
        let variables = [("KEYWAY_ADDRESS", "tcp://10.0.0.2:2")];
        assert_eq!(addresses(&environment(&variables, &files)), ["tcp://10.0.0.2:2"]);
    }

    #[test]
    fn files_that_could_change_nothing_are_not_read() {
        let folder = Folder::new();
        let wrong = folder.file("module.toml", "port = 1\n");
        let all = SETTINGS.map(|(_, variable, kind)| match kind {
            Kind::Addresses => (variable, "/a unix:/b"),
            Kind::Text => (variable, "/c"),
            Kind::Bool | Kind::Number(_) => (variable, "1"),
        });
        assert_eq!(
            addresses(&environment(&all, std::slice::from_ref(&wrong))),
            ["unix:/a", "unix:/b"]
        );
        let told = error(&environment(&all[1..], &[wrong]));
        assert!(
            told.contains("module.toml:1: unknown key port; there are address, ca"),
            "{told}"
        );
    }

    #[test]
    fn how_sessions_are_made_anew_is_said_in_seconds_and_bytes() {
        let folder = Folder::new();
        let renewal = |environment: &Environment| environment.config().expect("a configuration").renewal;
        let usual = renewal(&environment(&[], &[]));
        assert_eq!(usual, Renewal::default());
        assert_eq!(usual.patience, Duration::from_secs(10));
        assert_eq!(usual.silence, Duration::from_secs(5));
        assert!(usual.remember_pin);
        let file = folder.file("module.toml", "renewal = 0\njournal = 2_0\n");
        assert!(
            error(&environment(&[], &[file])).contains("module.toml:2: journal is a whole number from 0 to 67108864")
        );
        let file = folder.file("module.toml", "renewal = 60\nremember_pin = false\nsilence = 0\n");
        let variables = [("KEYWAY_ADDRESS", "/a"), ("KEYWAY_JOURNAL", "0")];
        let expected = Renewal {
            patience: Duration::from_secs(60),
            journal: 0,
            remember_pin: false,
            silence: Duration::ZERO,
        };
        assert_eq!(renewal(&environment(&variables, &[file])), expected);
        for wrong in ["-1", "3601", "1.5", "ten", "99999999999999999999"] {
            for name in ["KEYWAY_RENEWAL", "KEYWAY_SILENCE"] {
                assert_eq!(
                    error(&environment(&[(name, wrong)], &[])),
                    format!("{name}: \"{wrong}\" is no whole number from 0 to 3600")
                );
            }
        }
        assert!(error(&environment(&[("KEYWAY_REMEMBER_PIN", "no")], &[])).contains("neither 0 nor 1"));
    }

    #[test]
    fn tcp_leaves_the_machine_only_if_that_is_said() {
        let address = ("KEYWAY_ADDRESS", "/a tcp://gateway:5657");
        let told = error(&environment(&[address], &[]));
        assert!(
            told.starts_with("KEYWAY_ADDRESS: tcp://gateway:5657 would carry"),
            "{told}"
        );
        let insecure = environment(&[address, ("KEYWAY_INSECURE", "1")], &[]);
        assert_eq!(addresses(&insecure), ["unix:/a", "tcp://gateway:5657"]);
    }

    #[test]
    fn a_wrong_value_is_told_with_its_place() {
        let folder = Folder::new();
        for (text, expected) in [
            ("address = 'k.sock'", ":1: \"k.sock\" is not an address"),
            ("\naddress = []", ":2: there is no address"),
            ("address = true", ":1: address is a text in quotes or an array of them"),
            ("address = '/x'\naddress = '/y'", ":2: address is given twice"),
            ("ca = ['/x']", ":1: ca is a text in quotes"),
            ("insecure = 'yes'", ":1: insecure is true or false"),
            ("address = /x", ":1: expected a text in quotes"),
            ("[tls]", ":1: expected key = value"),
        ] {
            let file = folder.file("module.toml", text);
            let told = error(&environment(&[], &[file]));
            assert!(told.contains(&format!("module.toml{expected}")), "{text}: {told}");
        }
        for (name, value, expected) in [
            ("KEYWAY_ADDRESS", " ", "KEYWAY_ADDRESS: there is no address"),
            (
                "KEYWAY_ADDRESS",
                "/x k.sock",
                "KEYWAY_ADDRESS: \"k.sock\" is not an address",
            ),
            ("KEYWAY_INSECURE", "yes", "KEYWAY_INSECURE: \"yes\" is neither 0 nor 1"),
        ] {
            let told = error(&environment(&[(name, value)], &[]));
            assert!(told.starts_with(expected), "{told}");
        }
        let mut other = environment(&[], &[]);
        other
            .variables
            .insert("KEYWAY_CA", OsString::from_vec(vec![b'/', 0xff]));
        assert_eq!(error(&other), "KEYWAY_CA: not UTF-8");
        let told = error(&environment(&[], std::slice::from_ref(&folder.0)));
        assert!(told.starts_with(&format!("{}: ", folder.0.display())), "{told}");
    }

    #[test]
    fn tls_needs_its_files() {
        let folder = Folder::new();
        let empty = folder.file("empty.pem", "nothing\n");
        let empty = empty.to_str().expect("a path");
        let address = ("KEYWAY_ADDRESS", "/a tls://gateway:5658");
        for (variables, expected) in [
            (vec![], "KEYWAY_ADDRESS: tls:// needs ca (KEYWAY_CA)".to_owned()),
            (
                vec![("KEYWAY_CA", "ca.pem")],
                "KEYWAY_CA: ca is \"ca.pem\", which is no absolute path".to_owned(),
            ),
            (
                vec![("KEYWAY_CA", "/nonexistent/ca.pem")],
                "KEYWAY_CA: /nonexistent/ca.pem: No such file".to_owned(),
            ),
            (
                vec![("KEYWAY_CA", empty)],
                format!("KEYWAY_CA: {empty}: no certificate in it"),
            ),
            (
                vec![("KEYWAY_CA", empty), ("KEYWAY_KEY", "/x")],
                "KEYWAY_KEY: key needs certificate".to_owned(),
            ),
            (
                vec![("KEYWAY_CA", empty), ("KEYWAY_CERTIFICATE", "/x")],
                "KEYWAY_CERTIFICATE: certificate needs key".to_owned(),
            ),
            (
                vec![("KEYWAY_CA", empty), ("KEYWAY_SERVER_NAME", "a b")],
                "KEYWAY_SERVER_NAME: \"a b\" is neither a host's name nor an IP address".to_owned(),
            ),
        ] {
            let told = error(&environment(&[&[address], variables.as_slice()].concat(), &[]));
            assert!(told.starts_with(&expected), "{told}");
        }
        let file = folder.file(
            "module.toml",
            "# far away\nca = '/nonexistent/ca.pem'\naddress = 'tls://gateway:1'\n",
        );
        let told = error(&environment(&[], &[file]));
        assert!(
            told.contains("module.toml:2: /nonexistent/ca.pem: No such file"),
            "{told}"
        );
    }
}
