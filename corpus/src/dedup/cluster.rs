//! From pairs to the fate of every document.

use super::union::{Forest, Number};
use super::words::seed;
use super::{Fate, Numbering, edges, fate_name, sketch_name, sketches};
use crate::bundle::{self, BundleInfo, Key, Row, Rows, keys_name};
use crate::store::{Store, StoreError};
use std::collections::BTreeMap;

/// What [`cluster`] decided, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clusters {
    /// Sizes of clusters, and how many there are of each: documents that one kept document stands for, itself included. A document
    /// without duplicates is a cluster of 1. The sum of sizes is the number of documents.
    pub sizes: BTreeMap<u64, u64>,
    /// Documents dropped whose text another has.
    pub exact: u64,
    /// Other documents dropped, which are near-duplicates.
    pub near: u64,
}

/// The best document of a group.
#[derive(Debug, Clone, Copy)]
struct Best {
    key: Key,
    license: u64,
    document: u64,
}

/// Takes a document for a group's best where its key is smaller. Equal keys have only copies of one document in one source: of
/// them a hash of the licence decides, and then the order of bundles, as they are the same in all that counts.
fn contend(best: &mut Option<Best>, new: Best) {
    if best.is_none_or(|best| (new.key, new.license, new.document) < (best.key, best.license, best.document)) {
        *best = Some(new);
    }
}

/// Documents whose text others have, by number, each with the number of its group.
#[derive(Debug)]
struct Copies {
    members: Vec<(u64, u32)>,
    best: Vec<Option<Best>>,
    sizes: Vec<u64>,
}

impl Copies {
    /// From stars: pairs of a group's first and another of its members.
    fn new(mut stars: Vec<(u64, u64)>) -> Copies {
        stars.sort_unstable();
        stars.dedup();
        // A bundle's own pairs begin with the first of the bundle, other pairs with the first of all.
        let mut numbers: Vec<u64> = stars.iter().flat_map(|&(a, b)| [a, b]).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let place = |document: u64| numbers.binary_search(&document).unwrap_or_default() as u64;
        let mut forest = Forest::<u32>::new(numbers.len() as u64);
        stars.iter().for_each(|&(a, b)| forest.union(place(a), place(b)));
        let (groups, count) = forest.clusters();
        let mut sizes = vec![0; count as usize];
        groups.iter().for_each(|&group| sizes[group as usize] += 1);
        Copies { members: numbers.into_iter().zip(groups).collect(), best: vec![None; count as usize], sizes }
    }

    fn group(&self, document: u64) -> Option<usize> {
        let at = self.members.binary_search_by_key(&document, |&(member, _)| member).ok()?;
        Some(self.members[at].1 as usize)
    }

    /// The document that stands for the text of this one: itself where it is the best, or has no copies.
    fn stands_for(&self, document: u64) -> Best {
        let best = self.group(document).and_then(|group| self.best[group]);
        best.unwrap_or(Best { key: Key([0; 32]), license: 0, document })
    }
}

/// Joins the documents that [`super::bands`] found, picks of each cluster the one with the smallest key, and writes the fate of every
/// document, bundle by bundle, to [`fate_name`]. One task does this. Bundles count in the order of their ids.
///
/// Resident: 4 bytes and a bit for each document (8 beyond 2^32 − 2 documents), 64 bytes for each cluster of more than one, and 16
/// to 56 for each document whose text others have; keys and fates of one bundle at a time.
///
/// # Errors
/// [`StoreError`], also where an object is damaged.
pub fn cluster(store: &Store, bundles: &[BundleInfo], ranges: u32) -> Result<Clusters, StoreError> {
    let numbering = Numbering::new(bundles);
    match numbering.documents() < u64::from(u32::MAX) {
        true => decide::<u32>(store, &numbering, ranges),
        false => decide::<u64>(store, &numbering, ranges),
    }
}

