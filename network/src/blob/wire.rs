//! The bytes of the blob protocol: one request, one response, one stream.
//!
//! ```text
//! request   tag u8   hash [32]   [index u32 LE]      0 stat   1 outboard   2 piece (with index)
//! response  tag u8   body                             0 stat (len u64 LE)   1 outboard (values)   2 piece (bytes)
//!                                                     3 not found   4 not yet   5 busy
//! ```
//! Each travels in a frame: its length as u32 LE, then the bytes, then the end of the stream.

use super::tree::{MAX_PIECES, PIECE_LEN, VALUE_LEN};
use essaim_protocol::ids::Hash;

/// The longest response body that this protocol can carry, in bytes: a tag and the longest list of values (4 MiB).
pub const MAX_BLOB_FRAME_LEN: usize = 1 + MAX_PIECES as usize * VALUE_LEN;

/// The longest request, in bytes.
pub const MAX_BLOB_REQUEST_LEN: usize = 1 + 32 + 4;

/// What is asked of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobRequest {
    /// How long is the blob, if you have it?
    Stat(Hash),
    /// The list of its pieces' values.
    Outboard(Hash),
    /// One of its pieces.
    Piece(Hash, u32),
}

/// What a provider answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobResponse {
    /// The blob is here and has this length in bytes.
    Stat(u64),
    /// The values of its pieces, 32 bytes each.
    Outboard(Vec<u8>),
    /// The bytes of the piece.
    Piece(Vec<u8>),
    /// The blob is not here.
    NotFound,
    /// The blob may not be given to this peer yet: ask again later.
    NotYet,
    /// Too many requests at once: ask again soon.
    Busy,
}

/// Bytes that are no request or response of the blob protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No such tag.
    #[error("unknown tag {0}")]
    Tag(u8),
    /// The length does not fit the tag.
    #[error("{len} bytes do not fit tag {tag}")]
    Length {
        /// The tag given.
        tag: u8,
        /// The length given, tag included.
        len: usize,
    },
    /// No bytes at all.
    #[error("empty")]
    Empty,
}

impl BlobRequest {
    /// Which blob is meant.
    pub fn hash(&self) -> Hash {
        match *self {
            BlobRequest::Stat(hash) | BlobRequest::Outboard(hash) | BlobRequest::Piece(hash, _) => hash,
        }
    }

    /// The longest response that this request can have, in bytes.
    pub fn response_len_max(&self) -> usize {
        match self {
            BlobRequest::Stat(_) => 1 + 8,
            BlobRequest::Outboard(_) => MAX_BLOB_FRAME_LEN,
            BlobRequest::Piece(..) => 1 + PIECE_LEN,
        }
    }

    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (tag, hash) = match self {
            BlobRequest::Stat(hash) => (0, hash),
            BlobRequest::Outboard(hash) => (1, hash),
            BlobRequest::Piece(hash, _) => (2, hash),
        };
        let mut out = vec![tag];
        out.extend_from_slice(hash.as_bytes());
        if let BlobRequest::Piece(_, index) = self {
            out.extend_from_slice(&index.to_le_bytes());
        }
        out
    }

    /// Reads what [`BlobRequest::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else, trailing bytes included.
    pub fn from_bytes(bytes: &[u8]) -> Result<BlobRequest, WireError> {
        let (&tag, rest) = bytes.split_first().ok_or(WireError::Empty)?;
        let bad = WireError::Length { tag, len: bytes.len() };
        let (hash, rest) = rest.split_first_chunk::<32>().ok_or(bad.clone())?;
        let hash = Hash(*hash);
        match (tag, rest) {
            (0, []) => Ok(BlobRequest::Stat(hash)),
            (1, []) => Ok(BlobRequest::Outboard(hash)),
            (2, &[a, b, c, d]) => Ok(BlobRequest::Piece(hash, u32::from_le_bytes([a, b, c, d]))),
            (0..=2, _) => Err(bad),
            _ => Err(WireError::Tag(tag)),
        }
    }
}

