//! After deduplication: duplicates dropped, lines that recur in many documents removed.

use super::ingest::write_bundle;
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use crate::build::BuildError;
use crate::bundle::{self, BundleId, BundleInfo, Fate, Keyed};
use crate::dedup::{self, FrequentLines};
use crate::facts::LineFacts;
use crate::tally::Tally;
use crate::verdict::Rejection;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the stage.
pub const STAGE: &str = "clean";

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cleaned {
    /// The bundle as it is now.
    pub bundle: BundleInfo,
    /// Documents refused here.
    pub tally: Tally,
    /// Lines removed.
    pub lines: LineFacts,
    /// Figures of what is left.
    pub kept: Kept,
    /// How many hosts the kept documents are from: their list is in the store, as there are too many to hold those of all bundles.
    pub hosts: u64,
}

/// Documents and bytes of a bundle by host.
pub(super) type Hosts = BTreeMap<String, (u64, u64)>;

/// Where the hosts of a bundle lie.
pub(super) fn hosts_name(id: BundleId) -> String {
    format!("{STAGE}/{id}.hosts")
}

/// Figures of kept documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// By language and source: documents and bytes.
    pub parts: BTreeMap<(String, String), (u64, u64)>,
    /// By language: documents whose text has 2^k bytes or more, and fewer than 2^(k+1).
    pub lengths: BTreeMap<String, Vec<u64>>,
    /// Personal data masked, by kind and language.
    pub masked: BTreeMap<(String, String), u64>,
    /// First and last year, by source.
    pub years: BTreeMap<String, (u16, u16)>,
}

fn add(sum: &mut (u64, u64), documents: u64, bytes: u64) {
    sum.0 += documents;
    sum.1 += bytes;
}

impl Kept {
    fn document(&mut self, keyed: &Keyed) {
        let document = &keyed.document;
        let bytes = document.text.len() as u64;
        let (language, source) = (document.language.clone(), document.source.clone());
        add(self.parts.entry((language.clone(), source.clone())).or_default(), 1, bytes);
        let lengths = self.lengths.entry(language.clone()).or_default();
        let k = bytes.max(1).ilog2() as usize;
        lengths.resize(lengths.len().max(k + 1), 0);
        lengths[k] += 1;
        for (kind, count) in ["email", "phone", "ip", "iban"].iter().zip(keyed.notes.masked) {
            if count > 0 {
                *self.masked.entry(((*kind).to_owned(), language.clone())).or_default() += u64::from(count);
            }
        }
        if let Some(year) = document.meta.date.as_deref().and_then(year) {
            let years = self.years.entry(source).or_insert((year, year));
            *years = (years.0.min(year), years.1.max(year));
        }
    }

    /// Adds the figures of another bundle.
    pub fn merge(&mut self, other: Kept) {
        other.parts.into_iter().for_each(|(key, (n, bytes))| add(self.parts.entry(key).or_default(), n, bytes));
        for (language, counts) in other.lengths {
            let lengths = self.lengths.entry(language).or_default();
            lengths.resize(lengths.len().max(counts.len()), 0);
            lengths.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        other.masked.into_iter().for_each(|(key, count)| *self.masked.entry(key).or_default() += count);
        for (source, (first, last)) in other.years {
            let years = self.years.entry(source).or_insert((first, last));
            *years = (years.0.min(first), years.1.max(last));
        }
    }
}

/// The host of an address.
fn host(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty() && host.len() <= 253).then(|| host.to_ascii_lowercase())
}

