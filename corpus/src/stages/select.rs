//! Which documents are held out, what the tokenizer learns from, and which texts training must not contain. Every decision
//! follows from keys, which are hashes: the order in which documents were read means nothing.

use super::clean::{self, Kept};
use super::heldout;
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use crate::build::BuildError;
use crate::bundle::{self, BundleInfo, Key, Rows};
use crate::config::{Config, HeldoutConfig};
use crate::decontaminate::NgramSet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BinaryHeap};

/// Where the n-grams lie that training must not contain.
pub const NGRAMS: &str = "select/ngrams";

/// For each language that holds documents out, the largest key that is held out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cuts {
    /// By language.
    pub cuts: BTreeMap<String, Key>,
    /// Lists of held-out documents that each language has in the store.
    pub lists: BTreeMap<String, u32>,
}

impl Cuts {
    /// Whether a document is held out.
    pub fn heldout(&self, language: &str, key: &Key) -> bool {
        self.cuts.get(language).is_some_and(|cut| key <= cut)
    }
}

/// Documents of `count` that are held out: `permille` thousandths, rounded up, at most `documents_max`; none in languages of too few.
pub fn heldout_count(count: u64, config: &HeldoutConfig) -> u64 {
    match count < u64::from(config.documents_min) {
        true => 0,
        false => (count * u64::from(config.permille)).div_ceil(1000).min(u64::from(config.documents_max)),
    }
}

/// Finds the cuts, and collects the n-grams of the texts that training must not contain.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    config: &Config,
    bundles: &[BundleInfo],
    kept: &Kept,
    before: Fingerprint,
) -> Result<Cuts, BuildError> {
    let decides = fingerprint("select", &(before, &config.heldout, &config.decontaminate));
    let items = [Item { name: "cuts".into(), weight: 1, fingerprint: decides }];
    let mut cuts = runner.run("select", "choosing what is held out", &items, |_, _| {
        let mut cuts = cuts(runner, config, bundles, kept)?;
        let mut ngrams = NgramSet::builder(&config.decontaminate);
        ngrams.benchmark_files(&config.decontaminate)?;
        cuts.lists = heldout::collect(runner, bundles, &cuts, |keyed| match config.decontaminate.heldout {
            true => Ok(ngrams.heldout(&keyed.document.text)?),
            false => Ok(()),
        })?;
        ngrams.build()?.save(&runner.store, NGRAMS)?;
        Ok(cuts)
    })?;
    Ok(cuts.pop().unwrap_or_default())
}

fn cuts(runner: &Runner<'_>, config: &Config, bundles: &[BundleInfo], kept: &Kept) -> Result<Cuts, BuildError> {
    let mut counts = BTreeMap::<&str, u64>::new();
    for ((language, _), (documents, _)) in &kept.parts {
        *counts.entry(language).or_default() += documents;
    }
    // The largest of the smallest keys so far is on top of each heap.
    let mut smallest = BTreeMap::<&str, (usize, BinaryHeap<Key>)>::new();
    for (language, count) in counts {
        let wanted = heldout_count(count, &config.heldout) as usize;
        if wanted > 0 {
            smallest.insert(language, (wanted, BinaryHeap::with_capacity(wanted + 1)));
        }
    }
    for bundle in bundles {
        let rows: Rows = bundle::get(&runner.store, &bundle::keys_name(clean::STAGE, bundle.id))?;
        for row in &rows.rows {
            let Some((wanted, heap)) = smallest.get_mut(rows.language(row)) else { continue };
            if heap.len() < *wanted || heap.peek().is_some_and(|top| row.key < *top) {
                heap.push(row.key);
                if heap.len() > *wanted {
                    heap.pop();
                }
            }
        }
    }
    let cut =
        |(language, (_, heap)): (&str, (usize, BinaryHeap<Key>))| Some((language.to_owned(), heap.into_iter().max()?));
    Ok(Cuts { cuts: smallest.into_iter().filter_map(cut).collect(), lists: BTreeMap::new() })
}

