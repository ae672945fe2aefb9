//! `essaim`: join a run, look at it, measure this machine, generate text.

use clap::Parser;
use essaim_node::cli::Cli;
use essaim_node::cli::join::StartAgain;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Events are for people; what the network says of itself is for who asks: RUST_LOG=essaim_network=debug.
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("essaim: {error:#}");
            if error.is::<StartAgain>() { ExitCode::from(StartAgain::EXIT_CODE) } else { ExitCode::FAILURE }
        }
    }
}
