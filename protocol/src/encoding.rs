//! Canonical bytes: one byte form per value.
//!
//! The form is bincode's fixed-width little-endian one (`bincode::config::legacy()`): integers little-endian at their full
//! width, `Vec` and `String` as a `u64` length and the elements, `Option` as one byte, enums as a `u32` index. This is
//! the only module that names bincode (decision record 0002), so that another writer of the same bytes can take its place.
//!
//! The reader bounds what it allocates, consumes the whole input, and refuses any input that the writer would not have
//! written: it writes the value again and compares.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes were not accepted as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input is longer than this kind of value may be.
    #[error("{len} bytes, where {max} are allowed")]
    TooLong {
        /// Length given.
        len: usize,
        /// Length allowed.
        max: usize,
    },
    /// The input is not the form of such a value.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The value ends before the input does.
    #[error("{0} bytes too many at the end")]
    Trailing(usize),
    /// The value has another byte form than this one.
    #[error("not the canonical form of its value")]
    NotCanonical,
}

/// The largest canonical value that this build decodes, whatever its caller allows: 16 MiB.
const DECODE_MAX: usize = 16 << 20;

/// The canonical bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: they hold nothing that the form cannot write.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    match bincode::serde::encode_to_vec(value, bincode::config::legacy()) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("a protocol type that cannot be encoded: {error}"),
    }
}

/// The value whose canonical bytes are `bytes`, which may be at most `max` long.
///
/// # Errors
/// [`DecodeError`] for every input but the one form that [`encode`] gives.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    let max = max.min(DECODE_MAX);
    if bytes.len() > max {
        return Err(DecodeError::TooLong { len: bytes.len(), max });
    }
    let config = bincode::config::legacy().with_limit::<DECODE_MAX>();
    let (value, read): (T, usize) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if read != bytes.len() {
        return Err(DecodeError::Trailing(bytes.len().saturating_sub(read)));
    }
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

/// For `#[serde(with = "encoding::bytes")]`: a `Vec<u8>` in one piece. The same bytes as without, in a fraction of the time.
pub mod bytes {
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    /// Writes a `u64` length and the bytes.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads a `u64` length and the bytes.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut out = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    out.push(byte);
                }
                Ok(out)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}
