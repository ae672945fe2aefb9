//! Documents between two stages: bundles of bounded size, sorted by key.
//!
//! A bundle is some objects in a [`Store`], named after it: `STAGE/BUNDLE.docs` with the texts, and `STAGE/BUNDLE.keys` with all
//! that can be decided without them. A document's number in its bundle is its place in the order of keys, the same in both.
//!
//! ```text
//! .docs    blocks, each zstd of bincode of documents · index: bincode of Vec<Block> · length of the index, u64 LE · "ESDOCS1\n"
//! .keys    zstd of bincode of Rows
//! ```

use crate::document::Document;
use crate::license::LicenseFrom;
use crate::store::{Store, StoreError};
use crate::verdict::Rejection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Documents in a bundle at most.
pub const BUNDLE_DOCUMENTS_MAX: usize = 1 << 16;
/// Text after which a bundle ends at most, bytes. One document may be longer.
pub const BUNDLE_TEXT_MAX: u64 = 32 << 20;
/// The same at least, where little memory is allowed.
pub const BUNDLE_TEXT_MIN: u64 = 8 << 20;
/// Blocks of a bundle, about: a range of keys unpacks the blocks that it touches.
const BLOCKS: u64 = 128;
/// Text after which a block may end, bytes: shorter ones pack badly.
const BLOCK_TEXT_MIN: u64 = 64 << 10;
/// A block or list of rows at most, bytes when unpacked.
const UNPACKED_MAX: usize = 1 << 30;
const MAGIC: &[u8; 8] = b"ESDOCS1\n";
/// Level of zstd for what is read once or twice and then removed.
const LEVEL: i32 = 1;

/// What sorts and names a document: 16 bytes of BLAKE3 of its id, then 16 of BLAKE3 of its id, source, language and text.
/// Of duplicates the one with the smallest key stays; the smallest keys of a language are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of a document as it leaves the ingestion; later changes of its text leave the key.
    pub fn of(document: &Document) -> Key {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&document.id_hash()[..16]);
        key[16..].copy_from_slice(&document.key()[..16]);
        Key(key)
    }

    /// The first 64 bits, as a number that sorts like the key.
    pub fn head(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names a bundle: the unit (input file) that it comes from, and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BundleId {
    /// Which unit of the plan.
    pub unit: u32,
    /// Which part of it.
    pub part: u32,
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}-{:05}", self.unit, self.part)
    }
}

/// A bundle and how many documents it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BundleInfo {
    /// Which.
    pub id: BundleId,
    /// Its documents.
    pub documents: u32,
    /// Bytes of their texts.
    pub text_bytes: u64,
}

/// What is known of a document without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// Its language, an index into [`Rows::names`].
    pub language: u16,
    /// Its source, likewise.
    pub source: u16,
    /// Its licence, likewise.
    pub license: u16,
    /// Bytes of its text.
    pub text_bytes: u32,
}

/// The rows of a bundle, in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Languages, sources and licences.
    pub names: Vec<String>,
    /// One for each document.
    pub rows: Vec<Row>,
}

impl Rows {
    /// A row's language.
    pub fn language(&self, row: &Row) -> &str {
        &self.names[row.language as usize]
    }

    /// A row's source.
    pub fn source(&self, row: &Row) -> &str {
        &self.names[row.source as usize]
    }

    /// A row's licence.
    pub fn license(&self, row: &Row) -> &str {
        &self.names[row.license as usize]
    }
}

/// What stages found out about a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Where its licence was found.
    pub license_from: Option<LicenseFrom>,
    /// Personal data masked: e-mail addresses, phone numbers, IP addresses, IBANs.
    pub masked: [u32; 4],
    /// Documents like it, itself included, of which it alone was kept; 0 before deduplication.
    pub cluster: u64,
}

/// A document with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed {
    /// Its key.
    pub key: Key,
    /// The document.
    pub document: Document,
    /// What was found out about it.
    pub notes: Notes,
}

/// A document that was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fate {
    /// Its id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its language, as far as it was known.
    pub language: String,
    /// Its licence, as far as it was known.
    pub license: String,
    /// The rule that refused it.
    pub rule: String,
    /// The values that decided.
    pub detail: String,
    /// Bytes of its text.
    pub bytes: u64,
}

