//! Which n-grams of held-out texts are common property: those that occur in many training documents. They count for nothing in
//! decontamination.

use super::clean;
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use super::select::{Cuts, NGRAMS};
use crate::build::BuildError;
use crate::bundle::{self, BundleInfo};
use crate::config::Config;
use crate::decontaminate::NgramSet;
use crate::dedup::lists::{put_list, read_list};
use rayon::prelude::*;

/// Name of the stage.
pub const STAGE: &str = "collide";
/// Where the common n-grams lie.
const COMMON: &str = "collide/common";

/// Counts in how many training documents each n-gram of the held-out ones occurs; gives the set that ignores the common ones.
///
/// Holds a byte for each n-gram of the set, and 8 for each that occurs in a bundle and for each common one.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    config: &Config,
    bundles: &[BundleInfo],
    cuts: &Cuts,
    before: Fingerprint,
) -> Result<NgramSet, BuildError> {
    let mut set = NgramSet::load(&runner.store, NGRAMS)?;
    let documents_max = config.decontaminate.documents_max;
    if documents_max == 0 || set.len().0 == 0 {
        return Ok(set);
    }
    let before = fingerprint(STAGE, &(before, &config.decontaminate));
    let item = |bundle: &BundleInfo| Item {
        name: bundle.id.to_string(),
        weight: bundle.text_bytes.max(1),
        fingerprint: fingerprint(STAGE, &(before, bundle)),
    };
    let items: Vec<Item> = bundles.iter().map(item).collect();
    runner.run(STAGE, "counting what is held out and common", &items, |i, _| count(runner, &bundles[i], cuts, &set))?;
    let whole = [Item { name: "common".into(), weight: 1, fingerprint: fingerprint("common", &(before, bundles)) }];
    runner.run("common", "choosing what is common", &whole, |_, _| merge(runner, bundles, &set, documents_max))?;
    let mut common = Vec::new();
    let max = set.len().0;
    read_list(&runner.store, COMMON, |hash| {
        common.push(hash);
        if common.len() > max { Err(format!("more than {max} numbers")) } else { Ok(()) }
    })?;
    set.ignore(common);
    Ok(set)
}

fn name(bundle: &BundleInfo) -> String {
    format!("{STAGE}/{}.ngrams", bundle.id)
}

/// Writes the held-out n-grams of a bundle's training documents, each as often as documents have it.
fn count(runner: &Runner<'_>, bundle: &BundleInfo, cuts: &Cuts, set: &NgramSet) -> Result<(), BuildError> {
    let documents = bundle::read(&runner.store, &bundle::docs_name(clean::STAGE, bundle.id), 0..=u64::MAX)?;
    let training = documents.par_iter().filter(|keyed| !cuts.heldout(&keyed.document.language, &keyed.key));
    let mut found: Vec<u64> = training.flat_map_iter(|keyed| set.heldout_ngrams(&keyed.document.text)).collect();
    found.par_sort_unstable();
    Ok(put_list(&runner.store, &name(bundle), found.into_iter())?)
}

/// Adds all bundles up and writes the n-grams that more than `documents_max` documents have.
fn merge(runner: &Runner<'_>, bundles: &[BundleInfo], set: &NgramSet, documents_max: u32) -> Result<(), BuildError> {
    let all = set.heldout();
    let mut counts = vec![0u8; all.len()];
    let limit = u8::try_from(documents_max).unwrap_or(u8::MAX - 1);
    for bundle in bundles {
        // Both are sorted: each is gone through once.
        let mut at = 0;
        read_list(&runner.store, &name(bundle), |hash| {
            at += all[at..].partition_point(|&other| other < hash);
            match all.get(at) {
                Some(&other) if other == hash => {
                    counts[at] = counts[at].saturating_add(1);
                    Ok(())
                }
                _ => Err("an n-gram that is not held out".into()),
            }
        })?;
    }
    let common: Vec<u64> = all.iter().zip(counts).filter(|&(_, count)| count > limit).map(|(&hash, _)| hash).collect();
    Ok(put_list(&runner.store, COMMON, common.into_iter())?)
}
