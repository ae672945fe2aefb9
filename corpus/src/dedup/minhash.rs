//! MinHash signatures: the smallest values of many hash functions over a text's n-grams.
//!
//! Function j maps an n-gram's 61-bit hash x to h = (a·x + b) mod p, p = 2^61 − 1, a in 1..p and b in 0..p drawn from BLAKE3's
//! output stream. The arithmetic is laid out in 32-bit products without branches, so that the compiler makes vector code of it;
//! `pulp` picks the widest that the machine has. All give the same bits.

/// 2^61 − 1, a Mersenne prime.
const P: u64 = (1 << 61) - 1;
/// n-grams that are taken at a time: they and the functions stay in the first-level cache.
const TILE: usize = 512;
const LOW: u64 = 0xFFFF_FFFF;

/// A family of hash functions.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    a: Vec<u64>,
    b: Vec<u64>,
    arch: pulp::Arch,
}

/// h = (a·x + b) mod p for a, b < p and x ≤ p.
#[inline(always)]
fn hash(a: u64, b: u64, x: u64) -> u64 {
    let (a0, a1, x0, x1) = (a & LOW, a >> 32, x & LOW, x >> 32);
    // a·x = high·2^64 + middle·2^32 + low, with 2^61 ≡ 1: 2^64 ≡ 8, and middle's bits from 29 on come back to the bottom.
    let (high, middle, low) = (a1 * x1, a1 * x0 + a0 * x1, a0 * x0);
    let sum = (low & P) + (low >> 61) + ((middle & ((1 << 29) - 1)) << 32) + (middle >> 29) + (high << 3) + b;
    let once = (sum & P) + (sum >> 61);
    (once + ((once + 1) >> 61)) & P
}

#[inline(always)]
fn lower(a: &[u64], b: &[u64], least: &mut [u64], grams: &[u64]) {
    for pair in grams.chunks(4) {
        let &[x, y, z, w] = pair else {
            for &x in pair {
                for ((a, b), least) in a.iter().zip(b).zip(least.iter_mut()) {
                    *least = hash(*a, *b, x).min(*least);
                }
            }
            continue;
        };
        for ((&a, &b), least) in a.iter().zip(b).zip(least.iter_mut()) {
            let (first, second) = (hash(a, b, x).min(hash(a, b, y)), hash(a, b, z).min(hash(a, b, w)));
            *least = first.min(second).min(*least);
        }
    }
}

/// A call of [`lower`] that is compiled for every width of vectors.
struct Lower<'a> {
    a: &'a [u64],
    b: &'a [u64],
    least: &'a mut [u64],
    grams: &'a [u64],
}

impl pulp::WithSimd for Lower<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        lower(self.a, self.b, self.least, self.grams);
    }
}

impl Family {
    /// The first `count` functions of the one family there is.
    pub(crate) fn new(count: usize) -> Family {
        let mut stream = blake3::Hasher::new_derive_key("essaim corpus 2026 minhash functions").finalize_xof();
        let mut draw = |least: u64| loop {
            let mut bytes = [0; 8];
            stream.fill(&mut bytes);
            let drawn = u64::from_le_bytes(bytes) & P;
            if (least..P).contains(&drawn) {
                break drawn;
            }
        };
        let (a, b) = (0..count).map(|_| (draw(1), draw(0))).unzip();
        Family { a, b, arch: pulp::Arch::new() }
    }

    /// The smallest value of each function over n-grams' hashes of 61 bits; p where there are none.
    pub(crate) fn signature(&self, grams: &[u64], least: &mut Vec<u64>) {
        least.clear();
        least.resize(self.a.len(), P);
        let (a, b) = (&self.a[..], &self.b[..]);
        grams.chunks(TILE).for_each(|grams| self.arch.dispatch(Lower { a, b, least, grams }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::words::mix;

    fn plain(a: u64, b: u64, x: u64) -> u64 {
        ((u128::from(a) * u128::from(x) + u128::from(b)) % u128::from(P)) as u64
    }

    #[test]
    fn a_hash_is_its_formula() {
        let edges = [0, 1, 2, LOW, LOW + 1, 1 << 60, P / 2, P - 2, P - 1];
        for a in edges {
            for b in edges {
                edges.iter().chain(&[P]).for_each(|&x| assert_eq!(hash(a, b, x), plain(a, b, x), "{a} {b} {x}"));
            }
        }
        for i in 0..100_000u64 {
            let [a, b, x] = [3 * i, 3 * i + 1, 3 * i + 2].map(|n| mix(n) % P);
            assert_eq!(hash(a, b, x), plain(a, b, x), "{a} {b} {x}");
        }
    }

    #[test]
    fn a_signature_holds_the_smallest_whatever_the_width() {
        for (count, grams) in [(112, 1500), (112, 0), (112, 1), (7, 3), (1, 513), (30, 1026)] {
            let family = Family::new(count);
            let grams: Vec<u64> = (0..grams).map(|i| mix(i) >> 3).collect();
            let mut found = vec![1, 2, 3];
            family.signature(&grams, &mut found);
            let least = |j: usize| grams.iter().map(|&x| plain(family.a[j], family.b[j], x)).min().unwrap_or(P);
            assert_eq!(found, (0..count).map(least).collect::<Vec<_>>());
            let mut scalar = vec![P; count];
            lower(&family.a, &family.b, &mut scalar, &grams);
            assert_eq!(found, scalar);
        }
    }

    #[test]
    fn the_family_is_always_the_same() {
        let family = Family::new(3);
        assert_eq!(family.a, Family::new(112).a[..3]);
        assert!(family.a.iter().chain(&family.b).all(|&value| value < P));
        assert_eq!((family.a[0], family.b[0]), FIXED);
    }

    const FIXED: (u64, u64) = (1_615_195_897_715_490, 1_251_975_465_522_476_341);
}
