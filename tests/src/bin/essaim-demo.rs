//! The demo: a swarm on this machine, from real text to a verified model. `./demo` builds it and passes its options on.

use anyhow::Result;
use clap::Parser;
use essaim_tests::demo::{self, Options};

fn main() {
    let options = Options::parse();
    let result: Result<()> = demo::run(&options);
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
