//! Which documents share a key: one range of the space of hashes at a time.

use super::lists::{put_list, read_list};
use super::sketches::{self, Section};
use super::{Numbering, edges_name, sketch_name};
use crate::bundle::BundleInfo;
use crate::store::{Store, StoreError};

/// Bytes held for each 64-bit key of a range.
pub(super) const NEAR_BYTES: u64 = 16;
/// Bytes held for each 128-bit key of a range.
pub(super) const EXACT_BYTES: u64 = 32;

/// What [`bands`] found in its range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edges {
    /// Distinct pairs of documents of two bundles with an equal band key.
    pub near: u64,
    /// Distinct pairs of documents of two bundles with the same text.
    pub exact: u64,
}

/// Sorts keys and turns each run of equal ones into pairs of its first document with every other, in place.
fn stars<K: Copy + Ord>(keys: &mut Vec<(K, u64)>, pack: impl Fn(u64) -> K, unpack: impl Fn(K) -> u64) {
    keys.sort_unstable();
    let (mut written, mut first) = (0, None);
    for at in 0..keys.len() {
        let (key, document) = keys[at];
        match first {
            Some((same, root)) if same == key => {
                keys[written] = (pack(root), document);
                written += 1;
            }
            _ => first = Some((key, document)),
        }
    }
    keys.truncate(written);
    keys.sort_unstable_by_key(|&(root, document)| (unpack(root), document));
    keys.dedup();
}

/// Finds the documents that share a key within range `r` of `ranges`, and writes them as pairs to [`edges_name`]`(r)`. Any task may
/// do any range; what is written follows from the sketches and the two numbers. Bundles count in the order of their ids.
///
/// Holds 16 bytes for each band key of the range and 32 for each exact key, in an allocation made to measure, and one bundle's part.
///
/// # Errors
/// [`StoreError`], also where sketches are damaged.
pub fn bands(store: &Store, bundles: &[BundleInfo], r: u32, ranges: u32) -> Result<Edges, StoreError> {
    let range = sketches::prefixes(r, ranges);
    let numbering = Numbering::new(bundles);
    let mut found = Vec::new();
    let (mut nears, mut exacts) = (0, 0);
    for (bundle, base) in numbering.bundles() {
        let index = sketches::index(store, &sketch_name(bundle.id), Section::Keys, &range)?;
        let (near, exact) = sketches::announced(&index);
        (nears, exacts) = (nears + near, exacts + exact);
        found.push((bundle, base, index));
    }
    let mut near: Vec<(u64, u64)> = Vec::with_capacity(nears);
    let mut exact: Vec<(u128, u64)> = Vec::with_capacity(exacts);
    for (bundle, base, index) in found {
        let slice = sketches::read(store, &sketch_name(bundle.id), &index, &range, bundle.documents)?;
        near.extend(slice.near.iter().map(|&(key, document)| (key, base + u64::from(document))));
        exact.extend(slice.exact.iter().map(|&(key, document)| (key, base + u64::from(document))));
    }
    stars(&mut near, |root| root, |key| key);
    stars(&mut exact, u128::from, |key| key as u64);
    let count = Edges { near: near.len() as u64, exact: exact.len() as u64 };
    // Near pairs, then exact ones; the first number tells where.
    let numbers = 1 + 2 * (near.len() + exact.len());
    let number = |at: usize| match at.checked_sub(1) {
        None => near.len() as u64,
        Some(at) if at / 2 < near.len() => [near[at / 2].0, near[at / 2].1][at % 2],
        Some(at) => {
            let (root, document) = exact[at / 2 - near.len()];
            [root as u64, document][at % 2]
        }
    };
    put_list(store, &edges_name(r), (0..numbers).map(number))?;
    Ok(count)
}

/// Reads what [`bands`] wrote: `each` is given the pairs, and whether they are exact.
pub(super) fn read(
    store: &Store,
    r: u32,
    documents: u64,
    mut each: impl FnMut(bool, u64, u64),
) -> Result<(), StoreError> {
    let (mut nears, mut at, mut root) = (0u64, 0u64, 0);
    read_list(store, &edges_name(r), |number| {
        match at {
            0 => nears = number,
            _ if at % 2 == 1 => root = number,
            _ if root < number && number < documents => each((at / 2) > nears, root, number),
            _ => return Err(format!("a pair of documents {root} and {number}, there are {documents}")),
        }
        at += 1;
        Ok(())
    })?;
    match at % 2 == 1 && nears <= at / 2 {
        true => Ok(()),
        false => Err(store.damaged(&edges_name(r), "half a pair")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_become_stars_without_repetition() {
        let mut keys = vec![(9, 4), (7, 3), (9, 1), (7, 2), (8, 5), (9, 2), (6, 1), (6, 4)];
        stars(&mut keys, |root| root, |key| key);
        assert_eq!(keys, [(1, 2), (1, 4), (2, 3)]);
    }

    #[test]
    fn damaged_pairs_are_refused() {
        let store = Store::in_memory().unwrap();
        let read = |numbers: &[u64]| {
            put_list(&store, &edges_name(0), numbers.iter().copied()).unwrap();
            let mut pairs = Vec::new();
            read(&store, 0, 10, |exact, a, b| pairs.push((exact, a, b))).map(|()| pairs)
        };
        assert_eq!(read(&[1, 0, 1, 2, 9]).unwrap(), [(false, 0, 1), (true, 2, 9)]);
        assert_eq!(read(&[0]).unwrap(), []);
        for bad in [&[][..], &[1], &[0, 1], &[0, 1, 1], &[0, 2, 1], &[0, 1, 10], &[3, 1, 2]] {
            assert!(matches!(read(bad), Err(StoreError::Damaged { .. })), "{bad:?}");
        }
    }
}
