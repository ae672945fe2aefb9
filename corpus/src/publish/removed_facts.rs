//! What a data set's figures become when documents are taken out.

use super::rejected::{Fate, REMOVED_RULE};
use super::remove::{Going, Tokens};
use crate::dataset::Dataset;
use crate::facts::{Facts, HeldoutFacts};
use crate::tally::{Count, KEPT, Tally, TallyKey};
use essaim_protocol::dataset::DatasetManifest;
use std::collections::BTreeMap;

/// A document that goes.
struct Gone<'a> {
    source: &'a str,
    language: &'a str,
    license: &'a str,
    bytes: u64,
    heldout: bool,
    url: Option<&'a str>,
}

fn gone<'a>(going: &'a Going<'_>) -> impl Iterator<Item = Gone<'a>> {
    let trained = going.documents.iter().map(|document| Gone {
        source: &document.source,
        language: &document.language,
        license: &document.license,
        bytes: document.text.len() as u64,
        heldout: false,
        url: document.meta.url.as_deref(),
    });
    let heldout = going.heldout.iter().map(|line| Gone {
        source: &line.source,
        language: &line.language,
        license: &line.license,
        bytes: line.text.len() as u64,
        heldout: true,
        url: None,
    });
    trained.chain(heldout)
}

/// Rows for `rejected.parquet`, in the order of ids.
pub(super) fn fates(going: &Going<'_>) -> Vec<Fate> {
    let fate = |id: &str, source: &str, language: &str, license: &str, bytes: usize| Fate {
        id: id.to_owned(),
        source: source.to_owned(),
        language: language.to_owned(),
        license: license.to_owned(),
        rule: REMOVED_RULE.to_owned(),
        detail: "taken out of a finished data set".to_owned(),
        bytes: bytes as u64,
    };
    let trained = going.documents.iter().map(|d| fate(&d.id, &d.source, &d.language, &d.license, d.text.len()));
    let heldout = going.heldout.iter().map(|l| fate(&l.id, &l.source, &l.language, &l.license, l.text.len()));
    let mut fates: Vec<Fate> = trained.chain(heldout).collect();
    fates.sort_unstable();
    fates
}

/// Tokens of a document as it was before it was cut into pieces, each of which has `<s>` and `</s>` of its own.
fn whole_tokens(entries: &[&super::index::Entry], tokens: &Tokens) -> u64 {
    let mut pieces = BTreeMap::<u16, u64>::new();
    for entry in entries {
        pieces.insert(entry.piece, tokens.get(&(entry.shard, entry.document)).copied().unwrap_or(0));
    }
    pieces.values().sum::<u64>().saturating_sub(2 * (pieces.len() as u64).saturating_sub(1))
}

/// Takes the documents out of the manifest's sources; gives the new number of each old source that is still there.
pub(super) fn sources(manifest: &mut DatasetManifest, going: &Going<'_>, tokens: &Tokens) -> Vec<Option<u16>> {
    for entries in going.entries.values() {
        let entries: Vec<&super::index::Entry> =
            entries.iter().filter(|entry| (entry.shard as usize) < going.training_shards).collect();
        let Some(first) = entries.first() else { continue };
        if let Some(source) = manifest.sources.get_mut(usize::from(first.source)) {
            source.documents = source.documents.saturating_sub(1);
            source.text_bytes = source.text_bytes.saturating_sub(first.text_bytes.into());
            source.tokens = source.tokens.saturating_sub(whole_tokens(&entries, tokens));
        }
    }
    let mut next = 0;
    let numbers = manifest.sources.iter().map(|source| {
        let number = (source.documents > 0).then_some(next);
        next += u16::from(number.is_some());
        number
    });
    let numbers = numbers.collect();
    manifest.sources.retain(|source| source.documents > 0);
    numbers
}

