//! `essaim-corpus`: from documents to hashed shards of tokens.

mod allocator;
mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back();
    essaim_corpus::readers::quiet_guarded_panics();
    match cli::run(&cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the causes: each error says how to mend it.
            eprintln!("essaim-corpus: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
