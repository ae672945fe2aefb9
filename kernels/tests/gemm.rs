//! The matrix product: every path, thread count, layout and shape against the scalar reference, bit for bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, assert_same, fast_execs, reference};
use essaim_kernels::{Exec, Layout, Path, gemm};
use proptest::prelude::*;
use std::borrow::Borrow;

/// One product's sizes and strides.
#[derive(Debug, Clone, Copy)]
struct Case {
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
    /// Elements by which the stored rows of A, B and C are longer than needed.
    gaps: [usize; 3],
    accumulate: bool,
}

impl Case {
    fn operands(&self, wild: bool) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut numbers = Numbers((self.m * 31 + self.n * 17 + self.k) as u64);
        let (lda, ldb, ldc) = self.strides();
        let a_rows = if self.layout == Layout::TN { self.k } else { self.m };
        let b_rows = if self.layout == Layout::NT { self.n } else { self.k };
        let mut make = |len: usize| if wild { numbers.wild(len) } else { numbers.vec(len, 1.0) };
        (make(a_rows * lda), make(b_rows * ldb), make(self.m * ldc))
    }

    fn strides(&self) -> (usize, usize, usize) {
        let a = if self.layout == Layout::TN { self.m } else { self.k };
        let b = if self.layout == Layout::NT { self.k } else { self.n };
        (a + self.gaps[0], b + self.gaps[1], self.n + self.gaps[2])
    }

    fn run(&self, exec: &Exec, a: &[f32], b: &[f32], c: &mut [f32]) {
        let (lda, ldb, ldc) = self.strides();
        gemm(exec, self.layout, self.m, self.n, self.k, a, lda, b, ldb, c, ldc, self.accumulate);
    }

    fn check(&self, execs: &[impl Borrow<Exec>], wild: bool) {
        let (a, b, c) = self.operands(wild);
        let mut want = c.clone();
        self.run(&reference(), &a, &b, &mut want);
        for exec in execs.iter().map(Borrow::borrow) {
            let mut got = c.clone();
            self.run(exec, &a, &b, &mut got);
            assert_same(&got, &want, &format!("{self:?} on {} with {} threads", exec.path(), exec.threads()));
        }
    }
}

const LAYOUTS: [Layout; 3] = [Layout::NN, Layout::NT, Layout::TN];

#[test]
fn shapes_around_every_boundary_agree() {
    let execs = fast_execs();
    // Around the tiles (6 × 16, and 14 × 32 with AVX-512), the pair of vectors, the blocks of A (252) and the blocks of k (384).
    let shapes = [
        (1, 1, 1),
        (1, 16, 8),
        (5, 15, 7),
        (6, 16, 16),
        (7, 17, 9),
        (12, 32, 33),
        (13, 31, 383),
        (14, 32, 40),
        (15, 33, 384),
        (27, 63, 12),
        (28, 64, 385),
        (29, 95, 30),
        (6, 16, 384),
        (7, 33, 385),
        (1, 128, 769),
        (251, 16, 40),
        (252, 20, 17),
        (253, 8, 25),
        (505, 48, 24),
        (100, 300, 64),
        (48, 260, 100),
        (3, 1000, 5),
    ];
    for layout in LAYOUTS {
        for (m, n, k) in shapes {
            for accumulate in [false, true] {
                Case { layout, m, n, k, gaps: [0; 3], accumulate }.check(&execs, false);
            }
        }
    }
}

#[test]
fn strided_operands_agree_and_the_gaps_stay() {
    let execs = fast_execs();
    for layout in LAYOUTS {
        for accumulate in [false, true] {
            // `operands` fills the gaps of C with random values, which both sides must leave alone.
            Case { layout, m: 19, n: 37, k: 50, gaps: [5; 3], accumulate }.check(&execs, false);
        }
    }
}

/// Rows so long that an operand is copied before it is read, however wide a tile is, and rows that are short; results wider than the few
/// panels for which a transposed A is not copied, and narrower ones; rows and columns that fill no whole tile.
#[test]
fn packed_and_unpacked_operands_agree() {
    const LONG: usize = 513;
    const M: [usize; 5] = [1, 13, 45, 59, 171];
    const N: [usize; 7] = [64, 65, 128, 129, 160, 256, 275];
    const K: [usize; 8] = [1, 127, 128, 129, 383, 384, 385, 512];
    let fast = Path::available().into_iter().filter(|&path| path != Path::Scalar);
    let execs: Vec<Vec<Exec>> =
        fast.map(|path| (1..=4).map(|threads| Exec::new(path, threads).unwrap()).collect()).collect();
    // The lengths of the lists have no common factor, so the case's number goes through their combinations.
    let mut number = 0;
    for layout in LAYOUTS {
        for (a, b) in [(0, 0), (0, LONG), (LONG, 0), (LONG, LONG)] {
            for accumulate in [false, true] {
                for turn in 0..2 * N.len() {
                    let (m, n, k) = (M[number % M.len()], N[turn % N.len()], K[number % K.len()]);
                    let gaps = [a, b, [0, 3, LONG][number % 3]];
                    let of_case: Vec<&Exec> = execs.iter().map(|threads| &threads[number / 5 % 4]).collect();
                    Case { layout, m, n, k, gaps, accumulate }.check(&of_case, number % 4 == 0);
                    number += 1;
                }
            }
        }
    }
}

