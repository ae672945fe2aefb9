//! Which contributions are replayed: drawn without replacement from a seed, by BLAKE3's extendable output.

use std::collections::BTreeSet;

/// How many contributions to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replays {
    /// So many, or all there are.
    Count(u64),
    /// Every one.
    All,
}

impl std::str::FromStr for Replays {
    type Err = String;

    fn from_str(text: &str) -> Result<Replays, String> {
        if text == "all" {
            return Ok(Replays::All);
        }
        text.parse().map(Replays::Count).map_err(|_| format!("'{text}' is neither a number nor 'all'"))
    }
}

/// `count` different numbers below `total`, in rising order; all of them when there are not more.
///
/// Floyd's method: for `j` from `total - count` on, a number up to `j` is drawn, and `j` itself taken if that one is
/// taken already. A 64-bit draw modulo `j + 1` favours small numbers by less than 2⁻³² for runs of any length.
pub fn draw(seed: &[u8; 32], count: u64, total: u64) -> BTreeSet<u64> {
    if count >= total {
        return (0..total).collect();
    }
    let mut stream = blake3::Hasher::new_derive_key("essaim-verify 1 replays").update(seed).finalize_xof();
    let mut taken = BTreeSet::new();
    for j in total - count..total {
        let mut bytes = [0u8; 8];
        stream.fill(&mut bytes);
        let drawn = u64::from_le_bytes(bytes) % (j + 1);
        if !taken.insert(drawn) {
            taken.insert(j);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_repeatable_has_its_size_and_differs_by_seed() {
        let first = draw(&[1; 32], 5, 1000);
        assert_eq!(first, draw(&[1; 32], 5, 1000));
        assert_eq!(first.len(), 5);
        assert!(first.iter().all(|&number| number < 1000));
        assert_ne!(first, draw(&[2; 32], 5, 1000));
        assert_eq!(draw(&[1; 32], 9, 3), BTreeSet::from([0, 1, 2]));
        let counts = (0..2000u32).fold([0u32; 4], |mut counts, index| {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&index.to_le_bytes());
            draw(&seed, 1, 4).into_iter().for_each(|number| counts[number as usize] += 1);
            counts
        });
        assert!(counts.iter().all(|&count| (400..600).contains(&count)), "{counts:?}");
    }
}