/// A sample to learn a tokenizer from: of each language the documents with the smallest keys that are not held out, up to its share of
/// `bytes_max`. The favoured language gets `FAVOUR` shares, each other one; what small languages leave goes to the others.
///
/// # Errors
/// [`BuildError`].
pub fn sample(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    cuts: &Cuts,
    kept: &Kept,
    favoured: &str,
    bytes_max: u64,
) -> Result<Vec<String>, BuildError> {
    let mut sizes = BTreeMap::<&str, u64>::new();
    for ((language, _), (_, bytes)) in &kept.parts {
        *sizes.entry(language).or_default() += bytes;
    }
    let mut budgets = budgets(&sizes, favoured, bytes_max);
    let (mut candidates, mut texts) = (Vec::new(), Vec::new());
    for bundle in bundles {
        let rows: Rows = bundle::get(&runner.store, &bundle::keys_name(clean::STAGE, bundle.id))?;
        for row in &rows.rows {
            let language = rows.language(row);
            // A document among the first of its language, in the order of keys, has a key below its share of all keys; twice that
            // is looked at, so that chance takes none away.
            let bound = share_of_keys(budgets.get(language), sizes.get(language));
            if row.key.head() <= bound && !cuts.heldout(language, &row.key) {
                candidates.push((language.to_owned(), row.key, row.text_bytes));
            }
        }
    }
    candidates.sort_unstable();
    let mut chosen = std::collections::HashSet::new();
    let mut head = 0;
    for (language, key, bytes) in candidates {
        if let Some(left) = budgets.get_mut(language.as_str()).filter(|left| **left >= u64::from(bytes)) {
            *left -= u64::from(bytes);
            head = head.max(key.head());
            chosen.insert(key);
        }
    }
    for bundle in bundles {
        for keyed in bundle::read(&runner.store, &bundle::docs_name(clean::STAGE, bundle.id), 0..=head)? {
            if chosen.contains(&keyed.key) {
                texts.push(keyed.document.text);
            }
        }
    }
    Ok(texts)
}

/// How much more of the sample the favoured language gets than each other.
const FAVOUR: u64 = 3;

fn budgets<'a>(sizes: &BTreeMap<&'a str, u64>, favoured: &str, bytes_max: u64) -> BTreeMap<&'a str, u64> {
    let parts = |language: &str| if language == favoured { FAVOUR } else { 1 };
    // Smallest demand per part first: each takes what it has or its share of what is left.
    let mut order: Vec<(&str, u64)> = sizes.iter().map(|(language, size)| (*language, *size)).collect();
    order.sort_by_key(|&(language, size)| (size / parts(language), language));
    let mut parts_left: u64 = order.iter().map(|(language, _)| parts(language)).sum();
    let mut bytes_left = bytes_max;
    let mut budgets = BTreeMap::new();
    for (language, size) in order {
        let budget = size.min(bytes_left * parts(language) / parts_left);
        budgets.insert(language, budget);
        bytes_left -= budget;
        parts_left -= parts(language);
    }
    budgets
}

/// The head of a key below which twice a language's budget is expected.
fn share_of_keys(budget: Option<&u64>, size: Option<&u64>) -> u64 {
    let (budget, size) = (budget.copied().unwrap_or(0), size.copied().unwrap_or(0).max(1));
    let doubled = u128::from(budget) * 2 * (u128::from(u64::MAX) + 1) / u128::from(size);
    u64::try_from(doubled.saturating_add(u128::from(u64::MAX / 64))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_held_out_documents() {
        let config = |permille, documents_min| HeldoutConfig { permille, documents_min, documents_max: 97 };
        let counts = |config: &HeldoutConfig| [0, 1, 2, 50, 51, 100, 4863].map(|count| heldout_count(count, config));
        assert_eq!(counts(&config(20, 2)), [0, 0, 1, 1, 2, 2, 97]);
        assert_eq!(counts(&config(20, 51)), [0, 0, 0, 0, 2, 2, 97]);
        assert_eq!(counts(&config(0, 0)), [0; 7]);
    }

    #[test]
    fn a_sample_is_balanced_and_favours_one_language() {
        let sizes = BTreeMap::from([("fr", 1000), ("de", 1000), ("oc", 50)]);
        let shares = budgets(&sizes, "fr", 450);
        assert_eq!(shares, BTreeMap::from([("oc", 50), ("de", 100), ("fr", 300)]));
        assert_eq!(budgets(&sizes, "fr", 9999), BTreeMap::from([("oc", 50), ("de", 1000), ("fr", 1000)]));
        assert_eq!(share_of_keys(Some(&1000), Some(&1000)), u64::MAX);
        let tenth = share_of_keys(Some(&100), Some(&1000));
        assert!(tenth > u64::MAX / 5 && tenth < u64::MAX / 4);
        assert_eq!(share_of_keys(None, None), u64::MAX / 64);
    }
}