#[test]
fn special_values_agree() {
    let execs = fast_execs();
    for layout in LAYOUTS {
        for accumulate in [false, true] {
            Case { layout, m: 23, n: 35, k: 21, gaps: [0; 3], accumulate }.check(&execs, true);
            Case { layout, m: 8, n: 16, k: 2, gaps: [0; 3], accumulate }.check(&execs, true);
        }
    }
}

#[test]
fn empty_sizes_agree() {
    let execs = fast_execs();
    for layout in LAYOUTS {
        for (m, n, k) in [(0, 5, 5), (5, 0, 5), (5, 5, 0), (0, 0, 0)] {
            for accumulate in [false, true] {
                Case { layout, m, n, k, gaps: [2; 3], accumulate }.check(&execs, false);
            }
        }
    }
}

/// A sum from +0 of products that are all -0 is +0; from -0 it is -0.
#[test]
fn the_chain_starts_at_positive_zero() {
    for exec in fast_execs().iter().chain([&reference()]) {
        let (a, b) = ([0.0f32; 3], [-1.0f32; 3]);
        let mut c = [7.0f32];
        gemm(exec, Layout::NN, 1, 1, 3, &a, 3, &b, 1, &mut c, 1, false);
        assert_eq!(c[0].to_bits(), 0);
        c[0] = -0.0;
        gemm(exec, Layout::NN, 1, 1, 3, &a, 3, &b, 1, &mut c, 1, true);
        assert_eq!(c[0].to_bits(), 0x8000_0000);
    }
}

/// Two products over halves of `k`, the second accumulating, are the product over the whole: micro-batches change no weight gradient.
#[test]
fn cutting_k_anywhere_changes_nothing() {
    let (m, n, k) = (20, 24, 500);
    let mut numbers = Numbers(5);
    let (a, b) = (numbers.vec(k * m, 1.0), numbers.vec(k * n, 1.0));
    let mut want = vec![0.0; m * n];
    gemm(&reference(), Layout::TN, m, n, k, &a, m, &b, n, &mut want, n, false);
    for exec in fast_execs() {
        for cut in [1, 6, 16, 100, 383, 384, 385, 499] {
            let mut got = vec![0.0; m * n];
            gemm(&exec, Layout::TN, m, n, cut, &a, m, &b, n, &mut got, n, true);
            gemm(&exec, Layout::TN, m, n, k - cut, &a[cut * m..], m, &b[cut * n..], n, &mut got, n, true);
            assert_same(&got, &want, &format!("cut at {cut} on {}", exec.path()));
        }
    }
}

/// The comparisons above can fail: two accumulators, or separate rounding, give other bits for almost every output of these inputs.
#[test]
fn other_orders_and_roundings_would_be_seen() {
    let (m, n, k) = (20, 24, 500);
    let (a, b) = (Numbers(1).vec(m * k, 1.0), Numbers(2).vec(n * k, 1.0));
    let mut chains = vec![0.0; m * n];
    gemm(&reference(), Layout::NT, m, n, k, &a, k, &b, k, &mut chains, n, false);
    let differing = |other: &dyn Fn(&[f32], &[f32]) -> f32| {
        let outputs = (0..m * n).map(|i| other(&a[i / n * k..][..k], &b[i % n * k..][..k]));
        outputs.zip(&chains).filter(|(got, want)| got.to_bits() != want.to_bits()).count()
    };
    let fused = |sum: f32, (x, y): (&f32, &f32)| x.mul_add(*y, sum);
    let two_halves = |x: &[f32], y: &[f32]| {
        let (x, y) = (x.split_at(k / 2), y.split_at(k / 2));
        x.0.iter().zip(y.0).fold(0.0, fused) + x.1.iter().zip(y.1).fold(0.0, fused)
    };
    assert_eq!(differing(&|x, y| x.iter().zip(y).fold(0.0, fused)), 0);
    assert!(differing(&two_halves) > m * n / 2);
    assert!(differing(&|x, y| x.iter().zip(y).rev().fold(0.0, fused)) > m * n / 2);
    assert!(differing(&|x, y| x.iter().zip(y).fold(0.0, |sum, (x, y)| sum + x * y)) > m * n / 2);
}

#[test]
#[should_panic(expected = "A: 5 elements")]
fn a_short_operand_is_refused() {
    gemm(&reference(), Layout::NN, 2, 2, 3, &[0.0; 5], 3, &[0.0; 6], 2, &mut [0.0; 4], 2, false);
}

/// Sizes whose product wraps around to something small.
#[test]
#[should_panic(expected = "A: 4 elements")]
fn overflowing_sizes_are_refused() {
    let exec = Exec::detect(1).unwrap();
    let huge = usize::MAX / 2 + 1;
    gemm(&exec, Layout::NN, 3, 1, 1, &[0.0; 4], huge, &[0.0; 4], 1, &mut [0.0; 4], 1, false);
}

/// A few elements, or so many that the rows are long.
fn gap() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..4, 512usize..516]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_shape_agrees(
        layout in 0usize..3, m in 0usize..70, n in prop_oneof![0usize..90, 90usize..290], k in 0usize..450, gaps in [gap(), gap(), gap()],
        accumulate: bool, wild: bool,
    ) {
        use std::sync::OnceLock;
        static EXECS: OnceLock<Vec<Exec>> = OnceLock::new();
        Case { layout: LAYOUTS[layout], m, n, k, gaps, accumulate }.check(EXECS.get_or_init(fast_execs), wild);
    }
}
