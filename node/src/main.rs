//! `essaim`: join a run, look at it, measure this machine, generate text.

use clap::Parser;
use essaim_node::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("essaim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
