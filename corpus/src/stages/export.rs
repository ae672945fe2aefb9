//! The texts themselves as parquet, by ranges of keys: what is published for people and other programs.

use super::clean;
use super::encode::EncodedFacts;
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use super::select::Cuts;
use crate::build::BuildError;
use crate::bundle::{self, BundleInfo, Keyed};
use crate::document::Document;
use crate::publish::{Credits, FileInfo, parts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Name of the stage.
pub const STAGE: &str = "export";
/// Text of a range of keys, about, bytes: it is sorted in memory.
const RANGE_TEXT: u64 = 32 << 20;

/// Files of a range of keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// The files, which lie in the store under [`file_name`].
    pub files: Vec<FileInfo>,
    /// Whom to credit.
    pub credits: Credits,
}

/// Where a file of the data set's folder lies in the store.
pub fn file_name(name: &str) -> String {
    format!("{STAGE}/{name}")
}

/// Ranges of keys: a number that follows from the documents alone.
fn ranges(bundles: &[BundleInfo]) -> u64 {
    let text: u64 = bundles.iter().map(|bundle| bundle.text_bytes).sum();
    text.div_ceil(RANGE_TEXT).max(1).next_power_of_two().min(1 << 20)
}

/// The heads of keys in a range; `count` is a power of two.
pub(super) fn heads(range: u64, count: u64) -> RangeInclusive<u64> {
    let bound = |range: u64| (u128::from(range) << 64) / u128::from(count);
    bound(range) as u64..=(bound(range + 1) - 1) as u64
}

/// Exports all ranges; without `texts` only credits are gathered.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    cuts: &Cuts,
    encoded: &[EncodedFacts],
    texts: bool,
    before: Fingerprint,
) -> Result<Vec<Exported>, BuildError> {
    let count = ranges(bundles);
    let item = |range: u64| Item {
        name: format!("{range:06}"),
        weight: 1,
        fingerprint: fingerprint(STAGE, &(before, range, count, texts)),
    };
    let items: Vec<Item> = (0..count).map(item).collect();
    runner.run(STAGE, "writing texts", &items, |i, _| {
        let heads = heads(i as u64, count);
        let mut documents = Vec::new();
        for (bundle, facts) in bundles.iter().zip(encoded) {
            let read = bundle::read(&runner.store, &bundle::docs_name(clean::STAGE, bundle.id), heads.clone())?;
            let refused = |keyed: &Keyed| facts.refused.binary_search(&keyed.key).is_ok();
            let trained = |keyed: &Keyed| !cuts.heldout(&keyed.document.language, &keyed.key) && !refused(keyed);
            documents.extend(read.into_iter().filter(trained));
        }
        bundle::sort(&mut documents);
        export(runner, i as u64, documents, texts)
    })
}

fn export(runner: &Runner<'_>, range: u64, documents: Vec<Keyed>, texts: bool) -> Result<Exported, BuildError> {
    let mut exported = Exported::default();
    let mut languages = BTreeMap::<String, Vec<Document>>::new();
    for Keyed { mut document, notes, .. } in documents {
        parts::note(&mut document, &notes);
        exported.credits.document(&document);
        languages.entry(document.language.clone()).or_default().push(document);
    }
    for (language, documents) in languages.into_iter().filter(|_| texts) {
        let (name, count) = (parts::part_name(&language, range), documents.len() as u64);
        // Each document goes as soon as it is written.
        let bytes = parts::part(documents)?;
        exported.files.push(FileInfo::of(&name, Some(&language), count, &bytes));
        runner.store.put(&file_name(&name), bytes)?;
    }
    Ok(exported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::BundleId;

    #[test]
    fn the_number_of_ranges_follows_from_the_text() {
        let bundle = |text_bytes| BundleInfo { id: BundleId { unit: 0, part: 0 }, documents: 1, text_bytes };
        assert_eq!([0, 1, RANGE_TEXT, RANGE_TEXT + 1].map(|bytes| ranges(&[bundle(bytes)])), [1, 1, 1, 2]);
        assert_eq!(ranges(&[bundle(3 * RANGE_TEXT), bundle(3 * RANGE_TEXT)]), 8);
        assert_eq!(heads(0, 1), 0..=u64::MAX);
        assert_eq!((heads(0, 4), heads(3, 4)), (0..=(1 << 62) - 1, 3 << 62..=u64::MAX));
    }
}
