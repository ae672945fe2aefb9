//! The operator's hash chain: values `h_0, h_1, …` where BLAKE3 of `h_{i+1}` is `h_i`. The manifest holds `h_0`, the
//! *anchor*, and record `r` reveals `h_{r+1}`. So the operator fixed all of them before it knew who would take part, and
//! cannot choose a round's assignment seed after seeing who is there.

use crate::ids::Hash;

/// The values, all of which follow from the secret that made the last one.
#[derive(Clone)]
pub struct HashChain {
    len: u64,
    /// Distance of two kept values.
    stride: u64,
    /// Values `len`, `len - stride`, `len - 2·stride`, …
    kept: Vec<Hash>,
    anchor: Hash,
}

impl std::fmt::Debug for HashChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HashChain(anchor {:?}, {} values)", self.anchor, self.len)
    }
}

impl HashChain {
    /// The chain `h_0 … h_len` of a secret; `len` is the manifest's `hash_chain_len`. Costs `len` hashes, and keeps one
    /// value in about `√len`, so that [`HashChain::value`] is cheap for every index.
    pub fn from_secret(secret: &[u8; 32], len: u64) -> HashChain {
        let stride = len.isqrt().max(1);
        let mut value = Hash(blake3::derive_key("essaim/1 hash chain", secret));
        let mut kept = vec![value];
        let mut since = 0u64;
        for _ in 0..len {
            value = Hash::of(value.as_bytes());
            since = since.saturating_add(1);
            if since == stride {
                kept.push(value);
                since = 0;
            }
        }
        HashChain { len, stride, kept, anchor: value }
    }

    /// `h_0`: what the manifest holds.
    pub fn anchor(&self) -> Hash {
        self.anchor
    }

    /// The highest index.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the anchor is the only value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `h_index`, where there is one.
    pub fn value(&self, index: u64) -> Option<Hash> {
        let down = self.len.checked_sub(index)?;
        let nearest = down.checked_div(self.stride)?;
        let steps = down.checked_rem(self.stride)?;
        let kept = self.kept.get(usize::try_from(nearest).ok()?)?;
        Some(descend(*kept, steps))
    }

    /// The value that record `round` reveals.
    pub fn preimage(&self, round: u64) -> Option<Hash> {
        self.value(round.checked_add(1)?)
    }
}

/// `value`, hashed `times` times over: `h_i` becomes `h_{i - times}`.
pub fn descend(mut value: Hash, times: u64) -> Hash {
    for _ in 0..times {
        value = Hash::of(value.as_bytes());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_the_preimage_of_the_one_before() {
        for len in [0, 1, 2, 9, 10, 100] {
            let chain = HashChain::from_secret(&[7; 32], len);
            assert_eq!(chain.value(0), Some(chain.anchor()), "{len}");
            for index in 1..=len {
                let value = chain.value(index).unwrap();
                assert_eq!(Some(Hash::of(value.as_bytes())), chain.value(index - 1), "{index} of {len}");
                assert_eq!(descend(value, index), chain.anchor());
            }
            assert_eq!(chain.value(len + 1), None);
            assert_eq!(chain.preimage(len), None);
        }
    }
}
