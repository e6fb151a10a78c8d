//! The command line.

use keyway_abi::host::{Network, Sandbox};
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
    /// The number of the inherited memory that is shared with the daemon. None: there is none, or copies get their own.
    pub segment: Option<i32>,
    /// How many threads may call the module.
    pub threads: usize,
    /// What the module may do. None: whatever the system lets it.
    pub sandbox: Option<Sandbox>,
    /// The vendor module.
    pub module: PathBuf,
}

/// The command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage;

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "usage: keyway-host --fd N [--seed] [--segment N] [--threads N] [--unconfined] [--user UID:GID] [--own-user UID] [--read PATH]... [--write PATH]... \
             [--network] [--no-network] [--no-processes] [--memory BYTES] [--files N] MODULE",
        )
    }
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Self, Usage> {
        let (mut descriptor, mut seed, mut segment, mut threads, mut module) = (None, false, None, THREADS, None);
        let (mut sandbox, mut unconfined) = (Sandbox::default(), false);
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--fd") => descriptor = Some(number(args.next())?),
                Some("--seed") => seed = true,
                Some("--segment") => segment = Some(number(args.next())?),
                Some("--threads") => threads = number(args.next())?,
                Some("--unconfined") => unconfined = true,
                Some("--user") => sandbox.user = Some(user(args.next())?),
                Some("--own-user") => sandbox.own_user = Some(number(args.next())?),
                Some("--read") => sandbox.read.push(args.next().ok_or(Usage)?.into()),
                Some("--write") => sandbox.write.push(args.next().ok_or(Usage)?.into()),
                Some("--network") => sandbox.network = Network::Open,
                Some("--no-network") => sandbox.network = Network::Closed,
                Some("--no-processes") => sandbox.processes = false,
                Some("--memory") => sandbox.memory = number(args.next())?,
                Some("--files") => sandbox.files = number(args.next())?,
                Some(option) if option.starts_with('-') => return Err(Usage),
                _ if module.is_none() => module = Some(PathBuf::from(arg)),
                _ => return Err(Usage),
            }
        }
        match (descriptor, module) {
            (Some(descriptor), Some(module)) if descriptor >= 0 && threads > 0 => Ok(Self {
                descriptor,
                seed,
                segment,
                threads,
                sandbox: (!unconfined).then_some(sandbox),
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

/// The numbers of a user and a group, joined by a colon.
fn user(arg: Option<OsString>) -> Result<(u32, u32), Usage> {
    let text = arg.ok_or(Usage)?;
    let (user, group) = text.to_str().and_then(|text| text.split_once(':')).ok_or(Usage)?;
    Ok((user.parse().map_err(|_| Usage)?, group.parse().map_err(|_| Usage)?))
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
            segment: Some(4),
            threads: 1,
            sandbox: Some(Sandbox::default()),
            module: "/lib/hsm.so".into(),
        };
        assert_eq!(
            parse(&["--fd", "3", "--seed", "--segment", "4", "--threads", "1", "/lib/hsm.so"]),
            Ok(expected.clone())
        );
        assert_eq!(
            parse(&["/lib/hsm.so", "--threads", "1", "--segment", "4", "--fd", "3", "--seed"]),
            Ok(expected)
        );
        let least = parse(&["--fd", "3", "m"]);
        assert_eq!(
            least.map(|options| (options.threads, options.seed)),
            Ok((THREADS, false))
        );
    }

    #[test]
    fn the_sandbox_is_what_is_said_and_there_unless_it_is_turned_off() {
        let said =
            "--fd 3 --user 7:8 --own-user 5 --read /a --write /b --read /c --no-network --no-processes --memory 9 --files 10 m";
        let expected = Sandbox {
            user: Some((7, 8)),
            own_user: Some(5),
            read: vec!["/a".into(), "/c".into()],
            write: vec!["/b".into()],
            network: Network::Closed,
            processes: false,
            memory: 9,
            files: 10,
        };
        let said: Vec<_> = said.split(' ').collect();
        assert_eq!(parse(&said).map(|options| options.sandbox), Ok(Some(expected)));
        let open =
            parse(&["--fd", "3", "--network", "m"]).map(|options| options.sandbox.map(|sandbox| sandbox.network));
        assert_eq!(open, Ok(Some(Network::Open)));
        let off = parse(&["--fd", "3", "--unconfined", "m"]);
        assert_eq!(off.map(|options| options.sandbox), Ok(None));
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
            &["--fd", "3", "--segment", "x", "m"],
            &["--fd", "3", "m", "n"],
            &["--fd", "3", "--user", "7", "m"],
            &["--fd", "3", "--user", "7:-1", "m"],
            &["--fd", "3", "--memory", "much", "m"],
            &["--fd", "3", "m", "--read"],
        ] {
            assert_eq!(parse(args), Err(Usage), "{args:?}");
        }
    }
}
