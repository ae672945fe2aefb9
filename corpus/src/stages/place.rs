//! Copies of documents to their places in a mix's shuffled order: each bundle's copies, cut into ranges of places.

use super::encode::{self, EncodedBundle};
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use crate::build::BuildError;
use crate::bundle::{self, BundleInfo, Key};
use crate::facts::MixPart;
use crate::mix::{self, Parts, Plan};
use crate::store::{OBJECT_MAX, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the stage.
pub const STAGE: &str = "place";
/// Tokens of a range of places, about: it is sorted in memory, four bytes a token.
const RANGE_TOKENS: u64 = 4 << 20;

/// Copies of a document in a mix at most: weights of a mix and of a phase are at most 64 each.
const COPIES_MAX: u32 = 64 * 64 + 1;

/// A copy of a document in its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Placed {
    /// Its place.
    pub place: [u8; 32],
    /// The document.
    pub key: Key,
    /// Which copy it is, in all mixes.
    pub copy: u32,
    /// Its language and source: a number in the order of [`Parts`].
    pub part: u16,
    /// Bytes of its text.
    pub text_bytes: u32,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

/// What a bundle gives to each mix.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlacedFacts {
    /// For each mix: parts by language and source.
    pub mixes: Vec<BTreeMap<(String, String), MixPart>>,
}

/// Ranges that the places of a mix of so many tokens are cut into: a power of two that follows from the data alone, since every
/// range ends with a shard that is not full.
pub fn ranges(tokens: u64, shard_tokens: u64) -> u64 {
    (tokens / RANGE_TOKENS.max(4 * shard_tokens)).max(1).next_power_of_two().min(1 << 20)
}

/// The range that a place lies in.
fn range_of(place: &[u8; 32], ranges: u64) -> usize {
    let [a, b, c, d, e, f, g, h, ..] = *place;
    let head = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    ((u128::from(head) * u128::from(ranges)) >> 64) as usize
}

/// Places all bundles; `ranges` has a number for each plan.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    parts: &Parts,
    plans: &[Plan],
    ranges: &[u64],
    seed: u64,
    before: Fingerprint,
) -> Result<Vec<PlacedFacts>, BuildError> {
    let item = |bundle: &BundleInfo| Item {
        name: bundle.id.to_string(),
        weight: bundle.text_bytes.max(1),
        fingerprint: fingerprint(STAGE, &(before, bundle)),
    };
    let items: Vec<Item> = bundles.iter().map(item).collect();
    let numbers: BTreeMap<&(String, String), u16> = parts.keys().zip(0..).collect();
    runner.run(STAGE, "mixing", &items, |i, _| {
        let encoded: EncodedBundle = bundle::get(&runner.store, &encode::tokens_name(&bundles[i]))?;
        let mut facts = PlacedFacts::default();
        for (mix, (plan, &ranges)) in plans.iter().zip(ranges).enumerate() {
            let first_copy = mix as u32 * COPIES_MAX;
            let (parts, placed) = place(&encoded, &numbers, plan, (ranges, first_copy), seed);
            runner.store.put(&name(&plan.name, &bundles[i]), pack(placed))?;
            facts.mixes.push(parts);
        }
        Ok(facts)
    })
}

/// The object of a bundle: where each range begins, and the last ends, each u64 LE; then the ranges, packed. Nobody could hold where all
/// ranges of all bundles begin.
fn pack(placed: Vec<Vec<Placed>>) -> Vec<u8> {
    let mut bytes = vec![0; 8 * (placed.len() + 1)];
    for (n, mut range) in placed.into_iter().enumerate() {
        let begin = bytes.len() as u64;
        bytes[8 * n..8 * (n + 1)].copy_from_slice(&begin.to_le_bytes());
        range.sort_unstable();
        if !range.is_empty() {
            bytes.extend(bundle::pack(&range));
        }
        let end = bytes.len() as u64;
        bytes[8 * (n + 1)..8 * (n + 2)].copy_from_slice(&end.to_le_bytes());
    }
    bytes
}

fn name(mix: &str, bundle: &BundleInfo) -> String {
    format!("{STAGE}/{mix}/{}", bundle.id)
}

type MixParts = BTreeMap<(String, String), MixPart>;

fn place(
    encoded: &EncodedBundle,
    numbers: &BTreeMap<&(String, String), u16>,
    plan: &Plan,
    (ranges, first_copy): (u64, u32),
    seed: u64,
) -> (MixParts, Vec<Vec<Placed>>) {
    let mut parts = MixParts::new();
    let mut placed: Vec<Vec<Placed>> = (0..ranges).map(|_| Vec::new()).collect();
    for document in &encoded.documents {
        let Some(name) = encoded.parts.get(usize::from(document.part)) else { continue };
        let Some(&number) = numbers.get(name) else { continue };
        let weight = plan.weights.get(name).copied().unwrap_or(0.0);
        let copies = mix::copies(weight, &plan.name, &document.key);
        let part = parts.entry(name.clone()).or_insert_with(|| MixPart {
            language: name.0.clone(),
            source: name.1.clone(),
            weight,
            ..MixPart::default()
        });
        part.documents += u64::from(copies > 0);
        part.copies += copies;
        part.bytes += copies * document.text_bytes;
        part.tokens += copies * document.tokens.len() as u64;
        for copy in 0..copies {
            let place = mix::place(seed, &plan.name, copy, &document.key);
            let range = range_of(&place, ranges);
            let text_bytes = u32::try_from(document.text_bytes).unwrap_or(u32::MAX);
            let (key, tokens) = (document.key, document.tokens.clone());
            let copy = first_copy + copy as u32;
            placed[range].push(Placed { place, key, copy, part: number, text_bytes, tokens });
        }
    }
    (parts, placed)
}

/// All copies in a range of places, in their order.
///
/// # Errors
/// [`StoreError`].
pub fn read(store: &Store, bundles: &[BundleInfo], mix: &str, range: u64) -> Result<Vec<Placed>, StoreError> {
    let mut all = Vec::new();
    for bundle in bundles {
        let name = name(mix, bundle);
        let ends = store.get_range(&name, 8 * range..8 * (range + 2))?;
        let (begin, end) = ends.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let (begin, end) = (number(begin), number(end));
        if begin > end || end - begin > OBJECT_MAX {
            return Err(store.damaged(&name, "its ranges are out of order"));
        }
        if begin < end {
            let packed = store.get_range(&name, begin..end)?;
            let placed: Vec<Placed> = bundle::unpack(&packed).map_err(|reason| store.damaged(&name, reason))?;
            all.extend(placed);
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cut_places_evenly_and_in_order() {
        assert_eq!([0, 1 << 20, 4 << 20, 15 << 20, 16 << 20].map(|tokens| ranges(tokens, 1 << 20)), [1, 1, 1, 4, 4]);
        assert_eq!(ranges(1 << 30, 1 << 27), 2);
        let place = |head: u64| {
            let mut place = [0; 32];
            place[..8].copy_from_slice(&head.to_be_bytes());
            place
        };
        let quarter = 1 << 62;
        assert_eq!([0, quarter - 1, quarter, u64::MAX].map(|head| range_of(&place(head), 4)), [0, 0, 1, 3]);
        assert_eq!(range_of(&place(u64::MAX), 1), 0);
    }
}
