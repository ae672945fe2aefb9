//! The command line.

pub mod bench;
pub mod devices;
pub mod evaluate;
pub mod generate;
pub mod join;
pub mod status;

use clap::{Parser, Subcommand};

/// The volunteer's program of Essaim, a network in which many machines train one open language model together.
#[derive(Debug, Parser)]
#[command(
    name = "essaim",
    version,
    after_help = "\
Take part:      essaim join LINK                  with the link that the operator of a run gave
Look:           essaim status
What can train: essaim devices
Measure:        essaim bench --config 8m
Write a text:   essaim generate --checkpoint DIR --prompt 'Il était une fois'
"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take part in a run: train, check, serve.
    Join(join::JoinArgs),
    /// Show what the member in a data directory does.
    Status(status::StatusArgs),
    /// List what can train: the CPU, and each CUDA device or why it cannot be used.
    Devices(devices::DevicesArgs),
    /// Measure how fast this machine trains.
    Bench(bench::BenchArgs),
    /// Continue a text with a checkpoint of a run.
    Generate(generate::GenerateArgs),
    /// Measure a checkpoint on held-out documents.
    Evaluate(evaluate::EvaluateArgs),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What was wrong, in one line that says how to mend it.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Join(args) => args.run(),
            Command::Status(args) => args.run(),
            Command::Devices(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Generate(args) => args.run(),
            Command::Evaluate(args) => args.run(),
        }
    }
}
