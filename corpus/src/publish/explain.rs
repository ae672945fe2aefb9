//! What happened to one document.

use super::index::{INDEX, Index, IndexError};
use super::parts;
use super::rejected::{Fate, REJECTED};
use super::scan::{self, ScanError};
use crate::bundle::Notes;
use crate::dataset::{Dataset, OpenError, heldout_name};
use crate::license::LicenseFrom;
use serde::Serialize;
use std::collections::BTreeMap;

/// Similar ids that are named at most.
const SIMILAR_MAX: usize = 5;

/// Why a document could not be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The data set.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A published file.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What happened to a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its id.
    pub id: String,
    /// What is known of it, where it was kept: once for each source that has it.
    pub kept: Vec<Kept>,
    /// Where its tokens lie.
    pub places: Vec<Place>,
    /// Where it was refused, and why.
    pub rejected: Vec<Fate>,
    /// Ids that look like it, where it was never seen.
    pub similar: Vec<String>,
}

/// A kept document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The file that holds its text.
    pub file: String,
    /// Its source.
    pub source: String,
    /// Its language.
    pub language: String,
    /// Its licence.
    pub license: String,
    /// Where that was found.
    pub license_from: Option<LicenseFrom>,
    /// Documents with this text or nearly this one when duplicates were dropped, itself included.
    pub cluster_size: Option<u64>,
    /// Where it was.
    pub url: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Its date.
    pub date: Option<String>,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// Whether it is held out of training.
    pub heldout: bool,
}

/// Where copies of a document lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The mix, or `held out: LANGUAGE`.
    pub mix: String,
    /// Its shard.
    pub shard: String,
    /// Documents of the shard that it is, or that are pieces of it.
    pub documents: Vec<u32>,
    /// Copies of its first piece in this shard.
    pub copies: u64,
}

impl Explanation {
    /// Whether the build ever saw the document.
    pub fn seen(&self) -> bool {
        !(self.kept.is_empty() && self.places.is_empty() && self.rejected.is_empty())
    }
}

/// Finds a document by its id: in the index, in the texts, in the held-out files, and among those refused. What the data set does not
/// hold (texts may be left out of it) is passed over.
///
/// # Errors
/// [`ExplainError`].
pub fn explain(dataset: &Dataset, id: &str) -> Result<Explanation, ExplainError> {
    let mut found = Explanation { id: id.to_owned(), ..Explanation::default() };
    found.places = places(dataset, id)?;
    let mut similar = Similar::new(id);
    for path in scan::part_paths(&dataset.root)? {
        let mut here = false;
        scan::ids(&path, |other| {
            here |= other == id;
            similar.see(other);
        })?;
        if here {
            let file = path.strip_prefix(&dataset.root).unwrap_or(&path).display().to_string();
            scan::documents(&path, |document| {
                if document.id == id {
                    let Notes { license_from, cluster, .. } = parts::notes(&document);
                    found.kept.push(Kept {
                        file: file.clone(),
                        text_bytes: document.text.len() as u64,
                        source: document.source,
                        language: document.language,
                        license: document.license,
                        license_from,
                        cluster_size: (cluster > 0).then_some(cluster),
                        url: document.meta.url,
                        title: document.meta.title,
                        date: document.meta.date,
                        heldout: false,
                    });
                }
                Ok(())
            })?;
        }
    }
    for heldout in &dataset.manifest.heldout {
        let file = heldout_name(&heldout.language);
        for line in dataset.heldout_lines(&heldout.language)? {
            similar.see(&line.id);
            if line.id == id {
                found.kept.push(Kept {
                    file: file.clone(),
                    text_bytes: line.text.len() as u64,
                    source: line.source,
                    language: line.language,
                    license: line.license,
                    license_from: line.license_from,
                    cluster_size: line.cluster_size,
                    heldout: true,
                    ..Kept::default()
                });
            }
        }
    }
    let path = dataset.root.join(REJECTED);
    if path.is_file() {
        scan::rejected(&path, |fate| {
            similar.see(&fate.id);
            if fate.id == id {
                found.rejected.push(fate);
            }
            Ok(())
        })?;
    }
    if !found.seen() {
        found.similar = similar.finish();
    }
    Ok(found)
}

fn places(dataset: &Dataset, id: &str) -> Result<Vec<Place>, ExplainError> {
    let path = dataset.root.join(INDEX);
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let manifest = &dataset.manifest;
    let training = manifest.mixes.iter().flat_map(|mix| mix.shards.iter().map(|shard| (mix.name.clone(), shard.hash)));
    let heldout = manifest.heldout.iter().map(|held| (format!("held out: {}", held.language), held.shard.hash));
    let shards: Vec<_> = training.chain(heldout).collect();
    let mut places = BTreeMap::<u32, Place>::new();
    for entry in Index::open(&path)?.find(id)? {
        let Some((mix, shard)) = shards.get(entry.shard as usize) else {
            let reason = format!("an entry names shard {}, there are {}", entry.shard, shards.len());
            return Err(IndexError::Malformed { path, reason }.into());
        };
        let place = places.entry(entry.shard).or_insert_with(|| Place {
            mix: mix.clone(),
            shard: shard.to_string(),
            documents: Vec::new(),
            copies: 0,
        });
        place.documents.push(entry.document);
        place.copies += u64::from(entry.piece == 0);
    }
    places.values_mut().for_each(|place| place.documents.sort_unstable());
    Ok(places.into_values().collect())
}

/// The ids that look most like another.
struct Similar<'a> {
    id: &'a str,
    best: BTreeMap<(std::cmp::Reverse<u32>, String), ()>,
}

impl<'a> Similar<'a> {
    fn new(id: &'a str) -> Similar<'a> {
        Similar { id, best: BTreeMap::new() }
    }

    fn see(&mut self, other: &str) {
        let score = likeness(self.id, other);
        if score >= 600 && other != self.id {
            self.best.insert((std::cmp::Reverse(score), other.to_owned()), ());
            while self.best.len() > SIMILAR_MAX {
                self.best.pop_last();
            }
        }
    }

    fn finish(self) -> Vec<String> {
        self.best.into_keys().map(|(_, id)| id).collect()
    }
}

/// How much two ids look alike, in thousandths: what they share at both ends, whatever their case; more where one holds the other.
fn likeness(a: &str, b: &str) -> u32 {
    let same = |(x, y): &(u8, u8)| x.eq_ignore_ascii_case(y);
    let longest = a.len().max(b.len()).max(1);
    let shortest = a.len().min(b.len());
    let prefix = a.bytes().zip(b.bytes()).take_while(same).count();
    let suffix = a.bytes().rev().zip(b.bytes().rev()).take_while(same).count().min(shortest - prefix);
    let ends = (1000 * (prefix + suffix) / longest) as u32;
    let holds = shortest >= 4 && (a.contains(b) || b.contains(a));
    if holds { ends.max(700) } else { ends }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_ids_are_those_that_a_slip_would_make() {
        let mut similar = Similar::new("wiki/fr/Forêt");
        let ids = ["wiki/fr/Foret", "wiki/fr/Fôret", "wiki/de/Wald", "x", "", "https://fr/wiki/fr/Forêt#top"];
        ids.iter().for_each(|id| similar.see(id));
        assert_eq!(similar.finish(), ["wiki/fr/Foret", "wiki/fr/Fôret", "https://fr/wiki/fr/Forêt#top"]);
        assert_eq!((likeness("abc", "abc"), likeness("", ""), likeness("ab", "xy")), (1000, 0, 0));
        assert_eq!(likeness("aaaa", "aaaaaa"), 700);
    }
}
