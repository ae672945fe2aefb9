//! `essaim generate`.

use crate::generate::{self, Request, Sampling};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `essaim generate`.
#[derive(Debug, Args)]
#[command(after_help = "\
A checkpoint folder holds model.safetensors, config.json and tokenizer.json: DATA-DIR/state/checkpoint of a member, or
public/checkpoints/NNNNNNNN of a coordinator. One seed gives one text on one machine.

Example: essaim generate --checkpoint ~/.local/share/essaim/RUN/state/checkpoint --prompt 'Il était une fois'
")]
pub struct GenerateArgs {
    /// The folder of the checkpoint
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The text to go on from
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 80)]
    pub tokens: usize,
    /// 0: always the likeliest token; 1: as varied as the model's text
    #[arg(long, value_name = "T", default_value_t = Sampling::default().temperature)]
    pub temperature: f64,
    /// Choose among the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = Sampling::default().top_p)]
    pub top_p: f64,
    /// Make tokens that were just used less likely; 1: no
    #[arg(long, value_name = "R", default_value_t = Sampling::default().repetition_penalty)]
    pub repetition_penalty: f64,
    /// Another seed gives another text
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl GenerateArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            ..Sampling::default()
        };
        let request = Request { prompt: self.prompt, tokens_max: self.tokens, sampling, seed: self.seed };
        let generated = generate::generate(&self.checkpoint, &request)?;
        if self.json {
            println!("{}", serde_json::to_string(&generated)?);
        } else {
            println!("{}", generated.text);
            eprintln!("{} tokens, {:.0} a second", generated.tokens.len(), generated.tokens_per_s);
        }
        Ok(())
    }
}
