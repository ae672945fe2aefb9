//! Each path of the kernels in turn: golden hashes of the tiny runs, and of rounds of `2m`, one of which every path computes.
//!
//! `cargo test --release --workspace --test paths -- --nocapture` says which paths ran and which this machine lacks; with `ESSAIM_KERNELS`
//! set to a path, only that one runs, and a machine that lacks it fails. With `--ignored` besides, every combination of path, threads and micro-batch.
#![allow(clippy::unwrap_used)]

#[path = "model_support/round_2m.rs"]
mod round_2m;

use essaim_kernels::{Exec, Path};
use essaim_protocol::manifest::Optimizer;
use essaim_train::selfcheck::self_check;
use round_2m::{Round, round_hash};
use std::time::Instant;

/// Sequences of the real configuration.
const REAL: u32 = 256;
/// Sequences of this length take the slow paths little time.
const SHORT: u32 = 48;

/// The round that every path computes, with sequences of the real length. Muon leaves the embedding, the head and the norms to AdamW, so
/// both optimisers are in it.
const COMMON: (Round, &str) = (
    Round { optimizer: Optimizer::Muon, context: REAL, steps: 2, batch: 2 },
    "17727545c26f25e625c8865ae1b8fb5d0408d43a019dc4c405ce07a94345ac32",
);

const fn round(optimizer: Optimizer, context: u32) -> Round {
    Round { optimizer, context, steps: 3, batch: 3 }
}

/// Golden, as is [`COMMON`]: another value is a new numerics id.
const ROUNDS: [(Round, &str); 4] = [
    (round(Optimizer::AdamW, SHORT), "b8a03494dad126658f18433ddf1775443f95e6441484bc3951437b29fcdfe93b"),
    (round(Optimizer::Muon, SHORT), "acabd89984bebfd82eb26c786c5be1f4b35a782d95fd6172eb4a635d5b7abc5d"),
    (round(Optimizer::AdamW, REAL), "9285b456177ee4317f7795af1b0417c3062c117af53835f7f683b7449335f34c"),
    (round(Optimizer::Muon, REAL), "2b212faa13a76229c5307dec66843677aa70016f957ec561a37cbe886346b17e"),
];

/// The paths to run: all, or the one that `ESSAIM_KERNELS` names, which this machine must have.
fn wanted() -> Vec<Path> {
    let Ok(name) = std::env::var("ESSAIM_KERNELS") else { return Path::ALL.to_vec() };
    let exec = Exec::from_env(1).unwrap_or_else(|error| panic!("ESSAIM_KERNELS={name}: {error}"));
    vec![exec.path()]
}

/// Calls `check` for every wanted path that this machine has, and says what was done.
fn in_turn(what: &str, check: impl Fn(Path)) {
    let mut ran = 0;
    for path in wanted() {
        if !path.is_available() {
            println!("{what}: {path}: this machine lacks it, not run");
            continue;
        }
        let start = Instant::now();
        check(path);
        println!("{what}: {path}: passed ({:.1} s)", start.elapsed().as_secs_f64());
        ran += 1;
    }
    println!("{what}: {ran} paths ran");
    assert!(ran > 0, "no path ran");
}

fn check_round(path: Path, threads: usize, micro_batch: u32, (round, golden): (Round, &str)) {
    let exec = Exec::new(path, threads).unwrap();
    let got = round_hash(&exec, round, micro_batch);
    assert_eq!(got, golden, "{round:?} of 2m on {path} with {threads} threads and micro-batches of {micro_batch}");
}

#[test]
fn tiny_runs_have_the_golden_hashes_on_each_path() {
    in_turn("tiny runs", |path| {
        [1, 2].iter().for_each(|&n| assert_eq!(self_check(&Exec::new(path, n).unwrap()), Ok(())))
    });
}

#[test]
fn one_round_of_2m_has_one_hash_on_each_path() {
    in_turn("one round of 2m", |path| {
        let threads = if path == Path::Scalar { 1 } else { 2 };
        check_round(path, threads, 1, COMMON);
    });
}

/// Whole batches, parts of them, and other threads. The slow paths do one round of short sequences each.
#[test]
fn rounds_of_2m_have_their_hashes_on_each_path() {
    in_turn("other rounds of 2m", |path| match path {
        Path::Scalar => check_round(path, 1, 3, ROUNDS[0]),
        Path::Portable => check_round(path, 2, 2, ROUNDS[1]),
        _ => {
            check_round(path, 3, 2, COMMON);
            check_round(path, 1, 3, ROUNDS[0]);
            check_round(path, 2, 1, ROUNDS[1]);
            check_round(path, 3, 2, ROUNDS[2]);
            check_round(path, 2, 3, ROUNDS[3]);
        }
    });
}

#[test]
#[ignore = "every path with 1 to 5 threads and every micro-batch: many minutes"]
fn rounds_of_2m_have_their_hashes_in_every_combination() {
    in_turn("rounds of 2m, every combination", |path| {
        for golden in ROUNDS.into_iter().chain([COMMON]) {
            let is_slow = matches!(path, Path::Scalar | Path::Portable);
            let threads = if path == Path::Scalar { 1..=1 } else { 1..=if is_slow { 2 } else { 5 } };
            for threads in threads {
                for micro_batch in if is_slow { 2..=2 } else { 1..=golden.0.batch } {
                    check_round(path, threads, micro_batch, golden);
                }
            }
        }
    });
}
