//! `documents.index`: where each document lies in the shards, found by its id.
//!
//! ```text
//! offset  bytes        what, integers little-endian
//! 0       8            "ESINDEX1"
//! 8       8            entries
//! 16      48·entries   sorted by key, shard, document:
//!                        32  key: 16 bytes of BLAKE3 of the id, 16 of BLAKE3 of id, source, language and text
//!                         4  shard: its number among the manifest's shards, mix after mix, then held-out ones
//!                         4  document: its number in the shard
//!                         2  source: its number among the manifest's sources; 0 for a held-out document
//!                         2  piece: 0, or which piece of a document that is longer than a shard
//!                         4  bytes of the whole document's text
//! ```
//!
//! A document has an entry for each of its copies in each mix, and for each piece. Readers search the file and hold none of it.

use crate::bundle::Key;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// File name in a data set's folder.
pub const INDEX: &str = "documents.index";
const MAGIC: &[u8; 8] = b"ESINDEX1";
const HEADER_LEN: u64 = 16;
const ENTRY_LEN: usize = 48;

/// Where a copy of a document, or a piece of one, lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// The document's key.
    pub key: Key,
    /// Number of its shard in [`essaim_protocol::dataset::DatasetManifest::all_shards`].
    pub shard: u32,
    /// Its number in the shard.
    pub document: u32,
    /// Number of its source in the manifest; 0 for a held-out document, whose shard tells.
    pub source: u16,
    /// 0, or which piece of a document that is longer than a shard.
    pub piece: u16,
    /// Bytes of the whole document's text.
    pub text_bytes: u32,
}

/// Why an index was not written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A file operation failed.
    #[error("{path}: {error}{}", crate::output::mend(.error), path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not an index, or one that was cut off.
    #[error("{path}: not an index of documents ({reason}); build the data set again", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Entries that were given out of order.
    #[error("entry {at} of an index is not greater than the one before it")]
    Order {
        /// Which.
        at: u64,
    },
}

impl Entry {
    /// The bytes of an entry.
    pub fn to_bytes(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..32].copy_from_slice(&self.key.0);
        bytes[32..36].copy_from_slice(&self.shard.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.document.to_le_bytes());
        bytes[40..42].copy_from_slice(&self.source.to_le_bytes());
        bytes[42..44].copy_from_slice(&self.piece.to_le_bytes());
        bytes[44..].copy_from_slice(&self.text_bytes.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_LEN]) -> Entry {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[..32]);
        Entry {
            key: Key(key),
            shard: word(32),
            document: word(36),
            source: half(40),
            piece: half(42),
            text_bytes: word(44),
        }
    }
}

/// The first half of the keys of documents with this id.
pub fn id_prefix(id: &str) -> [u8; 16] {
    let mut prefix = [0; 16];
    prefix.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
    prefix
}

/// Writes an index from its entries in order; `count` of them will come.
///
/// # Errors
/// [`IndexError::Order`] for entries out of order or another number of them; [`IndexError::Io`] with the path `shown`.
pub fn write(
    out: &mut impl Write,
    shown: &Path,
    count: u64,
    entries: impl Iterator<Item = Entry>,
) -> Result<(), IndexError> {
    let failed = |error| IndexError::Io { path: shown.to_owned(), error };
    out.write_all(MAGIC).and_then(|()| out.write_all(&count.to_le_bytes())).map_err(failed)?;
    let (mut last, mut at) = (None, 0);
    for entry in entries {
        if at == count || last.is_some_and(|last| last >= entry) {
            return Err(IndexError::Order { at });
        }
        out.write_all(&entry.to_bytes()).map_err(failed)?;
        (last, at) = (Some(entry), at + 1);
    }
    match at == count {
        true => Ok(()),
        false => Err(IndexError::Order { at }),
    }
}

/// The bytes of an index; entries are sorted first.
pub fn to_bytes(mut entries: Vec<Entry>) -> Vec<u8> {
    entries.sort_unstable();
    entries.dedup();
    let mut bytes = Vec::with_capacity(HEADER_LEN as usize + ENTRY_LEN * entries.len());
    bytes.extend(MAGIC);
    bytes.extend((entries.len() as u64).to_le_bytes());
    entries.iter().for_each(|entry| bytes.extend(entry.to_bytes()));
    bytes
}

/// An index on disk.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    file: File,
    entries: u64,
}

