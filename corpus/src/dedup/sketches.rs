//! The sketches of a bundle as one object, of which a range of the space of hashes can be read.
//!
//! ```text
//! head    "ESSKET1\n" · documents u32 · near pairs u32 · exact pairs u32 · check of the pairs u32
//! index   of the keys, then of the lines, each 1025 times: place u32 · 64-bit entries u32 · check u32
//! pairs   of documents within the bundle: near, then exact: u16 · u16
//! keys    by the key's first 10 bits: band keys, each u64 · u16 (the first document with it); then exact keys, each u128 · u16
//! lines   by the hash's first 10 bits: u64 · u16, every document that has the line
//! ```
//! All little-endian. Documents of one bundle that share a key are pairs already, and only the first of them has the key's entry: a
//! text that a million documents share leaves one entry a bundle. On disk: 10 bytes a band key, 18 an exact key, 10 a line and
//! 24 KiB a bundle: 158 MB per million documents with the default settings, before lines.

use super::sketch::Sketch;
use super::union::Forest;
use crate::bundle::BUNDLE_DOCUMENTS_MAX;
use crate::store::{Store, StoreError};
use std::ops::Range;

const MAGIC: &[u8; 8] = b"ESSKET1\n";
/// Parts that the space of hashes can be read in.
pub const PREFIXES: u32 = 1024;
const SHIFT: u32 = 64 - PREFIXES.ilog2();
const HEAD: usize = 24;
const ENTRY: usize = 12;
const INDEX: usize = (PREFIXES as usize + 1) * ENTRY;
const NEAR: usize = 10;
const EXACT: usize = 18;

/// What is read a range at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Keys,
    Lines,
}

/// A line of an index.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    at: u32,
    near: u32,
    check: u32,
}

/// What a range holds.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Band keys or lines, and their documents.
    pub(super) near: Vec<(u64, u16)>,
    /// Exact keys and their documents.
    pub(super) exact: Vec<(u128, u16)>,
}

/// Pairs of documents within a bundle: a forest, each tree's smallest with every other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    pub(super) near: Vec<(u16, u16)>,
    pub(super) exact: Vec<(u16, u16)>,
}

/// The range of prefixes that part `r` of `ranges` reads.
pub(super) fn prefixes(r: u32, ranges: u32) -> Range<usize> {
    let begin = |r: u32| (u64::from(r) * u64::from(PREFIXES) / u64::from(ranges.max(1))) as usize;
    begin(r)..begin(r + 1)
}

fn check(prefix: usize, bytes: &[u8]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(prefix as u64).to_le_bytes()).update(bytes);
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Sorts keys, leaves one entry for each, and gives the forest of documents that shared one.
fn distinct<K: Copy + Ord>(keys: &mut Vec<(K, u16)>, documents: usize) -> Vec<(u16, u16)> {
    keys.sort_unstable();
    let mut forest = Forest::<u32>::new(documents as u64);
    keys.dedup_by(|next, first| {
        let same = next.0 == first.0;
        if same {
            forest.union(u64::from(next.1), u64::from(first.1));
        }
        same
    });
    let roots = forest.roots().into_iter().enumerate().filter(|&(at, root)| root as usize != at);
    roots.map(|(at, root)| (root as u16, at as u16)).collect()
}

fn section(bytes: &mut Vec<u8>, index_at: usize, near: &[(u64, u16)], exact: &[(u128, u16)]) {
    let (mut near, mut exact) = (near, exact);
    for prefix in 0..=PREFIXES as usize {
        let begin = bytes.len();
        let nears = near.iter().take_while(|(key, _)| (key >> SHIFT) as usize == prefix).count();
        for (key, document) in &near[..nears] {
            bytes.extend(key.to_le_bytes());
            bytes.extend(document.to_le_bytes());
        }
        let exacts = exact.iter().take_while(|(key, _)| (key >> (64 + SHIFT)) as usize == prefix).count();
        for (key, document) in &exact[..exacts] {
            bytes.extend(key.to_le_bytes());
            bytes.extend(document.to_le_bytes());
        }
        (near, exact) = (&near[nears..], &exact[exacts..]);
        let entry = [begin as u32, nears as u32, check(prefix, &bytes[begin..])];
        let at = index_at + prefix * ENTRY;
        bytes[at..at + ENTRY].copy_from_slice(&entry.map(u32::to_le_bytes).concat());
    }
}

