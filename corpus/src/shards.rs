//! Laying encoded documents into shards.

use essaim_protocol::dataset::ShardInfo;
use essaim_protocol::ids::Hash;
use essaim_train::shard::{ShardError, ShardWriter};
use std::borrow::Cow;

/// A finished shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// What a manifest says of it.
    pub info: ShardInfo,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Ends a shard.
pub fn finish(writer: ShardWriter) -> Shard {
    let (tokens, documents) = (writer.tokens(), writer.documents());
    let bytes = writer.finish();
    let info = ShardInfo { hash: Hash::of(&bytes), len_bytes: bytes.len() as u64, tokens, documents };
    Shard { info, bytes }
}

/// Cuts a document, `<s>` and `</s>` included, that is longer than a shard into pieces with both of their own. Pieces of different
/// copies have different lengths: full shards of one piece would otherwise be the same shard.
pub fn cut(tokens: &[u32], tokens_max: u32, copy: u32) -> Vec<Cow<'_, [u32]>> {
    let tokens_max = tokens_max.max(3) as usize;
    match tokens {
        [begin, inner @ .., end] if tokens.len() > tokens_max => {
            let len = tokens_max - 2 - copy as usize % (tokens_max - 2).div_ceil(2);
            inner.chunks(len).map(|piece| Cow::Owned([&[*begin], piece, &[*end]].concat())).collect()
        }
        _ => vec![Cow::Borrowed(tokens)],
    }
}

/// Lays documents end to end into shards of at most `tokens_max` tokens, each document whole in one shard; `take` gets each
/// shard when it is full. A document longer than a shard must have been [`cut`].
///
/// # Errors
/// [`ShardError`], or what `take` says.
pub fn pack<'a, E: From<ShardError>>(
    documents: impl Iterator<Item = &'a [u32]>,
    vocab_size: u32,
    tokens_max: u32,
    mut take: impl FnMut(Shard) -> Result<(), E>,
) -> Result<(), E> {
    let mut writer = ShardWriter::new(vocab_size);
    for document in documents {
        if writer.tokens() + document.len() as u64 > u64::from(tokens_max) {
            let full = std::mem::replace(&mut writer, ShardWriter::new(vocab_size));
            if full.documents() > 0 {
                take(finish(full))?;
            }
        }
        writer.push(document)?;
    }
    match writer.documents() {
        0 => Ok(()),
        _ => take(finish(writer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_train::shard::ShardReader;

    fn packed(documents: &[Vec<u32>], tokens_max: u32) -> Vec<Vec<Vec<u32>>> {
        let mut shards = Vec::new();
        let take = |shard: Shard| -> Result<(), ShardError> {
            let mut reader = ShardReader::from_bytes(shard.bytes.clone())?;
            assert_eq!((shard.info.tokens, shard.info.documents), (reader.tokens(), reader.documents()));
            assert_eq!((shard.info.hash, shard.info.len_bytes), (Hash::of(&shard.bytes), shard.bytes.len() as u64));
            shards.push((0..reader.documents()).map(|i| reader.document(i)).collect::<Result<Vec<_>, _>>()?);
            Ok(())
        };
        pack(documents.iter().map(Vec::as_slice), 100, tokens_max, take).unwrap();
        shards
    }

    #[test]
    fn documents_stay_whole_and_shards_bounded() {
        let documents: Vec<Vec<u32>> = [4, 5, 3, 9, 1, 10].map(|n| vec![n; n as usize]).to_vec();
        let shards = packed(&documents, 10);
        let sizes: Vec<Vec<usize>> = shards.iter().map(|shard| shard.iter().map(Vec::len).collect()).collect();
        assert_eq!(sizes, [vec![4, 5], vec![3], vec![9, 1], vec![10]]);
        assert_eq!(shards.concat(), documents);
        assert_eq!(packed(&[], 10), Vec::<Vec<Vec<u32>>>::new());
    }

    #[test]
    fn a_document_longer_than_a_shard_is_cut() {
        let long: Vec<u32> = [0].into_iter().chain(10..24).chain([1]).collect();
        let pieces = |copy| cut(&long, 8, copy).into_iter().map(Cow::into_owned).collect::<Vec<_>>();
        let expected = [vec![0, 10, 11, 12, 13, 14, 15, 1], vec![0, 16, 17, 18, 19, 20, 21, 1], vec![0, 22, 23, 1]];
        assert_eq!(pieces(0), expected);
        assert_eq!(pieces(1).iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 6]);
        for copy in 0..9 {
            assert!(pieces(copy).iter().all(|piece| piece.len() <= 8 && piece[0] == 0 && piece[piece.len() - 1] == 1));
            let inner: Vec<u32> = pieces(copy).iter().flat_map(|piece| piece[1..piece.len() - 1].to_vec()).collect();
            assert_eq!(inner, long[1..15]);
        }
        assert_eq!(cut(&[0, 5, 1], 8, 3), [Cow::Borrowed(&[0, 5, 1][..])]);
    }
}