/// The documents of a bundle as they may win: the first has the number `base`.
fn rows(store: &Store, bundle: &BundleInfo, base: u64) -> Result<Vec<Best>, StoreError> {
    let name = keys_name("ingest", bundle.id);
    let Rows { names, rows } = bundle::get(store, &name)?;
    if rows.len() != bundle.documents as usize {
        let found = format!("keys of {} documents, its bundle has {}", rows.len(), bundle.documents);
        return Err(store.damaged(&name, found));
    }
    let licenses: Vec<u64> = names.iter().map(|name| seed("essaim corpus 2026 licences", name)).collect();
    let license = |number: u16| licenses.get(usize::from(number)).copied();
    let best = |(row, document): (&Row, u64)| Some(Best { key: row.key, license: license(row.license)?, document });
    let all: Option<Vec<Best>> = rows.iter().zip(base..).map(best).collect();
    all.ok_or_else(|| store.damaged(&name, "a licence without a name"))
}

fn decide<N: Number>(store: &Store, numbering: &Numbering, ranges: u32) -> Result<Clusters, StoreError> {
    let (mut forest, mut stars) = (Forest::<N>::new(numbering.documents()), Vec::new());
    let mut join = |exact: bool, a: u64, b: u64| match exact {
        true => stars.push((a, b)),
        false => forest.union(a, b),
    };
    for (bundle, base) in numbering.bundles() {
        let pairs = sketches::pairs(store, &sketch_name(bundle.id), bundle.documents)?;
        pairs.near.iter().for_each(|&(a, b)| join(false, base + u64::from(a), base + u64::from(b)));
        pairs.exact.iter().for_each(|&(a, b)| join(true, base + u64::from(a), base + u64::from(b)));
    }
    for r in 0..ranges {
        edges::read(store, r, numbering.documents(), &mut join)?;
    }
    let mut copies = Copies::new(stars);
    let (near, count) = forest.clusters();
    if !copies.members.is_empty() {
        for (bundle, base) in numbering.bundles() {
            for row in rows(store, &bundle, base)? {
                if let Some(group) = copies.group(row.document) {
                    contend(&mut copies.best[group], row);
                }
            }
        }
    }
    let mut winners = vec![None; count as usize];
    for (bundle, base) in numbering.bundles() {
        for row in rows(store, &bundle, base)? {
            let cluster = near[row.document as usize];
            if cluster != N::NONE && copies.stands_for(row.document).document == row.document {
                contend(&mut winners[cluster.get() as usize], row);
            }
        }
    }
    write(store, numbering, &Decided { near, winners, copies })
}

/// All that fates follow from.
struct Decided<N> {
    near: Vec<N>,
    winners: Vec<Option<Best>>,
    copies: Copies,
}

impl<N: Number> Decided<N> {
    /// The cluster that a document's text belongs to, where it is one of more than one.
    fn cluster(&self, document: u64) -> Option<usize> {
        let number = self.near[self.copies.stands_for(document).document as usize];
        (number != N::NONE).then_some(number.get() as usize)
    }

    fn fate(&self, document: u64, sizes: &[u64]) -> Fate {
        let copy = self.copies.stands_for(document);
        if copy.document != document {
            return Fate::Exact { of: copy.key };
        }
        match self.cluster(document) {
            None => {
                let copies = self.copies.group(document).map_or(1, |group| self.copies.sizes[group]);
                Fate::Kept { cluster_size: copies }
            }
            Some(cluster) => match self.winners[cluster] {
                Some(winner) if winner.document != document => Fate::Near { of: winner.key },
                _ => Fate::Kept { cluster_size: sizes[cluster] },
            },
        }
    }
}

fn write<N: Number>(store: &Store, numbering: &Numbering, decided: &Decided<N>) -> Result<Clusters, StoreError> {
    let mut sizes = vec![0u64; decided.winners.len()];
    for document in 0..numbering.documents() {
        if let Some(cluster) = decided.cluster(document) {
            sizes[cluster] += 1;
        }
    }
    let mut clusters = Clusters::default();
    for (bundle, base) in numbering.bundles() {
        let documents = base..base + u64::from(bundle.documents);
        let fates: Vec<Fate> = documents.map(|document| decided.fate(document, &sizes)).collect();
        for fate in &fates {
            match fate {
                Fate::Kept { cluster_size } => *clusters.sizes.entry(*cluster_size).or_default() += 1,
                Fate::Exact { .. } => clusters.exact += 1,
                Fate::Near { .. } => clusters.near += 1,
            }
        }
        bundle::put(store, &fate_name(bundle.id), &fates)?;
    }
    Ok(clusters)
}
