//! Lists of numbers as objects, and sorted hashes that are looked up.

use crate::store::{Store, StoreError};
use std::io::{BufReader, Read, Write};

const MAGIC: &[u8; 8] = b"ESLIST1\n";
/// Numbers that are taken together through the compressor.
const BATCH: usize = 4096;

/// Writes a list: `ESLIST1\n` · count, u64 LE · zstd, with its checksum, of u64 LE.
pub(crate) fn put_list(store: &Store, name: &str, list: impl ExactSizeIterator<Item = u64>) -> Result<(), StoreError> {
    let mut head = MAGIC.to_vec();
    head.extend((list.len() as u64).to_le_bytes());
    let write = |head: Vec<u8>| -> std::io::Result<Vec<u8>> {
        let mut encoder = zstd::stream::write::Encoder::new(head, 1)?;
        encoder.include_checksum(true)?;
        let mut batch = Vec::with_capacity(BATCH * 8);
        for number in list {
            batch.extend(number.to_le_bytes());
            if batch.len() >= BATCH * 8 {
                encoder.write_all(&batch)?;
                batch.clear();
            }
        }
        encoder.write_all(&batch)?;
        encoder.finish()
    };
    match write(head) {
        Ok(bytes) => store.put(name, bytes),
        Err(error) => unreachable!("zstd failed in memory: {error}"),
    }
}

/// Reads a list, number by number; what `each` says is wrong with one is an error. Only the packed list is held.
pub(crate) fn read_list(
    store: &Store,
    name: &str,
    mut each: impl FnMut(u64) -> Result<(), String>,
) -> Result<(), StoreError> {
    let bytes = store.get(name)?;
    let damaged = |reason: String| store.damaged(name, reason);
    let short = || damaged("too short".into());
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let (count, packed) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    if magic != MAGIC {
        return Err(damaged("not a list".into()));
    }
    let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|error| damaged(error.to_string()))?;
    let mut reader = BufReader::with_capacity(BATCH * 8, decoder);
    let mut number = [0; 8];
    for _ in 0..u64::from_le_bytes(*count) {
        reader.read_exact(&mut number).map_err(|error| damaged(error.to_string()))?;
        each(u64::from_le_bytes(number)).map_err(damaged)?;
    }
    match reader.read(&mut number) {
        Ok(0) => Ok(()),
        Ok(_) => Err(damaged("longer than it says".into())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// Hashes in ascending order without repetition, found through a table of their first bits: 8 bytes each and about 2 for the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hashes {
    sorted: Vec<u64>,
    /// Where the hashes with the same first bits begin; empty for no hashes.
    begins: Vec<u32>,
    shift: u32,
}

impl Hashes {
    /// Hashes that may be looked up at most.
    pub(crate) const MAX: usize = 1 << 28;

    /// From hashes in any order. Those beyond [`Hashes::MAX`] are the caller's to refuse.
    pub(crate) fn new(mut hashes: Vec<u64>) -> Hashes {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.shrink_to_fit();
        if hashes.is_empty() {
            return Hashes::default();
        }
        let bits = (hashes.len() / 2).max(2).ilog2().clamp(1, 28);
        let shift = 64 - bits;
        let mut begins = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for bucket in 0..1u64 << bits {
            begins.push(at as u32);
            at += hashes[at..].iter().take_while(|&&hash| hash >> shift == bucket).count();
        }
        begins.push(at as u32);
        Hashes { sorted: hashes, begins, shift }
    }

    /// Whether it is among them.
    #[inline]
    pub(crate) fn contains(&self, hash: u64) -> bool {
        if self.begins.is_empty() {
            return false;
        }
        let bucket = (hash >> self.shift) as usize;
        self.sorted[self.begins[bucket] as usize..self.begins[bucket + 1] as usize].contains(&hash)
    }

    /// All, ascending.
    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.sorted
    }

    /// Bytes that they take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.sorted.len() as u64 * 8 + self.begins.len() as u64 * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::words::mix;

    #[test]
    fn lists_read_back_and_damage_is_refused() {
        let store = Store::in_memory().unwrap();
        let list: Vec<u64> = (0..10_000).map(mix).collect();
        put_list(&store, "x", list.iter().copied()).unwrap();
        let read = |name: &str| {
            let mut read = Vec::new();
            read_list(&store, name, |number| {
                read.push(number);
                Ok(())
            })
            .map(|()| read)
        };
        assert_eq!(read("x").unwrap(), list);
        put_list(&store, "empty", std::iter::empty()).unwrap();
        assert!(read("empty").unwrap().is_empty());
        let whole = store.get("x").unwrap().to_vec();
        for at in (0..whole.len()).step_by(97).chain(0..20) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            store.put("bad", bytes).unwrap();
            assert!(read("bad").is_err(), "{at}");
        }
        for len in [0, 7, 8, 15, 16, 40, whole.len() - 1] {
            store.put("bad", whole[..len].to_vec()).unwrap();
            let refusal = read("bad").unwrap_err().to_string();
            assert!(refusal.starts_with("memory: bad is damaged ("), "{refusal}");
        }
    }

    #[test]
    fn hashes_are_found_and_no_others() {
        for count in [0u64, 1, 2, 3, 100, 5000] {
            let hashes = Hashes::new((0..count).chain(0..count).map(mix).collect());
            assert_eq!(hashes.as_slice().len() as u64, count);
            assert!((0..count).all(|i| hashes.contains(mix(i))));
            assert!((count..count + 5000).all(|i| !hashes.contains(mix(i))));
        }
        let edges = Hashes::new(vec![u64::MAX, 0]);
        assert!(edges.contains(0) && edges.contains(u64::MAX) && !edges.contains(1));
    }
}
