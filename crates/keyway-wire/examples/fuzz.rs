//! Fuzzes the decoder with mutated test vectors for a time: `fuzz [--seconds N] [--seed N]`.
//!
//! It ends with status 0 if nothing was found; else with a panic that shows the body.

#[path = "../tests/shared/files.rs"]
mod files;
#[path = "../tests/shared/fuzzing.rs"]
mod fuzzing;

use fuzzing::{mutated, Random, Sample};
use std::io::Write;
use std::time::{Duration, Instant};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(
            arguments
                .get(at + 1)
                .and_then(|text| text.parse().ok())
                .expect("a number behind the option"),
        )
    };
    let seconds: u64 = option("--seconds").unwrap_or(10);
    let start = Instant::now();
    let seed = option("--seed").unwrap_or_else(|| u64::from(std::process::id()));
    let corpus = Sample::corpus();
    let mut random = Random(seed);
    let (mut tried, mut decoded) = (0_u64, 0_u64);
    writeln!(std::io::stdout(), "seed {seed}")?;
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..1000 {
            decoded += u64::from(mutated(&corpus, &mut random).check());
        }
        tried += 1000;
    }
    writeln!(std::io::stdout(), "{tried} bodies, {decoded} of them decoded")
}
