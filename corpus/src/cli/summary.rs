//! `essaim-corpus summary`

use super::{print, print_json, thousands};
use clap::Args;
use essaim_corpus::facts::Facts;
use essaim_corpus::funnel::Funnel;
use essaim_corpus::publish::remove::read_facts;
use essaim_corpus::publish::statistics::statistics;
use essaim_corpus::publish::{ai_act, card};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Show what was read, what each filter dropped, and what was kept.
///
///   essaim-corpus summary dataset               filters and languages, with bars on a terminal
///   essaim-corpus summary dataset --json        all figures: what statistics.json holds
///   essaim-corpus summary dataset --markdown    the data set's card
///   essaim-corpus summary dataset --ai-act      the public summary of training content (Regulation (EU) 2024/1689)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Summary {
    /// A data set's folder, or its facts.json
    dataset: PathBuf,
    /// Print the data set's card
    #[arg(long, conflicts_with = "ai_act")]
    markdown: bool,
    /// Print the public summary of training content
    #[arg(long)]
    ai_act: bool,
}

impl Summary {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let facts = read_facts(&self.dataset)?;
        match json {
            true if self.ai_act => print_json(&serde_json::json!({"sections": ai_act::summary(&facts)})),
            true => print_json(&statistics(&facts)),
            false if self.markdown => print(&card::card(&facts, &[])),
            false if self.ai_act => print(&ai_act::markdown(&facts)),
            false => print(&text(&facts, std::io::stdout().is_terminal())),
        }
    }
}

/// The funnel and what was made of it, for people.
pub(super) fn text(facts: &Facts, terminal: bool) -> String {
    let mut text = Funnel::of(facts).table(terminal);
    for mix in &facts.mixes {
        let tokens: u64 = mix.parts.iter().map(|part| part.tokens).sum();
        let copies: u64 = mix.parts.iter().map(|part| part.copies).sum();
        text += &format!(
            "mix {}: {} documents with repetitions, {} tokens, {} shards\n",
            mix.name,
            thousands(copies),
            thousands(tokens),
            thousands(mix.shards)
        );
    }
    if !facts.broken.is_empty() {
        text += &format!("{} files or rows could not be read: facts.json names them\n", facts.broken.len());
    }
    text + &format!("data set {}\n", facts.dataset)
}
