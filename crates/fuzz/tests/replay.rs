//! Every input that fuzzing has kept goes through its target again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

#[test]
fn kept_inputs_break_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in fuzz::TARGETS {
        let mut count = 0;
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 10, "only {count} inputs are kept for {name}");
    }
}

#[test]
fn nothing_and_noise_break_nothing() {
    let mut state = 1_u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    for (_, target) in fuzz::TARGETS {
        target(&[]);
        for len in [1, 48, 49, 500, 5000] {
            (0..50).for_each(|_| target(&(0..len).map(|_| noise()).collect::<Vec<_>>()));
        }
    }
}