impl BlobResponse {
    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            BlobResponse::Stat(len_bytes) => [&[0u8][..], &len_bytes.to_le_bytes()].concat(),
            BlobResponse::Outboard(values) => [&[1u8][..], values].concat(),
            BlobResponse::Piece(bytes) => [&[2u8][..], bytes].concat(),
            BlobResponse::NotFound => vec![3],
            BlobResponse::NotYet => vec![4],
            BlobResponse::Busy => vec![5],
        }
    }

    /// Reads what [`BlobResponse::to_bytes`] wrote. Takes the bytes, so that a piece is not copied but for its tag.
    ///
    /// # Errors
    /// [`WireError`] for anything else, trailing bytes included.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Result<BlobResponse, WireError> {
        let len = bytes.len();
        let tag = *bytes.first().ok_or(WireError::Empty)?;
        let body = bytes.split_off(1);
        let bad = WireError::Length { tag, len };
        match tag {
            0 => {
                let len_bytes: [u8; 8] = body.try_into().map_err(|_| bad)?;
                Ok(BlobResponse::Stat(u64::from_le_bytes(len_bytes)))
            }
            1 if body.len().is_multiple_of(VALUE_LEN) && len <= MAX_BLOB_FRAME_LEN => Ok(BlobResponse::Outboard(body)),
            2 if body.len() <= PIECE_LEN => Ok(BlobResponse::Piece(body)),
            3 if body.is_empty() => Ok(BlobResponse::NotFound),
            4 if body.is_empty() => Ok(BlobResponse::NotYet),
            5 if body.is_empty() => Ok(BlobResponse::Busy),
            1..=5 => Err(bad),
            _ => Err(WireError::Tag(tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn byte_forms_are_as_documented() {
        let hash = Hash([9; 32]);
        assert_eq!(BlobRequest::Stat(hash).to_bytes(), [&[0u8][..], &[9; 32]].concat());
        assert_eq!(BlobRequest::Piece(hash, 258).to_bytes(), [&[2u8][..], &[9; 32], &[2, 1, 0, 0]].concat());
        assert_eq!(BlobResponse::Stat(258).to_bytes(), [0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(BlobResponse::Piece(vec![7]).to_bytes(), [2, 7]);
        assert_eq!(BlobResponse::Busy.to_bytes(), [5]);
    }

    #[test]
    fn what_is_written_is_read() {
        let hash = Hash([3; 32]);
        for request in [BlobRequest::Stat(hash), BlobRequest::Outboard(hash), BlobRequest::Piece(hash, u32::MAX)] {
            assert_eq!(BlobRequest::from_bytes(&request.to_bytes()), Ok(request));
            let longer = [request.to_bytes(), vec![0]].concat();
            assert!(BlobRequest::from_bytes(&longer).is_err(), "{request:?} with a byte more");
        }
        let responses = [
            BlobResponse::Stat(u64::MAX),
            BlobResponse::Outboard(vec![1; 64]),
            BlobResponse::Piece(vec![]),
            BlobResponse::Piece(vec![2; PIECE_LEN]),
            BlobResponse::NotFound,
            BlobResponse::NotYet,
            BlobResponse::Busy,
        ];
        for response in responses {
            assert_eq!(BlobResponse::from_bytes(response.to_bytes()), Ok(response));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(BlobRequest::from_bytes(&[]), Err(WireError::Empty));
        assert_eq!(BlobRequest::from_bytes(&[7; 33]), Err(WireError::Tag(7)));
        assert_eq!(BlobResponse::from_bytes(vec![]), Err(WireError::Empty));
        assert_eq!(BlobResponse::from_bytes(vec![6]), Err(WireError::Tag(6)));
        assert_eq!(BlobResponse::from_bytes(vec![3, 0]), Err(WireError::Length { tag: 3, len: 2 }));
        assert_eq!(BlobResponse::from_bytes(vec![1; 34]), Err(WireError::Length { tag: 1, len: 34 }));
        let long = vec![2; PIECE_LEN + 2];
        assert_eq!(BlobResponse::from_bytes(long), Err(WireError::Length { tag: 2, len: PIECE_LEN + 2 }));
    }

    proptest! {
        #[test]
        fn one_form_per_value(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(request) = BlobRequest::from_bytes(&bytes) {
                prop_assert_eq!(request.to_bytes(), bytes.clone());
            }
            if let Ok(response) = BlobResponse::from_bytes(bytes.clone()) {
                prop_assert_eq!(response.to_bytes(), bytes);
            }
        }
    }
}
