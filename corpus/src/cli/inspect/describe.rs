//! What `inspect` prints for people.

use super::super::thousands;
use essaim_corpus::dataset::{Dataset, shard_name};
use essaim_corpus::facts::{Facts, MixFacts};
use essaim_corpus::funnel::TokensPerByte;
use essaim_corpus::plot::percent;
use essaim_corpus::publish::listing::Listed;
use essaim_corpus::publish::statistics::{Counts, kept_by_language, kept_by_license, largest_first};
use essaim_corpus::publish::verify::Verified;
use essaim_corpus::tally::{KEPT, READ};
use essaim_protocol::dataset::{DatasetManifest, ShardInfo};
use std::collections::BTreeMap;

/// Shards of a mix that are named; more are in `--json`.
const SHARDS_SHOWN: usize = 32;
/// Languages of a mix that are named.
const LANGUAGES_SHOWN: usize = 10;

/// A data set: what the manifest says, and the facts where there are any.
pub(super) fn dataset(dataset: &Dataset, facts: Option<&Facts>, verified: Verified) -> String {
    let manifest = &dataset.manifest;
    let mut text = format!(
        "data set   {}\nname       {}\ntokenizer  {}\nvocabulary {}\n",
        dataset.hash,
        manifest.name,
        manifest.tokenizer,
        thousands(manifest.vocab_size.into())
    );
    if let Some(facts) = facts {
        let count = |rule: &str| facts.tally.sum(|key| key.rule == rule).documents;
        let held: u64 = facts.heldout.values().map(|held| held.documents).sum();
        let [read, kept, held] = [count(READ), count(KEPT), held].map(thousands);
        text += &format!("documents  {read} read, {kept} kept, {held} of them held out of training\n");
    }
    text += &mixes(manifest, facts);
    if let Some(facts) = facts {
        text += &counts("language", &kept_by_language(facts), Some(&TokensPerByte::of(facts)));
        text += &counts("licence", &kept_by_license(facts), None);
    }
    text += &sources(manifest);
    text += &heldout(manifest);
    text += "\nEvery hash, length and count agrees with the manifest.\n";
    if verified.files > 0 {
        let [files, bytes] = [verified.files, verified.bytes].map(thousands);
        text +=
            &format!("{files} files that croissant.json describes, {bytes} bytes, have the SHA-256 that it says.\n");
    }
    text
}

fn mixes(manifest: &DatasetManifest, facts: Option<&Facts>) -> String {
    let mut text = String::new();
    for mix in &manifest.mixes {
        let sum = |field: fn(&ShardInfo) -> u64| thousands(mix.shards.iter().map(field).sum());
        let (tokens, documents) = (sum(|shard| shard.tokens), sum(|shard| shard.documents));
        let shards = mix.shards.len();
        text += &format!("mix        {}: {shards} shards, {documents} documents, {tokens} tokens\n", mix.name);
        if let Some(mix) = facts.and_then(|facts| facts.mixes.iter().find(|other| other.name == mix.name)) {
            text += &format!("             {}\n", languages(mix));
        }
        mix.shards.iter().take(SHARDS_SHOWN).for_each(|shard| text += &format!("             {}\n", shard.hash));
        if shards > SHARDS_SHOWN {
            text += &format!("             … {} more: --json names them\n", shards - SHARDS_SHOWN);
        }
    }
    text
}

/// Shares of tokens, the largest first.
fn languages(mix: &MixFacts) -> String {
    let mut tokens = BTreeMap::<&str, u64>::new();
    mix.parts.iter().for_each(|part| *tokens.entry(&part.language).or_default() += part.tokens);
    let all: u64 = tokens.values().sum();
    let mut sorted: Vec<(&str, u64)> = tokens.into_iter().collect();
    sorted.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    let rest: u64 = sorted.iter().skip(LANGUAGES_SHOWN).map(|(_, tokens)| tokens).sum();
    let mut shown: Vec<String> = sorted
        .iter()
        .take(LANGUAGES_SHOWN)
        .map(|(language, tokens)| format!("{language} {}", percent(*tokens, all)))
        .collect();
    if let Some(others) = sorted.len().checked_sub(LANGUAGES_SHOWN).filter(|others| *others > 0) {
        shown.push(format!("{others} others {}", percent(rest, all)));
    }
    shown.join(", ")
}

/// A table of kept documents, the most bytes first; of languages with their tokens.
fn counts(what: &str, counts: &Counts, tokens: Option<&TokensPerByte>) -> String {
    let all: u64 = counts.values().map(|count| count.bytes).sum();
    let width = counts.keys().map(|name| name.chars().count()).max().unwrap_or(0).clamp(10, 60);
    let head = if tokens.is_some() { "tokens (estimate)" } else { "" };
    let mut text = format!("\n{what:width$} {:>10} {:>15} {:>9} {head:>18}", "documents", "bytes", "share");
    for (name, count) in largest_first(counts) {
        let [documents, bytes] = [count.documents, count.bytes].map(thousands);
        let share = percent(count.bytes, all);
        let tokens = tokens.map_or_else(String::new, |tokens| thousands(tokens.tokens(name, count.bytes)));
        text = format!("{}\n{name:width$} {documents:>10} {bytes:>15} {share:>9} {tokens:>18}", text.trim_end());
    }
    text.trim_end().to_owned() + "\n"
}

fn sources(manifest: &DatasetManifest) -> String {
    let mut text =
        format!("\n{:24} {:8} {:>10} {:>13} {:>13}  licences\n", "source", "language", "documents", "bytes", "tokens");
    for source in &manifest.sources {
        let [documents, text_bytes, tokens] = [source.documents, source.text_bytes, source.tokens].map(thousands);
        let licenses = source.licenses.join(", ");
        let (name, language) = (&source.name, &source.language);
        text += &format!("{name:24} {language:8} {documents:>10} {text_bytes:>13} {tokens:>13}  {licenses}\n");
    }
    text
}

fn heldout(manifest: &DatasetManifest) -> String {
    let mut text = format!("\n{:10} {:>10} {:>13} {:>13}  shard\n", "held out", "documents", "bytes", "tokens");
    for heldout in &manifest.heldout {
        let shard = &heldout.shard;
        let [documents, text_bytes, tokens] = [shard.documents, heldout.text_bytes, shard.tokens].map(thousands);
        let (language, name) = (&heldout.language, shard_name(&shard.hash));
        text += &format!("{language:10} {documents:>10} {text_bytes:>13} {tokens:>13}  {name}\n");
    }
    text
}

/// The documents of a shard.
pub(super) fn listing(listed: &[Listed]) -> String {
    let mut text = format!(
        "\n{:>8} {:>9} {:>9} {:8} {:24} {:24} id\n",
        "document", "tokens", "bytes", "language", "source", "licence"
    );
    for one in listed {
        let [tokens, bytes] = [one.tokens, one.text_bytes].map(thousands);
        let license = one.license.as_deref().unwrap_or("");
        let id = one.id.as_deref().unwrap_or("(its text is not published)").replace(char::is_control, " ");
        let piece = if one.piece > 0 { format!(" (piece {})", one.piece) } else { String::new() };
        let (document, language, source) = (one.document, &one.language, &one.source);
        text += &format!("{document:>8} {tokens:>9} {bytes:>9} {language:8} {source:24} {license:24} {id}{piece}\n");
    }
    text
}
