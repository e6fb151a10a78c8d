//! A bounded fuzz of the decoder, the same in every run. `examples/fuzz.rs` does the same for as long as one likes.

#[path = "shared/files.rs"]
mod files;
#[path = "shared/fuzzing.rs"]
mod fuzzing;

use fuzzing::{mutated, Random, Sample};

const ITERATIONS: usize = 200_000;

#[test]
fn mutated_vectors() {
    let corpus = Sample::corpus();
    assert!(corpus.iter().all(Sample::check), "a vector is malformed");
    let mut random = Random(1);
    let decoded = (0..ITERATIONS)
        .filter(|_| mutated(&corpus, &mut random).check())
        .count();
    // Mutations that only break things would show that half of the decoder is never reached.
    assert!(decoded > ITERATIONS / 20, "only {decoded} of {ITERATIONS} were decoded");
}
