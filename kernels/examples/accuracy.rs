//! Measures every function of one argument against binary64, and every path against the scalar code.
//!
//! ```text
//! cargo run --release -p essaim-kernels --example accuracy -- [--all | --stride N] [--part K/N] [--threads N] [FUNCTION …]
//! ```
//!
//! `--all` goes through all 2³² float32, some minutes a function; without it every 509th bit pattern is tried. `--part` does the K-th of N
//! equal parts of that. Fails when a bound of SEMANTICS.md does not hold.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/accuracy.rs"]
mod accuracy;

use accuracy::{FUNCTIONS, measure_part};
use std::time::Instant;

fn main() {
    let (mut stride, mut part, mut names) = (509, [1, 1], Vec::new());
    let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<usize>().ok()).filter(|&number| number > 0);
        match argument.as_str() {
            "--all" => stride = 1,
            "--stride" => stride = number().expect("--stride takes a number from 1"),
            "--part" => part = arguments.next().and_then(|text| parts(&text)).expect("--part takes K/N, K from 1 to N"),
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
        let report = measure_part(function, stride as u32, threads, part);
        println!("{} [{:.0} s]", report.line(function), start.elapsed().as_secs_f64());
        report.check(function);
    }
}

/// `K/N` with K from 1 to N.
fn parts(text: &str) -> Option<[u64; 2]> {
    let (part, parts) = text.split_once('/')?;
    Some([part.parse().ok()?, parts.parse().ok()?]).filter(|&[part, parts]| (1..=parts).contains(&part))
}
