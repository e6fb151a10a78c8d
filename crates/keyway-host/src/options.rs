//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// How many calls run at the same time unless the command line says otherwise.
const THREADS: usize = 8;

/// What the daemon asks of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The number of the inherited socket.
    pub descriptor: i32,
    /// Whether that socket takes the packets of a seed (seed.rs) instead of the wire.
    pub seed: bool,
    /// How many threads may call the module.
    pub threads: usize,
    /// The vendor module.
    pub module: PathBuf,
}

/// The command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage;

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("usage: keyway-host --fd N [--seed] [--threads N] MODULE")
    }
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Self, Usage> {
        let (mut descriptor, mut seed, mut threads, mut module) = (None, false, THREADS, None);
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--fd") => descriptor = Some(number(args.next())?),
                Some("--seed") => seed = true,
                Some("--threads") => threads = number(args.next())?,
                Some(option) if option.starts_with('-') => return Err(Usage),
                _ if module.is_none() => module = Some(PathBuf::from(arg)),
                _ => return Err(Usage),
            }
        }
        match (descriptor, module) {
            (Some(descriptor), Some(module)) if descriptor >= 0 && threads > 0 => Ok(Self {
                descriptor,
                seed,
                threads,
                module,
            }),
            _ => Err(Usage),
        }
    }
}

fn number<T: std::str::FromStr>(arg: Option<OsString>) -> Result<T, Usage> {
    let text = arg.ok_or(Usage)?;
    text.to_str().and_then(|text| text.parse().ok()).ok_or(Usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, Usage> {
        Options::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn options_are_read_in_any_order() {
        let expected = Options {
            descriptor: 3,
            seed: true,
            threads: 1,
            module: "/lib/hsm.so".into(),
        };
        assert_eq!(
            parse(&["--fd", "3", "--seed", "--threads", "1", "/lib/hsm.so"]),
            Ok(expected.clone())
        );
        assert_eq!(
            parse(&["/lib/hsm.so", "--threads", "1", "--fd", "3", "--seed"]),
            Ok(expected)
        );
        let least = parse(&["--fd", "3", "m"]);
        assert_eq!(
            least.map(|options| (options.threads, options.seed)),
            Ok((THREADS, false))
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_refused() {
        for args in [
            &["m"][..],
            &["--fd", "3"],
            &["--fd", "x", "m"],
            &["--fd", "-1", "m"],
            &["--fd", "3", "--threads", "0", "m"],
            &["--fd", "3", "--other", "m"],
            &["--fd", "3", "m", "n"],
        ] {
            assert_eq!(parse(args), Err(Usage), "{args:?}");
        }
    }
}
