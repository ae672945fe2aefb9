//! Inputs and comparisons that the tests share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use essaim_kernels::{Exec, Path};

/// SplitMix64: the tests' source of numbers, the same everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// Uniform in [-1, 1), 24 bits.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// `len` values in [-scale, scale).
    pub fn vec(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.unit() * scale).collect()
    }

    /// Mostly ordinary values, with signed zeros, subnormals, huge ones, infinities and NaN mixed in.
    pub fn wild(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| match self.below(24) {
                0 => 0.0,
                1 => -0.0,
                2 => f32::from_bits(self.below(0x80_0000) as u32),
                3 => -f32::from_bits(self.below(0x80_0000) as u32),
                4 => self.unit() * 1e30,
                5 => self.unit() * 1e-30,
                6 if self.below(16) == 0 => f32::INFINITY,
                7 if self.below(16) == 0 => f32::NEG_INFINITY,
                8 if self.below(16) == 0 => f32::NAN,
                _ => self.unit() * 4.0,
            })
            .collect()
    }

    /// Token ids below `vocab`.
    pub fn ids(&mut self, len: usize, vocab: usize) -> Vec<u32> {
        (0..len).map(|_| self.below(vocab) as u32).collect()
    }
}

/// The scalar reference.
pub fn reference() -> Exec {
    Exec::new(Path::Scalar, 1).unwrap()
}

/// Every fast path that this CPU has, with one, two and three threads.
pub fn fast_execs() -> Vec<Exec> {
    let fast = Path::available().into_iter().filter(|&path| path != Path::Scalar);
    fast.flat_map(|path| [1, 2, 3].map(|threads| Exec::new(path, threads).unwrap())).collect()
}

/// The bits, all NaN as one: which elements are NaN is part of the semantics, their payload is not.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|value| if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() }).collect()
}

/// Asserts equality of every bit, and names the first element that differs.
pub fn assert_same(got: &[f32], want: &[f32], context: &str) {
    let (got, want) = (bits(got), bits(want));
    assert_eq!(got.len(), want.len(), "{context}: lengths");
    if let Some(at) = (0..got.len()).find(|&i| got[i] != want[i]) {
        panic!("{context}: element {at} is {:#010x}, must be {:#010x}", got[at], want[at]);
    }
}
