//! The command line.

mod build;
mod diff;
mod explain;
mod inspect;
mod progress;
mod remove;
mod report;
mod summary;
mod xz;

use clap::{Parser, Subcommand};
use serde_json::Value;
use std::io::Write;

/// From documents to hashed shards of tokens.
///
/// A first data set from a folder of parquet, JSON lines or text files:
///
///   essaim-corpus build texts/ --out dataset
///   essaim-corpus inspect dataset
#[derive(Debug, Parser)]
#[command(name = "essaim-corpus", version, verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads to use. Default: all of the machine's. They change the time, never the result.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Print one JSON value on stdout, and no progress.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Box<build::Build>),
    Inspect(inspect::Inspect),
    Summary(summary::Summary),
    Explain(explain::Explain),
    Diff(diff::DiffArguments),
    Remove(remove::Remove),
    Xz(xz::Xz),
}

/// Does what was asked.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(threads) = arguments.threads {
        anyhow::ensure!((1..=1024).contains(&threads), "--threads is {threads}, expected 1 to 1024");
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    match &arguments.command {
        Command::Build(build) => build.run(arguments.json),
        Command::Inspect(inspect) => inspect.run(arguments.json),
        Command::Summary(summary) => summary.run(arguments.json),
        Command::Explain(explain) => explain.run(arguments.json),
        Command::Diff(diff) => diff.run(arguments.json),
        Command::Remove(remove) => remove.run(arguments.json),
        Command::Xz(xz) => xz.run(arguments.json),
    }
}

/// Writes to stdout. A reader that goes away early, like `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// A number with its thousands apart.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes().chunks(3).count();
    let mut out = String::with_capacity(digits.len() + groups);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && i % 3 == first {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
