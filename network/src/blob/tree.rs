//! The BLAKE3 tree of a blob, cut at 256 KiB.
//!
//! Invariants: an [`Outboard`] value always merges to its hash; a blob of at most one piece has no list at all, since its
//! hash is checked directly. What a list does *not* prove by itself is the blob's length: a liar can give a shorter
//! list whose last values are really inner nodes of a longer blob's tree. A piece that matches the **last** value does
//! prove it, because a chaining value covers the positions of its bytes. [`super::Download`] rests on this.

use blake3::Hasher;
use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};
use essaim_protocol::ids::Hash;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

/// Length of a piece in bytes: 256 KiB, 256 of BLAKE3's chunks.
pub const PIECE_LEN: usize = 256 * 1024;

/// The most pieces that a blob may have: their list fits in one 4 MiB frame.
pub const MAX_PIECES: u32 = 131_072;

/// The longest blob, in bytes: 32 GiB.
pub const MAX_BLOB_LEN: u64 = MAX_PIECES as u64 * PIECE_LEN as u64;

/// Length of a chaining value in bytes.
pub(crate) const VALUE_LEN: usize = 32;

/// How many pieces a blob of `len_bytes` has: at least one, since the empty blob has an empty piece. Lengths beyond
/// [`MAX_BLOB_LEN`] give [`MAX_PIECES`] + 1.
pub fn piece_count(len_bytes: u64) -> u32 {
    let count = len_bytes.div_ceil(PIECE_LEN as u64).clamp(1, u64::from(MAX_PIECES) + 1);
    count as u32
}

/// Which bytes of a blob of `len_bytes` piece `index` holds; empty beyond the end.
pub fn piece_range(len_bytes: u64, index: u32) -> Range<u64> {
    let start = (u64::from(index) * PIECE_LEN as u64).min(len_bytes);
    start..(start + PIECE_LEN as u64).min(len_bytes)
}

/// The chaining value of piece `index` of a blob of several pieces.
///
/// # Panics
/// If `piece` is empty: a blob of several pieces has no empty one.
pub(crate) fn chaining_value(index: u32, piece: &[u8]) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(u64::from(index) * PIECE_LEN as u64);
    hasher.update(piece);
    hasher.finalize_non_root()
}

/// Merges the values of a subtree that covers `len_bytes`; the caller has checked that there are as many as it has pieces.
fn merge(values: &[ChainingValue], len_bytes: u64) -> ChainingValue {
    match values {
        [value] => *value,
        _ => {
            let left_len = hazmat::left_subtree_len(len_bytes);
            let (left, right) = values.split_at((left_len / PIECE_LEN as u64) as usize);
            hazmat::merge_subtrees_non_root(&merge(left, left_len), &merge(right, len_bytes - left_len), Mode::Hash)
        }
    }
}

/// The hash of a blob of `len_bytes` whose pieces have these values; at least two, and as many as it has pieces.
fn root(values: &[ChainingValue], len_bytes: u64) -> Hash {
    let left_len = hazmat::left_subtree_len(len_bytes);
    let (left, right) = values.split_at((left_len / PIECE_LEN as u64) as usize);
    hazmat::merge_subtrees_root(&merge(left, left_len), &merge(right, len_bytes - left_len), Mode::Hash).into()
}

/// The list of a blob's piece values, proven to merge to its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outboard {
    hash: Hash,
    len_bytes: u64,
    /// Empty for a blob of one piece.
    values: Vec<ChainingValue>,
}

impl Outboard {
    /// Reads a list that a peer or a file gave for the blob `hash` of `len_bytes`. `None` unless it has exactly the values
    /// that this length asks for and they merge to the hash.
    pub fn from_bytes(hash: Hash, len_bytes: u64, bytes: &[u8]) -> Option<Outboard> {
        if len_bytes > MAX_BLOB_LEN || bytes.len() != outboard_len(len_bytes) {
            return None;
        }
        let (values, _) = bytes.as_chunks::<VALUE_LEN>();
        let values = values.to_vec();
        let proven = values.is_empty() || root(&values, len_bytes) == hash;
        proven.then_some(Outboard { hash, len_bytes, values })
    }

    /// The list as it travels and is kept: the values one after another, 32 bytes each, nothing for a blob of one piece.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.concat()
    }

    /// The blob's hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The blob's length in bytes, as claimed until the last piece has been seen.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// How many pieces the blob has.
    pub fn pieces(&self) -> u32 {
        piece_count(self.len_bytes)
    }

    /// Whether `bytes` are piece `index`. The length is not compared beforehand: the value covers it.
    pub fn verifies(&self, index: u32, bytes: &[u8]) -> bool {
        if bytes.len() > PIECE_LEN {
            return false;
        }
        if self.values.is_empty() {
            return index == 0 && Hash::of(bytes) == self.hash;
        }
        match self.values.get(index as usize) {
            Some(value) => !bytes.is_empty() && chaining_value(index, bytes) == *value,
            None => false,
        }
    }

    /// The same list with the length that a verified last piece has shown.
    pub(crate) fn with_len(self, len_bytes: u64) -> Outboard {
        Outboard { len_bytes, ..self }
    }
}

/// How long the list of a blob of `len_bytes` is, in bytes.
pub(crate) fn outboard_len(len_bytes: u64) -> usize {
    match piece_count(len_bytes) {
        1 => 0,
        pieces => pieces as usize * VALUE_LEN,
    }
}

/// Builds the outboard of bytes that arrive in any cuts.
pub(crate) struct OutboardBuilder {
    piece: Vec<u8>,
    values: Vec<ChainingValue>,
    whole: Hasher,
    len_bytes: u64,
}

