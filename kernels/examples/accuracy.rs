//! Measures every function of one argument against binary64, and every path against the scalar code.
//!
//! ```text
//! cargo run --release -p essaim-kernels --example accuracy -- [--all | --stride N] [--threads N] [FUNCTION …]
//! ```
//!
//! `--all` goes through all 2³² float32, some minutes a function; without it every 509th bit pattern is tried. Fails when a bound of
//! SEMANTICS.md does not hold.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/accuracy.rs"]
mod accuracy;

use accuracy::{FUNCTIONS, measure};
use std::time::Instant;

fn main() {
    let (mut stride, mut names) = (509, Vec::new());
    let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<usize>().ok()).filter(|&number| number > 0);
        match argument.as_str() {
            "--all" => stride = 1,
            "--stride" => stride = number().expect("--stride takes a number from 1"),
            "--threads" => threads = number().expect("--threads takes a number from 1"),
            name => names.push(name.to_owned()),
        }
    }
    for name in &names {
        assert!(FUNCTIONS.iter().any(|function| function.name == name), "there is no function {name:?}");
    }
    for function in
        FUNCTIONS.iter().filter(|function| names.is_empty() || names.iter().any(|name| name == function.name))
    {
        let start = Instant::now();
        let report = measure(function, stride as u32, threads);
        println!("{} [{:.0} s]", report.line(function), start.elapsed().as_secs_f64());
        report.check(function);
    }
}