impl Fate {
    /// The fate of a refused document.
    pub fn new(document: &Document, rejection: Rejection) -> Fate {
        Fate {
            id: document.id.clone(),
            source: document.source.clone(),
            language: document.language.clone(),
            license: document.license.clone(),
            rule: rejection.rule.into_owned(),
            detail: rejection.detail,
            bytes: document.text.len() as u64,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Block {
    first: Key,
    last: Key,
    at: u64,
    len: u64,
}

/// Names of a bundle's objects.
pub fn docs_name(stage: &str, id: BundleId) -> String {
    format!("{stage}/{id}.docs")
}

/// Names of a bundle's objects.
pub fn keys_name(stage: &str, id: BundleId) -> String {
    format!("{stage}/{id}.keys")
}

/// Names of a bundle's objects: a list of [`Fate`].
pub fn fates_name(stage: &str, id: BundleId) -> String {
    format!("{stage}/{id}.fates")
}

/// Packs a value: zstd of bincode.
///
/// # Panics
/// When the value cannot be written as bincode, which no type here can.
pub fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    let bytes = match bincode::serde::encode_to_vec(value, bincode::config::standard()) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("a value that is no bincode: {error}"),
    };
    match zstd::bulk::compress(&bytes, LEVEL) {
        Ok(packed) => packed,
        Err(error) => unreachable!("zstd failed in memory: {error}"),
    }
}

/// Unpacks what [`pack`] packed.
///
/// # Errors
/// What is wrong with it, in words.
pub fn unpack<T: DeserializeOwned>(packed: &[u8]) -> Result<T, String> {
    let len = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten().unwrap_or(u64::MAX);
    if len > UNPACKED_MAX as u64 {
        return Err("not what was packed".into());
    }
    let bytes = zstd::bulk::decompress(packed, len as usize).map_err(|error| error.to_string())?;
    let config = bincode::config::standard().with_limit::<UNPACKED_MAX>();
    let (value, read) = bincode::serde::decode_from_slice(&bytes, config).map_err(|error| error.to_string())?;
    match read == bytes.len() {
        true => Ok(value),
        false => Err(format!("{} bytes too many", bytes.len() - read)),
    }
}

/// Puts a packed value into a store.
///
/// # Errors
/// [`StoreError`].
pub fn put<T: Serialize>(store: &Store, name: &str, value: &T) -> Result<(), StoreError> {
    store.put(name, pack(value))
}

/// Takes a packed value out of a store.
///
/// # Errors
/// [`StoreError`].
pub fn get<T: DeserializeOwned>(store: &Store, name: &str) -> Result<T, StoreError> {
    unpack(&store.get(name)?).map_err(|reason| store.damaged(name, reason))
}

/// The objects of a bundle, in memory.
#[derive(Debug)]
pub struct Built {
    /// The `.docs`.
    pub docs: Vec<u8>,
    /// The `.keys`.
    pub rows: Rows,
    /// Bytes of the texts.
    pub text_bytes: u64,
}

/// Sorts documents by key. Those with one key are copies of one document; the licence and what else is known orders them.
pub fn sort(documents: &mut [Keyed]) {
    let rest = |keyed: &Keyed| (keyed.document.license.clone(), pack(&keyed.document.meta));
    documents.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| rest(a).cmp(&rest(b))));
}

/// Builds the objects of a bundle from documents, which are sorted by key first.
pub fn build(mut documents: Vec<Keyed>) -> Built {
    sort(&mut documents);
    let (mut docs, mut blocks, mut rows) = (Vec::new(), Vec::new(), Rows::default());
    let text_bytes: u64 = documents.iter().map(|keyed| keyed.document.text.len() as u64).sum();
    let block_text = (text_bytes / BLOCKS).max(BLOCK_TEXT_MIN);
    let (mut begin, mut text) = (0, 0);
    let mut names = BTreeMap::<String, u16>::new();
    for (i, keyed) in documents.iter().enumerate() {
        text += keyed.document.text.len() as u64;
        if text >= block_text || i + 1 == documents.len() {
            let packed = pack(&documents[begin..=i].iter().collect::<Vec<_>>());
            let at = docs.len() as u64;
            blocks.push(Block { first: documents[begin].key, last: keyed.key, at, len: packed.len() as u64 });
            docs.extend(packed);
            (begin, text) = (i + 1, 0);
        }
        rows.rows.push(row(keyed, &mut names, &mut rows.names));
    }
    let index = pack(&blocks);
    docs.extend(&index);
    docs.extend((index.len() as u64).to_le_bytes());
    docs.extend(MAGIC);
    Built { docs, rows, text_bytes }
}

fn row(keyed: &Keyed, names: &mut BTreeMap<String, u16>, list: &mut Vec<String>) -> Row {
    let mut number = |name: &str| match names.get(name) {
        Some(&number) => number,
        None => {
            // A bundle has at most 2^16 documents; more names than a u16 counts share the last one's number, which no reader
            // of real corpora will see.
            let number = u16::try_from(list.len()).unwrap_or(u16::MAX);
            if list.len() <= usize::from(u16::MAX) {
                list.push(name.to_owned());
            }
            names.insert(name.to_owned(), number);
            number
        }
    };
    let document = &keyed.document;
    let (language, source, license) = (number(&document.language), number(&document.source), number(&document.license));
    let text_bytes = u32::try_from(document.text.len()).unwrap_or(u32::MAX);
    Row { key: keyed.key, language, source, license, text_bytes }
}