/// The year that a date begins with.
fn year(date: &str) -> Option<u16> {
    let digits = date.get(..4)?;
    let ends = date[4..].chars().next().is_none_or(|c| !c.is_ascii_digit());
    (ends && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Cleans all bundles.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    lines: Option<&FrequentLines>,
    before: Fingerprint,
) -> Result<Vec<Cleaned>, BuildError> {
    let items: Vec<Item> = bundles.iter().map(|bundle| item(bundle, before)).collect();
    runner.run(STAGE, "dropping duplicates", &items, |i, _| clean(runner, &bundles[i], lines))
}

pub(super) fn item(bundle: &BundleInfo, before: Fingerprint) -> Item {
    Item {
        name: bundle.id.to_string(),
        weight: bundle.text_bytes.max(1),
        fingerprint: fingerprint(STAGE, &(before, bundle)),
    }
}

fn clean(runner: &Runner<'_>, bundle: &BundleInfo, lines: Option<&FrequentLines>) -> Result<Cleaned, BuildError> {
    let store = &runner.store;
    let documents = bundle::read(store, &bundle::docs_name(super::ingest::STAGE, bundle.id), 0..=u64::MAX)?;
    let fates: Vec<dedup::Fate> = bundle::get(store, &dedup::fate_name(bundle.id))?;
    if fates.len() != documents.len() {
        let name = bundle::docs_name(super::ingest::STAGE, bundle.id);
        return Err(store.damaged(&name, "it and its fates do not belong together").into());
    }
    let judge = |(keyed, fate): (Keyed, dedup::Fate)| judge(keyed, fate, lines);
    let judged: Vec<_> = documents.into_par_iter().zip(fates).map(judge).collect();
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    let (mut tally, mut removed, mut figures) = (Tally::default(), LineFacts::default(), Kept::default());
    let mut hosts = Hosts::new();
    for (judged, facts) in judged {
        removed.documents += facts.documents;
        removed.lines += facts.lines;
        removed.bytes += facts.bytes;
        match judged {
            Ok(keyed) => {
                figures.document(&keyed);
                if let Some(host) = keyed.document.meta.url.as_deref().and_then(host) {
                    add(hosts.entry(host).or_default(), 1, keyed.document.text.len() as u64);
                }
                kept.push(keyed);
            }
            Err(fate) => {
                tally.document(&fate.source, &fate.language, &fate.rule, fate.bytes);
                refused.push(fate);
            }
        }
    }
    if !hosts.is_empty() {
        bundle::put(store, &hosts_name(bundle.id), &hosts)?;
    }
    bundle::put(store, &bundle::fates_name(STAGE, bundle.id), &refused)?;
    let bundle = write_bundle(runner, STAGE, bundle.id, kept)?;
    Ok(Cleaned { bundle, tally, lines: removed, kept: figures, hosts: hosts.len() as u64 })
}

fn judge(mut keyed: Keyed, fate: dedup::Fate, lines: Option<&FrequentLines>) -> (Result<Keyed, Fate>, LineFacts) {
    let none = LineFacts::default();
    if let Some(rejection) = fate.rejection() {
        return (Err(Fate::new(&keyed.document, rejection)), none);
    }
    if let dedup::Fate::Kept { cluster_size } = fate {
        keyed.notes.cluster = cluster_size;
    }
    let document = &keyed.document;
    let Some(removed) = lines.and_then(|lines| lines.remove(&document.language, &document.text)) else {
        return (Ok(keyed), none);
    };
    if removed.text.trim().is_empty() {
        let detail = format!("all of its {} lines occur in many documents", removed.lines);
        return (Err(Fate::new(document, Rejection::new("dedup/lines", detail))), none);
    }
    keyed.document.text = removed.text;
    (Ok(keyed), LineFacts { documents: 1, lines: removed.lines, bytes: removed.bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_years_are_read_off() {
        assert_eq!(host("https://u:p@WWW.Example.org:8080/a?b#c").as_deref(), Some("www.example.org"));
        assert_eq!(host("http://a?x").as_deref(), Some("a"));
        assert_eq!((host("/usr/share/doc/x"), host("http:///x")), (None, None));
        assert_eq!(["1857", "1857-04-02", "2024-01-02T03:04:05Z"].map(year), [Some(1857), Some(1857), Some(2024)]);
        assert_eq!(["", "18570402", "185", "c. 1857", "18é7"].map(year), [None; 5]);
    }
}
