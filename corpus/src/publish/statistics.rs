//! `statistics.json`: the figures of a data set, with the sums that people ask for.

use crate::facts::Facts;
use crate::funnel::{Funnel, TokensPerByte};
use crate::tally::{Count, KEPT, READ};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Kept documents by a name that each has.
pub type Counts = BTreeMap<String, Count>;

/// Kept documents by language.
pub fn kept_by_language(facts: &Facts) -> Counts {
    kept_by(facts, |language, _| language.to_owned())
}

/// Kept documents by source.
pub fn kept_by_source(facts: &Facts) -> Counts {
    kept_by(facts, |_, source| source.to_owned())
}

fn kept_by(facts: &Facts, name: impl Fn(&str, &str) -> String) -> Counts {
    let mut counts = Counts::new();
    for (key, count) in facts.tally.rows().filter(|(key, _)| key.rule == KEPT) {
        counts.entry(name(&key.language, &key.source)).or_default().add(count);
    }
    counts
}

/// Kept documents by licence.
pub fn kept_by_license(facts: &Facts) -> Counts {
    let mut counts = Counts::new();
    for row in &facts.licenses {
        counts.entry(row.license.clone()).or_default().add(Count { documents: row.documents, bytes: row.bytes });
    }
    counts
}

/// The licences of a source, or of a source and language.
pub fn licenses_of<'a>(facts: &'a Facts, source: &str, language: Option<&str>) -> BTreeSet<&'a str> {
    let rows = facts.licenses.iter().filter(|row| row.source == source);
    rows.filter(|row| language.is_none_or(|language| row.language == language))
        .map(|row| row.license.as_str())
        .collect()
}

/// The names of counts, those with the most bytes first.
pub fn largest_first(counts: &Counts) -> Vec<(&str, Count)> {
    let mut rows: Vec<(&str, Count)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    rows.sort_by(|a, b| (b.1.bytes, b.1.documents, a.0).cmp(&(a.1.bytes, a.1.documents, b.0)));
    rows
}

/// All figures.
pub fn statistics(facts: &Facts) -> Value {
    let tokens = TokensPerByte::of(facts);
    let by = |counts: Counts| -> Value {
        let row = |(name, count): (String, Count)| (name, json!({"documents": count.documents, "bytes": count.bytes}));
        Value::Object(counts.into_iter().map(row).collect::<Map<_, _>>())
    };
    let sum = |rule: &str| {
        let count = facts.tally.sum(|key| key.rule == rule);
        json!({"documents": count.documents, "bytes": count.bytes})
    };
    let kept_tokens: u64 = kept_by_language(facts).iter().map(|(name, count)| tokens.tokens(name, count.bytes)).sum();
    let parts = facts.tally.rows().filter(|(key, _)| key.rule == KEPT).map(|(key, count)| {
        let licenses = licenses_of(facts, &key.source, Some(&key.language));
        json!({
            "source": key.source, "language": key.language, "documents": count.documents, "bytes": count.bytes,
            "tokens_estimate": tokens.tokens(&key.language, count.bytes), "licenses": licenses,
        })
    });
    json!({
        "version": 1,
        "name": facts.name,
        "dataset": facts.dataset,
        "read": sum(READ),
        "kept": sum(KEPT),
        "kept_tokens_estimate": kept_tokens,
        "tokens_per_byte": tokens.by_language,
        "parts": parts.collect::<Value>(),
        "languages": by(kept_by_language(facts)),
        "sources": by(kept_by_source(facts)),
        "licenses": by(kept_by_license(facts)),
        "funnel": Funnel::of(facts).to_json(),
        "mixes": facts.mixes,
        "heldout": facts.heldout,
        "tokenizer": facts.tokenizer,
        "lengths": facts.lengths,
        "clusters": facts.clusters,
        "masked": facts.masked,
        "hosts": facts.hosts,
        "lines": facts.lines,
        "years": facts.years,
        "broken": facts.broken.len(),
    })
}
