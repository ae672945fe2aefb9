//! What differs between two data sets.

use super::remove::read_facts;
use crate::dataset::{Dataset, OpenError};
use crate::facts::Facts;
use crate::funnel::TokensPerByte;
use crate::tally::{Count, KEPT, READ};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One of two data sets: its facts, and its shards where there is a manifest.
#[derive(Debug, Clone)]
pub struct Side {
    /// The facts.
    pub facts: Facts,
    /// Hashes of its shards.
    pub shards: BTreeSet<String>,
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Hashes of the two data sets.
    pub datasets: [String; 2],
    /// Settings that differ: name, value in the first and in the second; nothing where it has none.
    pub settings: Vec<(String, Option<String>, Option<String>)>,
    /// Kept documents by source, language and licence, where they differ.
    pub parts: Vec<PartDiff>,
    /// Documents by rule, where they differ.
    pub rules: Vec<(String, [u64; 2])>,
    /// Shards in the first alone, in both, in the second alone.
    pub shards: [u64; 3],
}

/// Kept documents of a source and language under a licence, before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartDiff {
    /// Source.
    pub source: String,
    /// Language.
    pub language: String,
    /// Licence.
    pub license: String,
    /// Documents in the first and the second.
    pub documents: [u64; 2],
    /// Bytes of text.
    pub bytes: [u64; 2],
    /// Tokens, estimated from bytes.
    pub tokens_estimate: [u64; 2],
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        let [only_a, _, only_b] = self.shards;
        self.datasets[0] == self.datasets[1]
            && self.settings.is_empty()
            && self.parts.is_empty()
            && self.rules.is_empty()
            && only_a + only_b == 0
    }
}

/// Reads a data set's folder, or a `facts.json` alone.
///
/// # Errors
/// [`OpenError`].
pub fn read(path: &Path) -> Result<Side, OpenError> {
    let facts = read_facts(path)?;
    let shards = match path.is_dir() {
        true => Dataset::open(path)?.manifest.all_shards().map(|shard| shard.hash.to_string()).collect(),
        false => BTreeSet::new(),
    };
    Ok(Side { facts, shards })
}

/// Compares two data sets.
pub fn diff(a: &Side, b: &Side) -> Diff {
    let both = a.shards.intersection(&b.shards).count() as u64;
    Diff {
        datasets: [a.facts.dataset.clone(), b.facts.dataset.clone()],
        settings: settings(&a.facts.settings, &b.facts.settings),
        parts: parts(&a.facts, &b.facts),
        rules: rules(&a.facts, &b.facts),
        shards: [a.shards.len() as u64 - both, both, b.shards.len() as u64 - both],
    }
}

/// Values of both maps by key, where they differ.
fn unequal<K: Ord + Clone, V: PartialEq + Clone>(
    a: &BTreeMap<K, V>,
    b: &BTreeMap<K, V>,
) -> Vec<(K, Option<V>, Option<V>)> {
    let keys: BTreeSet<&K> = a.keys().chain(b.keys()).collect();
    let pair = |key: &K| (key.clone(), a.get(key).cloned(), b.get(key).cloned());
    keys.into_iter().map(pair).filter(|(_, a, b)| a != b).collect()
}

fn settings(a: &str, b: &str) -> Vec<(String, Option<String>, Option<String>)> {
    unequal(&flat(a), &flat(b))
}

/// Settings as names with dots and values; a text that is no TOML is one value.
fn flat(settings: &str) -> BTreeMap<String, String> {
    fn walk(name: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) if !table.is_empty() => {
                for (key, value) in table {
                    let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    walk(&name, value, into);
                }
            }
            // Lists of tables, such as sources, by their place; other lists are one value.
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                list.iter().enumerate().for_each(|(i, value)| walk(&format!("{name}[{i}]"), value, into));
            }
            value => drop(into.insert(name.to_owned(), value.to_string())),
        }
    }
    let mut values = BTreeMap::new();
    match settings.parse::<toml::Table>() {
        Ok(table) => walk("", &toml::Value::Table(table), &mut values),
        Err(_) => drop(values.insert("settings".to_owned(), settings.to_owned())),
    }
    values
}

fn parts(a: &Facts, b: &Facts) -> Vec<PartDiff> {
    let counts = |facts: &Facts| -> BTreeMap<[String; 3], Count> {
        let mut counts = BTreeMap::<[String; 3], Count>::new();
        for row in &facts.licenses {
            let key = [row.source.clone(), row.language.clone(), row.license.clone()];
            counts.entry(key).or_default().add(Count { documents: row.documents, bytes: row.bytes });
        }
        counts
    };
    let tokens = [TokensPerByte::of(a), TokensPerByte::of(b)];
    let part = |([source, language, license], a, b): ([String; 3], Option<Count>, Option<Count>)| {
        let [a, b] = [a.unwrap_or_default(), b.unwrap_or_default()];
        let estimate = [tokens[0].tokens(&language, a.bytes), tokens[1].tokens(&language, b.bytes)];
        let (documents, bytes) = ([a.documents, b.documents], [a.bytes, b.bytes]);
        PartDiff { source, language, license, documents, bytes, tokens_estimate: estimate }
    };
    unequal(&counts(a), &counts(b)).into_iter().map(part).collect()
}

fn rules(a: &Facts, b: &Facts) -> Vec<(String, [u64; 2])> {
    let counts = |facts: &Facts| {
        let mut counts = BTreeMap::<String, u64>::new();
        for (key, count) in facts.tally.rows() {
            *counts.entry(key.rule.clone()).or_default() += count.documents;
        }
        counts
    };
    let mut rules = unequal(&counts(a), &counts(b));
    // What was read first, what was kept last; the rest by name.
    rules.sort_by_key(|(rule, ..)| (rule != READ, rule == KEPT, rule.clone()));
    rules.into_iter().map(|(rule, a, b)| (rule, [a.unwrap_or(0), b.unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::facts;

    #[test]
    fn differences_are_named_and_equal_sets_have_none() {
        let side =
            |facts: Facts, shards: &[&str]| Side { facts, shards: shards.iter().map(|s| (*s).to_owned()).collect() };
        let a = side(facts(3), &["x", "y"]);
        assert!(diff(&a, &a.clone()).is_empty());
        let mut changed = facts(3);
        changed.settings = changed.settings.replace("words_min = 50", "words_min = 60\nwords_max = 9");
        changed.tally.document("wikipedia", "fr", "gopher-quality/too-few-words", 5);
        changed.licenses[0].documents += 1;
        changed.licenses[0].bytes += 5;
        let found = diff(&a, &side(changed, &["y", "z", "w"]));
        let name = "filters.gopher-quality.words_m".to_owned();
        assert_eq!(
            found.settings,
            [(name.clone() + "ax", None, Some("9".into())), (name + "in", Some("50".into()), Some("60".into()))]
        );
        assert_eq!((found.shards, found.parts.len(), found.rules.len()), ([1, 1, 2], 1, 1));
        let part = &found.parts[0];
        assert_eq!((part.documents[1] - part.documents[0], part.bytes[1] - part.bytes[0]), (1, 5));
        assert_eq!(found.rules[0].0, "gopher-quality/too-few-words");
        assert_eq!(found.rules[0].1[1] - found.rules[0].1[0], 1);
        assert!(!found.is_empty());
    }
}
