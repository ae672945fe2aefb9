//! Each path in turn through the known answers and every committed test vector.
//!
//! `cargo test --release --workspace --test paths -- --nocapture` says which paths ran and which this machine lacks. With `ESSAIM_KERNELS`
//! set to a path, only that one runs, as in a program that is told so; a machine that lacks it fails.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/operators.rs"]
mod operators;
#[path = "common/vector_file.rs"]
mod vector_file;

use essaim_kernels::{Exec, Path, math, self_test};
use std::process::Command;
use std::time::Instant;
use vector_file::{Case, parse};

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The paths to run: all, or the one that `ESSAIM_KERNELS` names, which this machine must have.
fn wanted() -> Vec<Path> {
    let Ok(name) = std::env::var("ESSAIM_KERNELS") else { return Path::ALL.to_vec() };
    let exec = Exec::from_env(1).unwrap_or_else(|error| panic!("ESSAIM_KERNELS={name}: {error}"));
    vec![exec.path()]
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
        let outputs = operators::run(exec, case);
        assert_eq!(outputs.len(), case.outputs.len(), "{}: number of outputs", case.name());
        for ((name, got), (expected_name, expected)) in outputs.iter().zip(&case.outputs) {
            let context = format!("{name} of {} on {} with {} threads", case.name(), exec.path(), exec.threads());
            assert_eq!(name, expected_name, "{context}");
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
    let fma = file("fma.txt");
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
            assert_eq!(operators::check_fma(&exec, &fma), 600);
            check_cases(&exec, &cases);
        }
        let (count, seconds) = (cases.len(), start.elapsed().as_secs_f64());
        println!(
            "kernels: {path}: known answers, {functions} function values, 600 fused operations and {count} cases passed ({seconds:.1} s)"
        );
        ran += 1;
    }
    println!("kernels: {ran} paths ran");
    assert!(ran > 0, "no path ran");
}

/// Asked for a path that the machine lacks, the test above says so and fails.
#[test]
fn a_path_that_is_missing_is_no_success() {
    for path in Path::ALL.into_iter().filter(|path| !path.is_available()) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "each_path_in_turn", "--nocapture"]).env("ESSAIM_KERNELS", path.to_string());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{path}: {text}");
        let line = format!("ESSAIM_KERNELS={path}: this CPU cannot run the {path} kernels");
        assert_eq!(text.lines().filter(|said| said.contains(&line)).count(), 1, "{path}: {text}");
    }
}