/// Writes the sketches of a bundle's documents, in the order of their keys.
///
/// # Errors
/// [`StoreError`], also for more documents or hashes than a bundle can have.
pub fn write_sketches(store: &Store, name: &str, sketches: &[Sketch]) -> Result<(), StoreError> {
    let lines: usize = sketches.iter().map(|sketch| sketch.lines.len()).sum();
    let bands: usize = sketches.iter().map(|sketch| sketch.bands.len()).sum();
    if sketches.len() > BUNDLE_DOCUMENTS_MAX || (lines + bands) * NEAR >= 1 << 31 {
        let found = format!("{} documents with {} hashes, too many for a bundle", sketches.len(), lines + bands);
        return Err(store.damaged(name, found));
    }
    let numbered = || sketches.iter().zip(0..=u16::MAX);
    let of_all = |hashes: fn(&Sketch) -> &[u64]| -> Vec<(u64, u16)> {
        numbered().flat_map(|(sketch, number)| hashes(sketch).iter().map(move |&hash| (hash, number))).collect()
    };
    let mut near = of_all(|sketch| &sketch.bands);
    let mut exact: Vec<_> = numbered().filter_map(|(sketch, number)| Some((sketch.exact?, number))).collect();
    let near_pairs = distinct(&mut near, sketches.len());
    let exact_pairs = distinct(&mut exact, sketches.len());
    let mut lines = of_all(|sketch| &sketch.lines);
    lines.sort_unstable();

    let pairs: Vec<u8> =
        near_pairs.iter().chain(&exact_pairs).flat_map(|&(a, b)| [a, b]).flat_map(u16::to_le_bytes).collect();
    let head = [sketches.len(), near_pairs.len(), exact_pairs.len()].map(|count| count as u32);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(head.iter().flat_map(|count| count.to_le_bytes()));
    let sum = check(0, &[&bytes[..], &pairs].concat());
    bytes.extend(sum.to_le_bytes());
    bytes.resize(HEAD + 2 * INDEX, 0);
    bytes.extend(&pairs);
    section(&mut bytes, HEAD, &near, &exact);
    section(&mut bytes, HEAD + INDEX, &lines, &[]);
    store.put(name, bytes)
}

/// The part of an index that says where a range lies: one entry more than it has prefixes.
pub(super) fn index(
    store: &Store,
    name: &str,
    section: Section,
    range: &Range<usize>,
) -> Result<Vec<Entry>, StoreError> {
    let base = if section == Section::Keys { HEAD } else { HEAD + INDEX };
    let at = |prefix: usize| (base + prefix * ENTRY) as u64;
    let bytes = store.get_range(name, at(range.start)..at(range.end + 1))?;
    let entry = |bytes: &[u8]| Entry { at: u32_at(bytes, 0), near: u32_at(bytes, 4), check: u32_at(bytes, 8) };
    let entries: Vec<Entry> = bytes.chunks_exact(ENTRY).map(entry).collect();
    let ordered = entries.windows(2).all(|pair| pair[0].at <= pair[1].at);
    match ordered && entries.first().is_some_and(|first| first.at as usize >= HEAD + 2 * INDEX) {
        true => Ok(entries),
        false => Err(store.damaged(name, "its index is not one")),
    }
}

/// How many 64-bit and 128-bit entries an index announces. They are not more than its bytes hold.
pub(super) fn announced(index: &[Entry]) -> (usize, usize) {
    let mut sum = (0, 0);
    for pair in index.windows(2) {
        let bytes = (pair[1].at - pair[0].at) as usize;
        let near = (pair[0].near as usize).min(bytes / NEAR);
        sum = (sum.0 + near, sum.1 + (bytes - near * NEAR) / EXACT);
    }
    sum
}

/// Reads a range: every entry checked to be whole, in order, in its range, and of one of `documents` documents.
pub(super) fn read(
    store: &Store,
    name: &str,
    index: &[Entry],
    range: &Range<usize>,
    documents: u32,
) -> Result<Slice, StoreError> {
    let damaged = |reason: &str| store.damaged(name, reason);
    let [first, .., last] = index else { return Ok(Slice::default()) };
    let bytes = store.get_range(name, u64::from(first.at)..u64::from(last.at))?;
    let (nears, exacts) = announced(index);
    let mut slice = Slice { near: Vec::with_capacity(nears), exact: Vec::with_capacity(exacts) };
    for (pair, prefix) in index.windows(2).zip(range.clone()) {
        let block = &bytes[(pair[0].at - first.at) as usize..(pair[1].at - first.at) as usize];
        let near_bytes = (pair[0].near as usize).saturating_mul(NEAR);
        if check(prefix, block) != pair[0].check
            || near_bytes > block.len()
            || !(block.len() - near_bytes).is_multiple_of(EXACT)
        {
            return Err(damaged("hashes are not what was written"));
        }
        let (near, exact) = block.split_at(near_bytes);
        slice.near.extend(near.chunks_exact(NEAR).map(|entry| (u64_at(entry, 0), u16_at(entry, 8))));
        let key = |entry: &[u8]| u128::from(u64_at(entry, 0)) | u128::from(u64_at(entry, 8)) << 64;
        slice.exact.extend(exact.chunks_exact(EXACT).map(|entry| (key(entry), u16_at(entry, 16))));
    }
    let known = |document: u16| u32::from(document) < documents;
    let whole = slice.near.is_sorted() && slice.exact.is_sorted();
    let whole = whole
        && slice.near.iter().all(|&(key, document)| known(document) && range.contains(&((key >> SHIFT) as usize)));
    match whole && slice.exact.iter().all(|&(_, document)| known(document)) {
        true => Ok(slice),
        false => Err(damaged("hashes out of order, or of documents that its bundle does not have")),
    }
}