/// The documents of a bundle whose keys begin with a number in `heads`, in the order of keys.
///
/// # Errors
/// [`StoreError`], also where the object is damaged.
pub fn read(store: &Store, name: &str, heads: std::ops::RangeInclusive<u64>) -> Result<Vec<Keyed>, StoreError> {
    let damaged = |reason: String| store.damaged(name, reason);
    let len = store.len(name)?.ok_or_else(|| damaged("it is gone".into()))?;
    let tail_at = len.checked_sub(16).ok_or_else(|| damaged("too short".into()))?;
    let tail = store.get_range(name, tail_at..len)?;
    let (index_len, magic) = tail.split_at(8);
    let index_len = u64::from_le_bytes(index_len.try_into().map_err(|_| damaged("too short".into()))?);
    let index_at = tail_at.checked_sub(index_len).filter(|_| magic == MAGIC);
    let index_at = index_at.ok_or_else(|| damaged("not a list of documents".into()))?;
    let blocks: Vec<Block> = unpack(&store.get_range(name, index_at..tail_at)?).map_err(damaged)?;
    let mut documents = Vec::new();
    for block in blocks {
        if block.last.head() < *heads.start() || block.first.head() > *heads.end() {
            continue;
        }
        let end = block.at.checked_add(block.len).filter(|end| *end <= index_at);
        let end = end.ok_or_else(|| damaged("a block outside".into()))?;
        let block: Vec<Keyed> = unpack(&store.get_range(name, block.at..end)?).map_err(damaged)?;
        documents.extend(block.into_iter().filter(|keyed| heads.contains(&keyed.key.head())));
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(count: usize) -> Vec<Keyed> {
        let document = |i: usize| Document {
            id: format!("d{i}"),
            source: format!("s{}", i % 3),
            language: ["fr", "de"][i % 2].into(),
            license: "MIT".into(),
            text: format!("text {i} ").repeat(1 + i % 700),
            meta: Default::default(),
        };
        (0..count)
            .map(document)
            .map(|document| Keyed { key: Key::of(&document), document, notes: Notes::default() })
            .collect()
    }

    #[test]
    fn a_bundle_reads_back_by_ranges_of_keys_whatever_the_order() {
        let store = Store::in_memory().unwrap();
        let built = build(documents(2000));
        let mut reversed = documents(2000);
        reversed.reverse();
        assert_eq!(build(reversed).docs, built.docs);
        store.put("x.docs", built.docs).unwrap();
        put(&store, "x.keys", &built.rows).unwrap();
        let mut sorted = documents(2000);
        sorted.sort_by_key(|keyed| keyed.key);
        assert_eq!(read(&store, "x.docs", 0..=u64::MAX).unwrap(), sorted);
        let third = u64::MAX / 3;
        let parts = [0..=third, third + 1..=2 * third, 2 * third + 1..=u64::MAX];
        let parts: Vec<Vec<Keyed>> = parts.into_iter().map(|heads| read(&store, "x.docs", heads).unwrap()).collect();
        assert!(parts.iter().all(|part| part.len() > 500));
        assert_eq!(parts.concat(), sorted);
        let rows: Rows = get(&store, "x.keys").unwrap();
        assert_eq!(rows.rows.len(), 2000);
        for (row, keyed) in rows.rows.iter().zip(&sorted) {
            assert_eq!((row.key, rows.language(row)), (keyed.key, keyed.document.language.as_str()));
            assert_eq!((rows.source(row), rows.license(row)), (keyed.document.source.as_str(), "MIT"));
            assert_eq!(row.text_bytes as usize, keyed.document.text.len());
        }
    }

    #[test]
    fn damage_is_refused() {
        let store = Store::in_memory().unwrap();
        let whole = build(documents(50)).docs;
        for len in 0..whole.len() {
            store.put("x", whole[..len].to_vec()).unwrap();
            assert!(read(&store, "x", 0..=u64::MAX).is_err(), "{len}");
        }
        store.put("x", whole.clone()).unwrap();
        assert_eq!(read(&store, "x", 0..=u64::MAX).unwrap().len(), 50);
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            store.put("x", bytes).unwrap();
            // Whatever comes, no panic.
            let _ = read(&store, "x", 0..=u64::MAX);
        }
        assert_eq!(
            read(&store, "none", 0..=1).unwrap_err().to_string(),
            "memory: none is damaged (it is gone); remove it and build again"
        );
    }
}
