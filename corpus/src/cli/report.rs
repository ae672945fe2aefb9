//! What a build says at its end.

use super::thousands;
use essaim_corpus::build::Report;
use essaim_corpus::funnel::Funnel;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

/// Documents, bytes and tokens of each language that is trained on; the largest first.
fn by_language(report: &Report) -> Vec<(String, [u64; 3])> {
    let mut languages = BTreeMap::<String, [u64; 3]>::new();
    for source in &report.manifest.sources {
        let sums = languages.entry(source.language.clone()).or_default();
        for (sum, value) in sums.iter_mut().zip([source.documents, source.text_bytes, source.tokens]) {
            *sum += value;
        }
    }
    let mut languages: Vec<_> = languages.into_iter().collect();
    languages.sort_by_key(|(language, sums)| (std::cmp::Reverse(sums[2]), language.clone()));
    languages
}

pub(super) fn report_json(report: &Report, seconds: f64) -> Value {
    let manifest = &report.manifest;
    let languages = by_language(report).into_iter().map(|(language, [documents, text_bytes, tokens])| {
        (language, json!({"documents": documents, "text_bytes": text_bytes, "tokens": tokens}))
    });
    json!({
        "dataset": report.hash.to_string(),
        "tokenizer": manifest.tokenizer.to_string(),
        "vocab_size": manifest.vocab_size,
        "documents": report.documents(),
        "empty": report.refused("empty/"),
        "duplicates": report.refused("dedup/"),
        "broken": report.facts.broken.len(),
        "funnel": Funnel::of(&report.facts).to_json(),
        "heldout_documents": manifest.heldout.iter().map(|heldout| heldout.shard.documents).sum::<u64>(),
        "shards": manifest.all_shards().count(),
        "tokens": manifest.mixes.iter().flat_map(|mix| &mix.shards).map(|shard| shard.tokens).sum::<u64>(),
        "languages": languages.collect::<serde_json::Map<_, _>>(),
        "lossless": report.lossless,
        "seconds": seconds,
    })
}

pub(super) fn report_text(report: &Report, seconds: f64, out: &Path) -> String {
    let manifest = &report.manifest;
    let heldout: u64 = manifest.heldout.iter().map(|heldout| heldout.shard.documents).sum();
    let mut text =
        format!("{:10} {:>10} {:>14} {:>14} {:>12}\n", "language", "documents", "bytes", "tokens", "bytes/token");
    for (language, [documents, text_bytes, tokens]) in by_language(report) {
        let ratio = text_bytes as f64 / tokens.max(1) as f64;
        let [documents, text_bytes, tokens] = [documents, text_bytes, tokens].map(thousands);
        text += &format!("{language:10} {documents:>10} {text_bytes:>14} {tokens:>14} {ratio:>12.2}\n");
    }
    text.push('\n');
    text += &Funnel::of(&report.facts).table(std::io::stdout().is_terminal());
    text.push('\n');
    let first = report.facts.broken.iter().take(3);
    first.for_each(|broken| {
        text += &format!("could not be read: {}: {} {}\n", broken.file, broken.place, broken.reason)
    });
    text += &format!(
        "{} documents read, {} held out in {} languages\n",
        thousands(report.documents()),
        thousands(heldout),
        manifest.heldout.len(),
    );
    let shards: usize = manifest.mixes.iter().map(|mix| mix.shards.len()).sum();
    text += &format!(
        "{}: {shards} training shards, vocabulary {}, in {seconds:.1} s\ndata set {}\n",
        out.display(),
        manifest.vocab_size,
        report.hash
    );
    text
}
