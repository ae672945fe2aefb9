//! Names of things: hashes, run ids, members. All are 32 bytes, shown as 64 lower-case hexadecimal digits.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A text that does not name a 32-byte value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits, got {got_len} characters{}", if *.bad_digit { " with one that is no digit" } else { "" })]
pub struct ParseIdError {
    /// How many characters were given.
    pub got_len: usize,
    /// Whether a character was not a hexadecimal digit.
    pub bad_digit: bool,
}

fn write_hex(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str) -> Result<[u8; 32], ParseIdError> {
    let got_len = text.chars().count();
    let bad_digit = !text.chars().all(|c| c.is_ascii_hexdigit());
    if got_len != 64 || bad_digit {
        return Err(ParseIdError { got_len, bad_digit });
    }
    let mut out = [0u8; 32];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
        if let [high, low] = *pair {
            *byte = (digit(high) << 4) | digit(low);
        }
    }
    Ok(out)
}

/// The 32 bytes as they are; a text in formats for people. Written as four little-endian words, which are the same bytes:
/// serde would pass single bytes, one call each, and records are made of little else.
fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return serializer.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    let mut words = [0u64; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words.serialize(serializer)
}

fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    if deserializer.is_human_readable() {
        return parse_hex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom);
    }
    let words = <[u64; 4]>::deserialize(deserializer)?;
    let mut bytes = [0u8; 32];
    for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    Ok(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize(deserializer).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map($name)
            }
        }
    };
}

id!(
    /// The BLAKE3 hash of some bytes: of a blob, a statement's payload, a checkpoint file.
    Hash
);
id!(
    /// The hash of a run's manifest: the trust anchor that a join link carries.
    RunId
);
id!(
    /// A member: its Ed25519 public key. The libp2p peer id derives from the same key.
    MemberId
);

impl Hash {
    /// The BLAKE3 hash of `bytes`; what `b3sum` prints for a file that holds them.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Hash {
        Hash(*hash.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_read_back_and_bad_forms_are_refused() {
        let hash = Hash::of(b"essaim");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().len(), 64);
        let short: Result<Hash, _> = "abc".parse();
        assert_eq!(short, Err(ParseIdError { got_len: 3, bad_digit: false }));
        let bad: Result<Hash, _> = "g".repeat(64).parse();
        assert_eq!(bad, Err(ParseIdError { got_len: 64, bad_digit: true }));
    }
}
