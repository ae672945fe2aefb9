//! The demo's story: text, shards, coordinator, nodes, a node lost and one gained, proof, a sentence, the figures.

mod figures;
mod folder;
mod interrupt;
mod story;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::path::PathBuf;

/// Trains a small French-centred language model across a swarm on this machine, and proves every checkpoint.
///
/// One coordinator and three nodes run as real processes and talk over QUIC. During one round a node is killed and
/// another joins. At the end an independent program checks the whole chain, and the model writes a sentence.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
pub struct Options {
    /// Where everything goes; an earlier demo's folder is replaced.
    #[arg(long, default_value = "demo-run", value_name = "DIR")]
    pub dir: PathBuf,
    /// Text to train on: a folder of parquet (columns text, language, source, id), .jsonl or .txt files.
    /// Without it: ../shared/corpus where that exists, else free documentation from Debian's packages.
    #[arg(long, value_name = "PATH")]
    pub corpus: Option<PathBuf>,
    /// Nodes at the start.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub nodes: u32,
    /// Rounds to train.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=10_000))]
    pub rounds: u64,
    /// Leave the coordinator and the nodes running at the end, until Ctrl-C.
    #[arg(long)]
    pub keep_running: bool,
}

/// Runs the demo.
///
/// # Errors
/// One line: what went wrong, with the end of the log of the program concerned. No process is left behind.
pub fn run(options: &Options) -> Result<()> {
    interrupt::install()?;
    folder::prepare(&options.dir)?;
    let corpus = corpus(options)?;
    story::tell(options, &corpus)
}

fn corpus(options: &Options) -> Result<PathBuf> {
    if let Some(path) = &options.corpus {
        if !path.exists() {
            bail!("--corpus {}: there is no such file or folder", path.display());
        }
        return Ok(path.clone());
    }
    let fetched = std::env::var_os("ESSAIM_DEMO_CORPUS").map(PathBuf::from);
    fetched.context("no text to train on: start this through ./demo, or name a folder with --corpus PATH")
}
