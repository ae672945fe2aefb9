//! Each path of the kernels in turn: golden hashes of the tiny runs, and of one round of `2m`.
//!
//! `cargo test --release --workspace --test paths -- --nocapture` says which paths ran and which this machine lacks; with `ESSAIM_KERNELS`
//! set to a path, only that one runs. With `--ignored` besides, every combination of path, threads and micro-batch.
#![allow(clippy::unwrap_used)]

#[path = "model_support/round_2m.rs"]
mod round_2m;

use essaim_kernels::{Exec, Path};
use essaim_protocol::manifest::Optimizer;
use essaim_train::selfcheck::self_check;
use round_2m::{BATCH, manifest, round_hash};
use std::time::Instant;

/// Sequences are this long where the scalar path can afford it, and as long as in the real configuration elsewhere.
const SHORT: u32 = 48;
const REAL: u32 = 256;

/// Golden: another value is a new numerics id.
const ROUNDS: [(Optimizer, u32, &str); 4] = [
    (Optimizer::AdamW, SHORT, "b8a03494dad126658f18433ddf1775443f95e6441484bc3951437b29fcdfe93b"),
    (Optimizer::Muon, SHORT, "acabd89984bebfd82eb26c786c5be1f4b35a782d95fd6172eb4a635d5b7abc5d"),
    (Optimizer::AdamW, REAL, "9285b456177ee4317f7795af1b0417c3062c117af53835f7f683b7449335f34c"),
    (Optimizer::Muon, REAL, "2b212faa13a76229c5307dec66843677aa70016f957ec561a37cbe886346b17e"),
];

/// The paths to run: all, or the one that `ESSAIM_KERNELS` names.
fn wanted() -> Vec<Path> {
    match std::env::var("ESSAIM_KERNELS") {
        Ok(name) => vec![name.parse().unwrap()],
        Err(_) => Path::ALL.to_vec(),
    }
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
    assert!(ran > 0 || std::env::var_os("ESSAIM_KERNELS").is_some(), "no path ran");
}

fn check_round(path: Path, threads: usize, micro_batch: u32, (optimizer, context, golden): (Optimizer, u32, &str)) {
    let exec = Exec::new(path, threads).unwrap();
    let got = round_hash(&exec, &manifest(optimizer, context), micro_batch);
    let what = format!("{optimizer:?}, context {context}, {path}, {threads} threads, micro-batches of {micro_batch}");
    assert_eq!(got, golden, "one round of 2m with {what}");
}

#[test]
fn tiny_runs_have_the_golden_hashes_on_each_path() {
    in_turn("tiny runs", |path| {
        [1, 2].iter().for_each(|&n| assert_eq!(self_check(&Exec::new(path, n).unwrap()), Ok(())))
    });
}

/// The slow paths do short sequences; the others everything, with threads and micro-batches that differ.
#[test]
fn one_round_of_2m_has_one_hash_on_each_path() {
    in_turn("one round of 2m", |path| match path {
        Path::Scalar => check_round(path, 1, BATCH, ROUNDS[0]),
        Path::Portable => check_round(path, 2, 2, ROUNDS[1]),
        _ => {
            check_round(path, 1, BATCH, ROUNDS[0]);
            check_round(path, 2, 1, ROUNDS[1]);
            check_round(path, 3, 2, ROUNDS[2]);
            check_round(path, 2, BATCH, ROUNDS[3]);
        }
    });
}

#[test]
#[ignore = "every path with 1 to 5 threads and every micro-batch: many minutes"]
fn one_round_of_2m_has_one_hash_in_every_combination() {
    in_turn("one round of 2m, every combination", |path| {
        for round in ROUNDS {
            let is_slow = matches!(path, Path::Scalar | Path::Portable);
            let threads = if path == Path::Scalar { 1..=1 } else { 1..=if is_slow { 2 } else { 5 } };
            for threads in threads {
                for micro_batch in if is_slow { 2..=2 } else { 1..=BATCH } {
                    check_round(path, threads, micro_batch, round);
                }
            }
        }
    });
}
