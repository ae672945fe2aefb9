//! Deduplication as stages: ranges of hashes by any task, the clusters by one, recurring lines by ranges again.

use super::runner::{Fingerprint, Item, Runner, fingerprint};
use crate::build::{BuildError, single};
use crate::bundle::BundleInfo;
use crate::config::Config;
use crate::dedup::{self, FrequentLines};
use std::collections::BTreeMap;

fn items(stage: &str, ranges: u32, before: Fingerprint) -> Vec<Item> {
    let item = |r: u32| Item { name: format!("{r:05}"), weight: 1, fingerprint: fingerprint(stage, &(before, r)) };
    (0..ranges).map(item).collect()
}

/// Decides which documents are duplicates; gives the sizes of their clusters.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    config: &Config,
    before: Fingerprint,
) -> Result<BTreeMap<u64, u64>, BuildError> {
    let ranges = ranges(runner, bundles, config);
    let before = fingerprint("dedup", &(before, ranges));
    runner.run("bands", "looking for duplicates", &items("bands", ranges, before), |r, _| {
        Ok(dedup::bands(&runner.store, bundles, r as u32, ranges).map(|edges| (edges.exact, edges.near))?)
    })?;
    let clusters = runner.run("cluster", "joining duplicates", &single("all", before), |_, _| {
        Ok(dedup::cluster(&runner.store, bundles, ranges)?.sizes)
    })?;
    Ok(clusters.into_iter().next().unwrap_or_default())
}

/// The lines that recur in many documents, where that is asked for.
///
/// # Errors
/// [`BuildError`].
pub fn frequent_lines(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    config: &Config,
    before: Fingerprint,
) -> Result<Option<FrequentLines>, BuildError> {
    if !config.dedup.lines.on() {
        return Ok(None);
    }
    let ranges = ranges(runner, bundles, config);
    let before = fingerprint("lines", &(before, ranges));
    runner.run("lines", "counting recurring lines", &items("lines", ranges, before), |r, _| {
        Ok(dedup::lines(&runner.store, bundles, &config.dedup, r as u32, ranges)?)
    })?;
    Ok(Some(FrequentLines::load(&runner.store, &config.dedup, ranges)?))
}

/// Ranges that keep what all threads hold within the budget.
fn ranges(runner: &Runner<'_>, bundles: &[BundleInfo], config: &Config) -> u32 {
    dedup::ranges(bundles, &config.dedup, runner.memory / runner.threads.max(1) as u64)
}