/// The figures without the documents. Where they are sums over documents they are exact; sizes of clusters, masked data, removed lines,
/// and years stay as the build counted them.
pub(super) fn facts(
    old: &Facts,
    going: &Going<'_>,
    dataset: &Dataset,
    manifest: &DatasetManifest,
    tokens: &Tokens,
    hash: &str,
) -> Facts {
    let mut facts = old.clone();
    hash.clone_into(&mut facts.dataset);
    if going.credits.rows().next().is_some() {
        facts.credits = going.credits.clone();
    }
    for document in gone(going) {
        let bytes = document.bytes;
        move_to_removed(&mut facts.tally, &document);
        for row in &mut facts.licenses {
            if (row.license.as_str(), row.source.as_str(), row.language.as_str())
                == (document.license, document.source, document.language)
                && !document.heldout
            {
                row.documents = row.documents.saturating_sub(1);
                row.bytes = row.bytes.saturating_sub(bytes);
            }
        }
        let class = 63 - bytes.max(1).leading_zeros() as usize;
        let count = facts.lengths.get_mut(document.language).and_then(|lengths| lengths.get_mut(class));
        count.into_iter().for_each(|count| *count = count.saturating_sub(1));
        let host =
            document.url.and_then(|url| url.split_once("://")).and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
        for row in facts.hosts.iter_mut().filter(|row| host.is_some_and(|host| host == row.host)) {
            row.documents = row.documents.saturating_sub(1);
            row.bytes = row.bytes.saturating_sub(bytes);
        }
    }
    facts.licenses.retain(|row| row.documents > 0);
    facts.hosts.retain(|row| row.documents > 0);
    facts.hosts.sort_by(|a, b| (b.bytes, &a.host).cmp(&(a.bytes, &b.host)));
    for held in &dataset.manifest.heldout {
        let left = manifest.heldout.iter().find(|new| new.language == held.language);
        let left = left.map(|new| HeldoutFacts {
            documents: new.shard.documents,
            bytes: new.text_bytes,
            tokens: new.shard.tokens,
        });
        match left {
            Some(left) => drop(facts.heldout.insert(held.language.clone(), left)),
            None => drop(facts.heldout.remove(&held.language)),
        }
    }
    mixes(&mut facts, going, dataset, manifest, tokens);
    facts
}

fn move_to_removed(tally: &mut Tally, document: &Gone<'_>) {
    let (source, language, bytes) = (document.source, document.language, document.bytes);
    let mut rows: Vec<(TallyKey, Count)> = std::mem::take(tally).into();
    let kept = |key: &TallyKey| key.rule == KEPT && key.source == source && key.language == language;
    if let Some((_, count)) = rows.iter_mut().find(|(key, _)| kept(key)) {
        count.documents = count.documents.saturating_sub(1);
        count.bytes = count.bytes.saturating_sub(bytes);
    }
    rows.retain(|(_, count)| count.documents > 0);
    *tally = rows.into();
    tally.document(source, language, REMOVED_RULE, bytes);
}

/// Takes the documents' copies out of the mixes they were in.
fn mixes(facts: &mut Facts, going: &Going<'_>, dataset: &Dataset, manifest: &DatasetManifest, tokens: &Tokens) {
    let mut begin = 0;
    for (mix, new) in dataset.manifest.mixes.iter().zip(&manifest.mixes) {
        let end = begin + mix.shards.len();
        let Some(facts) = facts.mixes.iter_mut().find(|facts| facts.name == mix.name) else {
            begin = end;
            continue;
        };
        facts.shards = new.shards.len() as u64;
        for entries in going.entries.values() {
            let here = entries.iter().filter(|entry| (begin..end).contains(&(entry.shard as usize)));
            let here: Vec<_> = here.collect();
            let source = here.first().and_then(|entry| dataset.manifest.sources.get(usize::from(entry.source)));
            let Some((first, source)) = here.first().zip(source) else { continue };
            let is_it =
                |part: &&mut crate::facts::MixPart| part.source == source.name && part.language == source.language;
            let Some(part) = facts.parts.iter_mut().find(is_it) else { continue };
            let copies = here.iter().filter(|entry| entry.piece == 0).count() as u64;
            part.documents = part.documents.saturating_sub(1);
            part.copies = part.copies.saturating_sub(copies);
            part.bytes = part.bytes.saturating_sub(copies * u64::from(first.text_bytes));
            part.tokens = part.tokens.saturating_sub(copies * whole_tokens(&here, tokens));
        }
        facts.parts.retain(|part| part.documents > 0);
        begin = end;
    }
}
