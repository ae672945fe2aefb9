//! Each path in turn through the known answers and every committed test vector.
//!
//! `cargo test --release --workspace --test paths -- --nocapture` says which paths ran and which this machine lacks. With `ESSAIM_KERNELS`
//! set to a path, only that one runs, as in a program that is told so.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/operators.rs"]
mod operators;
#[path = "common/vector_file.rs"]
mod vector_file;

use essaim_kernels::{Exec, Path, math, self_test};
use std::time::Instant;
use vector_file::{Case, parse};

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The paths to run: all, or the one that `ESSAIM_KERNELS` names.
fn wanted() -> Vec<Path> {
    match std::env::var("ESSAIM_KERNELS") {
        Ok(name) => vec![name.parse().unwrap()],
        Err(_) => Path::ALL.to_vec(),
    }
}

/// `elementary.txt`: every function over the column of inputs.
fn check_elementary(exec: &Exec) -> usize {
    let rows: Vec<Vec<u32>> = file("elementary.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').map(|word| u32::from_str_radix(word, 16).unwrap()).collect())
        .collect();
    let functions: [fn(&Exec, &mut [f32]); 5] =
        [math::exp_slice, math::log_slice, math::rsqrt_slice, math::sigmoid_slice, math::silu_slice];
    for (index, function) in functions.into_iter().enumerate() {
        let mut x: Vec<f32> = rows.iter().map(|row| f32::from_bits(row[0])).collect();
        function(exec, &mut x);
        for (row, got) in rows.iter().zip(x) {
            assert_eq!(got.to_bits(), row[index + 1], "function {index} of {:08x} on {}", row[0], exec.path());
        }
    }
    rows.len() * functions.len()
}

fn check_cases(exec: &Exec, cases: &[Case]) {
    for case in cases {
        for ((name, got), (_, expected)) in operators::run(exec, case).iter().zip(&case.outputs) {
            let context = format!("{name} of {} on {} with {} threads", case.name(), exec.path(), exec.threads());
            assert!(expected.matches(got), "{context}");
        }
    }
}

#[test]
fn each_path_in_turn() {
    let cases: Vec<Case> = ["products.txt", "layers.txt", "attention.txt", "parameters.txt"]
        .iter()
        .flat_map(|name| parse(&file(name)))
        .collect();
    assert!(cases.len() > 200, "only {} cases", cases.len());
    let mut ran = 0;
    for path in wanted() {
        if !path.is_available() {
            println!("kernels: {path}: this machine lacks it, not run");
            continue;
        }
        let start = Instant::now();
        assert_eq!(self_test(path), Ok(()), "{path}");
        let mut functions = 0;
        for threads in [1, 2] {
            let exec = if std::env::var_os("ESSAIM_KERNELS").is_some() {
                Exec::from_env(threads)
            } else {
                Exec::new(path, threads)
            };
            let exec = exec.unwrap();
            assert_eq!(exec.path(), path);
            functions = check_elementary(&exec);
            check_cases(&exec, &cases);
        }
        let (count, seconds) = (cases.len(), start.elapsed().as_secs_f64());
        println!(
            "kernels: {path}: known answers, {functions} function values and {count} cases passed ({seconds:.1} s)"
        );
        ran += 1;
    }
    println!("kernels: {ran} paths ran");
}
