//! Small numbers for equal things: what repetition is counted with. Exact: equal numbers are equal things, never a collision of
//! hashes; numbers follow the order of first occurrence, so nothing depends on a hash's order.

/// Numbers pieces of a text.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// Open addressing: 1 + the number of the piece, 0 where free.
    slots: Vec<u32>,
    /// Hash and bounds of each piece's first occurrence.
    seen: Vec<(u64, u32, u32)>,
}

/// Numbers pairs of numbers.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    slots: Vec<u32>,
    seen: Vec<u64>,
    /// Numbers given so far, with those of things that are not looked up.
    next: u32,
    /// The number of each entry of `seen`.
    numbers: Vec<u32>,
}

/// An odd constant of no meaning: the golden ratio's bits.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut state = MIX ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        state = fold(state ^ word, MIX);
    }
    let rest = chunks.remainder().iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    fold(state ^ rest, MIX ^ 0x5555)
}

fn clear(slots: &mut Vec<u32>, things: usize) {
    slots.clear();
    slots.resize((2 * things).next_power_of_two().max(16), 0);
}

impl Pieces {
    /// Forgets all, and makes room for at most `pieces` different ones.
    pub(crate) fn reset(&mut self, pieces: usize) {
        clear(&mut self.slots, pieces);
        self.seen.clear();
    }

    /// The number of `text[start..end]`, and whether it is new.
    pub(crate) fn number(&mut self, text: &str, start: usize, end: usize) -> (u32, bool) {
        let bytes = &text.as_bytes()[start..end];
        let hash = hash(bytes);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.slots[at] {
                0 => break,
                slot => {
                    let (seen, first, last) = self.seen[slot as usize - 1];
                    if seen == hash && text.as_bytes()[first as usize..last as usize] == *bytes {
                        return (slot - 1, false);
                    }
                }
            }
            at = (at + 1) & mask;
        }
        self.seen.push((hash, start as u32, end as u32));
        self.slots[at] = self.seen.len() as u32;
        (self.seen.len() as u32 - 1, true)
    }
}

impl Pairs {
    /// Forgets all, and makes room for at most `pairs` different ones.
    pub(crate) fn reset(&mut self, pairs: usize) {
        clear(&mut self.slots, pairs);
        self.seen.clear();
        self.numbers.clear();
        self.next = 0;
    }

    /// The number of a pair.
    pub(crate) fn number(&mut self, a: u32, b: u32) -> u32 {
        let key = u64::from(a) << 32 | u64::from(b);
        let mask = self.slots.len() - 1;
        let mut at = fold(key ^ MIX, MIX) as usize & mask;
        loop {
            match self.slots[at] {
                0 => break,
                slot if self.seen[slot as usize - 1] == key => return self.numbers[slot as usize - 1],
                _ => at = (at + 1) & mask,
            }
        }
        self.seen.push(key);
        let number = self.fresh();
        self.numbers.push(number);
        self.slots[at] = self.seen.len() as u32;
        number
    }

    /// A number for what is known to occur once.
    pub(crate) fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// How many numbers were given.
    pub(crate) fn len(&self) -> usize {
        self.next as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn equal_pieces_have_equal_numbers(words in proptest::collection::vec("[ab]{0,3}", 0..60)) {
            let text = words.concat();
            let mut pieces = Pieces::default();
            pieces.reset(words.len());
            let (mut known, mut at) = (BTreeMap::new(), 0);
            for word in &words {
                let next = known.len() as u32;
                let expected = *known.entry(word).or_insert(next);
                let new = expected == next;
                prop_assert_eq!(pieces.number(&text, at, at + word.len()), (expected, new));
                at += word.len();
            }
        }

        #[test]
        fn equal_pairs_have_equal_numbers(pairs in proptest::collection::vec((0u32..4, 0u32..4), 0..60)) {
            let mut table = Pairs::default();
            table.reset(pairs.len());
            let mut known = BTreeMap::new();
            for &(a, b) in &pairs {
                let next = known.len() as u32;
                let expected = *known.entry((a, b)).or_insert(next);
                prop_assert_eq!(table.number(a, b), expected);
            }
            prop_assert_eq!(table.len(), known.len());
        }
    }
}