/// Reads the pairs within a bundle of `documents` documents.
pub(super) fn pairs(store: &Store, name: &str, documents: u32) -> Result<Pairs, StoreError> {
    let head = store.get_range(name, 0..HEAD as u64)?;
    let [found, near, exact, sum] = [8, 12, 16, 20].map(|at| u32_at(&head, at));
    if &head[..8] != MAGIC {
        return Err(store.damaged(name, "not the sketches of a bundle"));
    }
    if found != documents || near > documents || exact > documents {
        return Err(store.damaged(name, format!("sketches of {found} documents, its bundle has {documents}")));
    }
    let begin = (HEAD + 2 * INDEX) as u64;
    let bytes = store.get_range(name, begin..begin + 4 * (u64::from(near) + u64::from(exact)))?;
    if check(0, &[&head[..20], &bytes].concat()) != sum {
        return Err(store.damaged(name, "pairs are not what was written"));
    }
    let pair = |bytes: &[u8]| (u16_at(bytes, 0), u16_at(bytes, 2));
    let (near, exact) = bytes.split_at(4 * near as usize);
    let pairs =
        Pairs { near: near.chunks_exact(4).map(pair).collect(), exact: exact.chunks_exact(4).map(pair).collect() };
    match pairs.near.iter().chain(&pairs.exact).all(|&(a, b)| a < b && u32::from(b) < documents) {
        true => Ok(pairs),
        false => Err(store.damaged(name, "pairs of documents that its bundle does not have")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::words::mix;

    fn sketches() -> Vec<Sketch> {
        let sketch = |i: u64| Sketch {
            exact: Some(u128::from(mix(i % 250)) << 64 | u128::from(i % 250)),
            bands: (0..14).map(|band| mix((i / 3) * 14 + band)).collect(),
            lines: vec![mix(i % 7 + 1_000_000)],
        };
        (0..300).map(sketch).collect()
    }

    fn read_all(store: &Store, section: Section, ranges: u32) -> Result<Slice, StoreError> {
        let mut all = Slice::default();
        for r in 0..ranges {
            let range = prefixes(r, ranges);
            let index = index(store, "x", section, &range)?;
            let slice = read(store, "x", &index, &range, 300)?;
            assert_eq!(announced(&index), (slice.near.len(), slice.exact.len()));
            all.near.extend(slice.near);
            all.exact.extend(slice.exact);
        }
        Ok(all)
    }

    #[test]
    fn sketches_read_back_whatever_the_ranges() {
        let store = Store::in_memory().unwrap();
        write_sketches(&store, "x", &sketches()).unwrap();
        let mut keys: Vec<(u64, u16)> = (0..1400).map(|key| (mix(key), (key / 14 * 3) as u16)).collect();
        keys.sort_unstable();
        for ranges in [1, 2, 7, 1000, 1024] {
            let all = read_all(&store, Section::Keys, ranges).unwrap();
            assert_eq!(all.near, keys);
            assert_eq!(all.exact.len(), 250);
            assert_eq!(read_all(&store, Section::Lines, ranges).unwrap().near.len(), 300);
        }
        let pairs = pairs(&store, "x", 300).unwrap();
        assert_eq!(pairs.near.len(), 200);
        assert_eq!(pairs.near[..3], [(0, 1), (0, 2), (3, 4)]);
        assert_eq!(pairs.exact, (0..50).map(|i| (i, i + 250)).collect::<Vec<_>>());
    }

    #[test]
    fn no_documents_are_no_entries() {
        let store = Store::in_memory().unwrap();
        write_sketches(&store, "x", &[]).unwrap();
        assert!(read_all(&store, Section::Keys, 3).unwrap().near.is_empty());
        assert_eq!(pairs(&store, "x", 0).unwrap(), Pairs::default());
        let refusal = pairs(&store, "x", 1).unwrap_err().to_string();
        assert!(refusal.contains("sketches of 0 documents, its bundle has 1"), "{refusal}");
    }

    #[test]
    fn damage_is_refused() {
        let store = Store::in_memory().unwrap();
        write_sketches(&store, "x", &sketches()).unwrap();
        let whole = store.get("x").unwrap().to_vec();
        let read = || {
            pairs(&store, "x", 300)?;
            read_all(&store, Section::Keys, 2)?;
            read_all(&store, Section::Lines, 2)
        };
        read().unwrap();
        // The last entry of an index has but its place.
        let unused = |at: usize| [INDEX, 2 * INDEX].iter().any(|end| (HEAD + end - 8..HEAD + end).contains(&at));
        for at in (0..whole.len()).step_by(53).chain(0..HEAD).chain(HEAD + INDEX - 12..HEAD + INDEX + 24) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            store.put("x", bytes).unwrap();
            assert!(unused(at) || read().is_err(), "{at}");
        }
        for len in [0, 5, HEAD, HEAD + INDEX, whole.len() / 2, whole.len() - 1] {
            store.put("x", whole[..len].to_vec()).unwrap();
            assert!(read().is_err(), "{len}");
        }
        assert!(write_sketches(&store, "x", &vec![Sketch::default(); 65_537]).is_err());
    }
}