impl Index {
    /// Opens an index and checks its length.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(path: &Path) -> Result<Index, IndexError> {
        let failed = |error| IndexError::Io { path: path.to_owned(), error };
        let malformed = |reason: String| IndexError::Malformed { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut header = [0; HEADER_LEN as usize];
        file.read_exact(&mut header).map_err(|_| malformed(format!("{len} bytes")))?;
        let (magic, count) = header.split_at(8);
        let entries = u64::from_le_bytes(count.try_into().map_err(|_| malformed("no count".into()))?);
        if magic != MAGIC {
            return Err(malformed("another first line".into()));
        }
        let expected = u128::from(entries) * ENTRY_LEN as u128 + u128::from(HEADER_LEN);
        match expected == u128::from(len) {
            true => Ok(Index { path: path.to_owned(), file, entries }),
            false => Err(malformed(format!("{len} bytes, {entries} entries take {expected}"))),
        }
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn entry(&mut self, number: u64) -> Result<Entry, IndexError> {
        let mut bytes = [0; ENTRY_LEN];
        let read = self
            .file
            .seek(SeekFrom::Start(HEADER_LEN + number * ENTRY_LEN as u64))
            .and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|error| IndexError::Io { path: self.path.clone(), error })?;
        Ok(Entry::from_bytes(&bytes))
    }

    /// All entries of documents with an id.
    ///
    /// # Errors
    /// [`IndexError::Io`].
    pub fn find(&mut self, id: &str) -> Result<Vec<Entry>, IndexError> {
        let prefix = id_prefix(id);
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)?.key.0[..16] < prefix[..] {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let mut found = Vec::new();
        while low < self.entries {
            let entry = self.entry(low)?;
            if entry.key.0[..16] != prefix {
                break;
            }
            found.push(entry);
            low += 1;
        }
        Ok(found)
    }

    /// All entries, in order, each checked to be greater than the one before.
    ///
    /// # Errors
    /// [`IndexError::Io`]; the items tell of disorder.
    pub fn entries(&self) -> Result<impl Iterator<Item = Result<Entry, IndexError>> + use<>, IndexError> {
        let path = self.path.clone();
        let mut file = File::open(&path).map_err(|error| IndexError::Io { path: path.clone(), error })?;
        let sought = file.seek(SeekFrom::Start(HEADER_LEN));
        sought.map_err(|error| IndexError::Io { path: path.clone(), error })?;
        let mut reader = BufReader::with_capacity(ENTRY_LEN << 10, file);
        let mut last = None;
        Ok((0..self.entries).map(move |at| {
            let mut bytes = [0; ENTRY_LEN];
            reader.read_exact(&mut bytes).map_err(|error| IndexError::Io { path: path.clone(), error })?;
            let entry = Entry::from_bytes(&bytes);
            if last.is_some_and(|last| last >= entry) {
                return Err(IndexError::Malformed {
                    path: path.clone(),
                    reason: format!("entry {at} is out of order"),
                });
            }
            last = Some(entry);
            Ok(entry)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u32) -> Vec<Entry> {
        let entry = |i: u32| {
            let mut key = [0; 32];
            key[..16].copy_from_slice(&id_prefix(&format!("d{}", i / 2)));
            key[31] = (i % 2) as u8;
            Entry { key: Key(key), shard: i % 7, document: i, source: (i % 3) as u16, piece: 0, text_bytes: i * 5 }
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn every_document_is_found_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        for count in [0, 1, 2, 301] {
            let all = entries(count);
            std::fs::write(&path, to_bytes(all.clone())).unwrap();
            let mut index = Index::open(&path).unwrap();
            assert_eq!((index.len(), index.is_empty()), (count.into(), count == 0));
            let mut sorted = all.clone();
            sorted.sort_unstable();
            assert_eq!(index.entries().unwrap().collect::<Result<Vec<_>, _>>().unwrap(), sorted);
            for i in 0..count.div_ceil(2) {
                let found = index.find(&format!("d{i}")).unwrap();
                assert_eq!(found, all.iter().filter(|e| e.document / 2 == i).copied().collect::<Vec<_>>());
            }
            assert_eq!(index.find("d9999").unwrap(), []);
            let mut streamed = Vec::new();
            write(&mut streamed, &path, count.into(), sorted.into_iter()).unwrap();
            assert_eq!(streamed, std::fs::read(&path).unwrap());
        }
        let wrong = write(&mut Vec::new(), &path, 2, entries(1).into_iter().chain(entries(1)));
        assert!(matches!(wrong, Err(IndexError::Order { at: 1 })));
        assert!(matches!(write(&mut Vec::new(), &path, 2, entries(1).into_iter()), Err(IndexError::Order { at: 1 })));
    }

    #[test]
    fn damage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        let whole = to_bytes(entries(4));
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(matches!(Index::open(&path), Err(IndexError::Malformed { .. })), "{len}");
        }
        let mut swapped = whole.clone();
        swapped[16..].rotate_left(ENTRY_LEN);
        std::fs::write(&path, swapped).unwrap();
        let read: Result<Vec<_>, _> = Index::open(&path).unwrap().entries().unwrap().collect();
        assert!(read.unwrap_err().to_string().contains("out of order"));
    }
}