impl OutboardBuilder {
    pub(crate) fn new() -> OutboardBuilder {
        OutboardBuilder { piece: Vec::with_capacity(PIECE_LEN), values: Vec::new(), whole: Hasher::new(), len_bytes: 0 }
    }

    fn flush(&mut self) {
        self.values.push(chaining_value(self.values.len() as u32, &self.piece));
        self.piece.clear();
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        // The first piece is also hashed as a whole blob, in case that it is one.
        if self.values.is_empty() {
            let room = PIECE_LEN - self.piece.len();
            self.whole.update(&bytes[..bytes.len().min(room)]);
        }
        self.len_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.piece.len() == PIECE_LEN {
                self.flush();
            }
            let (head, tail) = bytes.split_at(bytes.len().min(PIECE_LEN - self.piece.len()));
            self.piece.extend_from_slice(head);
            bytes = tail;
        }
    }

    pub(crate) fn finish(mut self) -> Outboard {
        if self.values.is_empty() {
            return Outboard { hash: self.whole.finalize().into(), len_bytes: self.len_bytes, values: Vec::new() };
        }
        self.flush();
        let hash = root(&self.values, self.len_bytes);
        Outboard { hash, len_bytes: self.len_bytes, values: self.values }
    }
}

/// Reads `source` to its end and returns its outboard; `each` sees every buffer that was read, in order.
pub(crate) fn outboard_of(
    mut source: impl Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Outboard> {
    let mut builder = OutboardBuilder::new();
    let mut buffer = vec![0u8; PIECE_LEN];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(builder.finish()),
            Ok(read) => {
                builder.update(&buffer[..read]);
                each(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The outboard, and with it the hash, of the file at `path`.
///
/// # Errors
/// Whatever reading the file gave.
pub fn hash_file(path: &Path) -> io::Result<Outboard> {
    outboard_of(File::open(path)?, |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(len: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0u8; len];
        Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    fn check(bytes: &[u8], cut: usize) {
        let mut builder = OutboardBuilder::new();
        bytes.chunks(cut.max(1)).for_each(|part| builder.update(part));
        let outboard = builder.finish();
        assert_eq!(outboard.hash(), Hash::of(bytes), "{} bytes in cuts of {cut}", bytes.len());
        assert_eq!(outboard.len_bytes(), bytes.len() as u64);
        let list = outboard.to_bytes();
        assert_eq!(Outboard::from_bytes(outboard.hash(), outboard.len_bytes(), &list), Some(outboard.clone()));
        for index in 0..outboard.pieces() {
            let range = piece_range(outboard.len_bytes(), index);
            let piece = &bytes[range.start as usize..range.end as usize];
            assert!(outboard.verifies(index, piece), "piece {index} of {} bytes", bytes.len());
            if let Some(flipped) = piece.first().map(|first| [&[first ^ 1], &piece[1..]].concat()) {
                assert!(!outboard.verifies(index, &flipped));
                assert!(!outboard.verifies(index, &piece[..piece.len() - 1]));
                assert!(!outboard.verifies(index + 1, piece));
            }
        }
    }

    #[test]
    fn lengths_around_every_boundary_agree_with_blake3() {
        for pieces in [0usize, 1, 2, 3, 4, 5, 7, 8, 9] {
            for offset in [-1025i64, -1024, -1, 0, 1, 1023, 1024, 1025] {
                if let Ok(len) = usize::try_from((pieces * PIECE_LEN) as i64 + offset) {
                    check(&bytes_of(len, 1), 100_000);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_length_in_any_cuts_agrees_with_blake3(len in 0usize..1_500_000, cut in 1usize..600_000, seed: u64) {
            check(&bytes_of(len, seed), cut.max(64));
        }

        #[test]
        fn a_flipped_bit_of_the_list_is_refused(len in (PIECE_LEN + 1)..1_500_000, at: usize, bit in 0u8..8) {
            let mut builder = OutboardBuilder::new();
            builder.update(&bytes_of(len, 2));
            let outboard = builder.finish();
            let mut list = outboard.to_bytes();
            let at = at % list.len();
            list[at] ^= 1 << bit;
            prop_assert_eq!(Outboard::from_bytes(outboard.hash(), outboard.len_bytes(), &list), None);
        }
    }

    #[test]
    fn a_list_of_another_length_is_refused() {
        let mut builder = OutboardBuilder::new();
        builder.update(&bytes_of(3 * PIECE_LEN, 3));
        let outboard = builder.finish();
        let list = outboard.to_bytes();
        assert_eq!(Outboard::from_bytes(outboard.hash(), outboard.len_bytes(), &list[..64]), None);
        assert_eq!(Outboard::from_bytes(outboard.hash(), 4 * PIECE_LEN as u64, &list), None);
        assert_eq!(Outboard::from_bytes(outboard.hash(), u64::MAX, &list), None);
    }

    #[test]
    fn a_list_of_inner_nodes_merges_but_its_last_piece_never_verifies() {
        // Why a length is believed only after the last piece: this list passes the merge, and claims half the length.
        let bytes = bytes_of(4 * PIECE_LEN, 4);
        let mut builder = OutboardBuilder::new();
        builder.update(&bytes);
        let outboard = builder.finish();
        let inner = |half: usize| {
            let pair = &outboard.values[half * 2..half * 2 + 2];
            hazmat::merge_subtrees_non_root(&pair[0], &pair[1], Mode::Hash)
        };
        let lie = [inner(0), inner(1)].concat();
        let liar = Outboard::from_bytes(outboard.hash(), 2 * PIECE_LEN as u64, &lie).unwrap();
        assert!((0..4).all(|index| !liar.verifies(1, &bytes[index * PIECE_LEN..(index + 1) * PIECE_LEN])));
    }
}
