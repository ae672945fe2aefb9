//! `essaim-corpus diff`

use super::{print, print_json, thousands};
use clap::Args;
use essaim_corpus::publish::diff::{Diff, diff, read};
use std::path::PathBuf;

/// Compare two data sets: settings, documents by source, language and licence, what rules dropped, shards in common.
///
///   essaim-corpus diff old new
///
/// Like diff(1), it ends with 0 where nothing differs, 1 where something does, and 2 where a data set cannot be read.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct DiffArguments {
    /// A data set's folder, or its facts.json
    a: PathBuf,
    /// Another
    b: PathBuf,
}

impl DiffArguments {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let found = match (read(&self.a), read(&self.b)) {
            (Ok(a), Ok(b)) => diff(&a, &b),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("essaim-corpus: {}", error.to_string().replace('\n', " "));
                std::process::exit(2);
            }
        };
        match json {
            true => {
                let mut value = serde_json::to_value(&found)?;
                value["same"] = found.is_empty().into();
                print_json(&value)?;
            }
            false => print(&text(&found))?,
        }
        match found.is_empty() {
            true => Ok(()),
            false => std::process::exit(1),
        }
    }
}

fn change([a, b]: [u64; 2]) -> String {
    let sign = if b >= a { '+' } else { '−' };
    format!("{} → {} ({sign}{})", thousands(a), thousands(b), thousands(a.abs_diff(b)))
}

fn text(found: &Diff) -> String {
    if found.is_empty() {
        return format!("the same data set, {}\n", found.datasets[0]);
    }
    let mut text = format!("data sets {} and {}\n", found.datasets[0], found.datasets[1]);
    let section = |name: &str, lines: Vec<String>| match lines.is_empty() {
        true => String::new(),
        false => format!("\n{name}\n{}", lines.iter().map(|line| format!("  {line}\n")).collect::<String>()),
    };
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".into());
    let settings = found.settings.iter().map(|(name, a, b)| format!("{name}: {} → {}", value(a), value(b)));
    text += &section("settings", settings.collect());
    let parts = found.parts.iter().map(|part| {
        let name = format!("{} {} {}", part.source, part.language, part.license);
        let [documents, bytes, tokens] = [part.documents, part.bytes, part.tokens_estimate].map(change);
        format!("{name}: {documents} documents, {bytes} bytes, about {tokens} tokens")
    });
    text += &section("kept", parts.collect());
    let rules = found.rules.iter().map(|(rule, counts)| format!("{rule}: {} documents", change(*counts)));
    text += &section("rules", rules.collect());
    let [a, both, b] = found.shards.map(thousands);
    text + &format!("\nshards: {a} in the first alone, {both} in both, {b} in the second alone\n")
}
