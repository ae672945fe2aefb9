//! How far functions of one argument are from the true values, and whether every path gives the scalar code's bits: over a stride of the
//! 2³² float32, or over all of them.
//!
//! The oracle is binary64: the pinned `libm` functions are within a few units in the last place of binary64, and one of these is 2⁻²⁹ of
//! a float32 ulp, so an error measured here is right to about 10⁻⁸ ulp. Whether a result is the correctly rounded one is doubtful only where the
//! oracle lies that close to the middle between two float32; such inputs are counted as `doubtful`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use essaim_kernels::{Exec, Path, math, ops, scalar64};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A function of one argument.
#[derive(Clone, Copy)]
pub struct Function {
    pub name: &'static str,
    /// The function of every element, on the context's path.
    pub apply: fn(&Exec, &mut [f32]),
    /// The true value.
    pub truth: fn(f64) -> f64,
    /// 1 where it never decreases with the argument, −1 where it never increases, 0 where nothing is said.
    pub direction: i8,
    /// Whether every NaN result is the canonical one: not of operations on tensors (SEMANTICS.md §1.7), whose NaN are the processor's own.
    pub canonical: bool,
    /// Ranges of the argument in which only absolute errors count, each with its bound: around a zero of the function, and where it fades.
    pub absolute: &'static [(f32, f32, f64)],
    /// No normal result is further from the truth, in ulp: the largest error over all inputs, its fourth decimal rounded up.
    pub bound_ulp: f64,
    /// The bits of an input with that error.
    pub worst_at: u32,
    /// No subnormal result, or result of a true value below the normal range, is further from the truth, in units of 2⁻¹⁴⁹.
    pub bound_subnormal: f64,
}

/// The derivative of silu, as the gate's gradient is computed when everything else is 1.
fn silu_derivative(exec: &Exec, x: &mut [f32]) {
    let ones = vec![1.0f32; x.len()];
    let (mut gradient, mut other) = (vec![0.0f32; x.len()], vec![0.0f32; x.len()]);
    ops::swiglu_backward(exec, x, &ones, &ones, &mut gradient, &mut other);
    x.copy_from_slice(&gradient);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + scalar64::exp(-x))
}

/// Below this, sigmoid is subnormal and then +0; what is multiplied by it has lost its relative precision.
const FADING: (f32, f32) = (f32::NEG_INFINITY, -87.336_54);

/// Every function of one argument of `f32-exact/1`, with the bounds that SEMANTICS.md states.
pub const FUNCTIONS: [Function; 7] = [
    Function {
        name: "exp",
        apply: math::exp_slice,
        truth: scalar64::exp,
        direction: 1,
        canonical: true,
        absolute: &[],
        bound_ulp: 1.0129,
        worst_at: 0x426d_3962,
        bound_subnormal: 0.75,
    },
    Function {
        name: "log",
        apply: math::log_slice,
        truth: scalar64::log,
        direction: 1,
        canonical: true,
        absolute: &[],
        bound_ulp: 0.9446,
        worst_at: 0x3fb3_8a05,
        bound_subnormal: 0.0,
    },
    Function {
        name: "rsqrt",
        apply: math::rsqrt_slice,
        truth: |x| 1.0 / x.sqrt(),
        direction: -1,
        canonical: true,
        absolute: &[],
        bound_ulp: 1.4904,
        worst_at: 0x0080_cab3,
        bound_subnormal: 0.0,
    },
    Function {
        name: "sqrt",
        apply: ops::sqrt_assign,
        truth: f64::sqrt,
        direction: 1,
        canonical: false,
        absolute: &[],
        bound_ulp: 0.5,
        worst_at: 0x017f_ffff,
        bound_subnormal: 0.0,
    },
    Function {
        name: "sigmoid",
        apply: math::sigmoid_slice,
        truth: sigmoid,
        direction: 1,
        canonical: true,
        absolute: &[],
        bound_ulp: 2.4808,
        worst_at: 0xc185_15ec,
        bound_subnormal: 2_097_152.0,
    },
    Function {
        name: "silu",
        apply: math::silu_slice,
        truth: |x| x / (1.0 + scalar64::exp(-x)),
        direction: 0,
        canonical: true,
        absolute: &[(FADING.0, FADING.1, 2.61e-37)],
        bound_ulp: 2.8607,
        worst_at: 0xc185_9818,
        bound_subnormal: 0.5,
    },
    Function {
        name: "silu'",
        apply: silu_derivative,
        truth: |x| sigmoid(x) * (1.0 + x * sigmoid(-x)),
        direction: 0,
        canonical: false,
        absolute: &[(FADING.0, FADING.1, 2.58e-37), (-1.5, -1.1, 2.31e-8)],
        bound_ulp: 8.1823,
        worst_at: 0x4185_1591,
        bound_subnormal: 0.0,
    },
];

/// The largest error of a kind, and the input where it was found.
#[derive(Clone, Copy, Default)]
pub struct Worst {
    pub error: f64,
    pub at: f32,
    pub results: u64,
    /// Results that are not the float32 nearest to the true value.
    pub not_nearest: u64,
}

impl Worst {
    fn add(&mut self, error: f64, at: f32, nearest: bool) {
        self.results += 1;
        self.not_nearest += u64::from(!nearest);
        // NaN, which compares as false, counts as worse than anything.
        if error > self.error || error.is_nan() {
            (self.error, self.at) = (error, at);
        }
    }

    fn merge(&mut self, other: Worst) {
        self.results += other.results;
        self.not_nearest += other.not_nearest;
        if other.error > self.error || other.error.is_nan() {
            (self.error, self.at) = (other.error, other.at);
        }
    }
}

/// What was found for one function.
#[derive(Clone, Default)]
pub struct Report {
    pub inputs: u64,
    /// True values in the normal range: errors in ulp of the true value's binade.
    pub normal: Worst,
    /// True values below 2⁻¹²⁶, zero among them: errors in units of 2⁻¹⁴⁹.
    pub subnormal: Worst,
    /// In the function's ranges of absolute errors.
    pub absolute: Vec<Worst>,
    /// Results around the middle between two float32, where the oracle cannot say which is nearer.
    pub doubtful: u64,
    /// Inputs whose true value is NaN, or rounds to an infinity, and whose result is not that; or the other way round.
    pub wrong_special: u64,
    /// NaN results that are not canonical though they must be.
    pub other_nan: u64,
    /// Neighbours in the wrong order.
    pub inversions: u64,
    /// For each path, how many results differ from the scalar code's, and the first such input's bits.
    pub different: Vec<(Path, u64, u32)>,
}

impl Report {
    fn merge(&mut self, other: Report) {
        self.inputs += other.inputs;
        self.normal.merge(other.normal);
        self.subnormal.merge(other.subnormal);
        self.absolute.resize(other.absolute.len(), Worst::default());
        self.absolute.iter_mut().zip(other.absolute).for_each(|(mine, theirs)| mine.merge(theirs));
        self.doubtful += other.doubtful;
        self.wrong_special += other.wrong_special;
        self.other_nan += other.other_nan;
        self.inversions += other.inversions;
        if self.different.is_empty() {
            self.different = other.different;
            return;
        }
        for (mine, theirs) in self.different.iter_mut().zip(other.different) {
            mine.2 = if mine.1 == 0 { theirs.2 } else { mine.2 };
            mine.1 += theirs.1;
        }
    }

    /// Panics unless everything that SEMANTICS.md states of `function` holds.
    pub fn check(&self, function: &Function) {
        let name = function.name;
        for (path, count, at) in &self.different {
            assert_eq!(*count, 0, "{name} on {path}: results that are not the scalar code's, the first at {at:#010x}");
        }
        assert!(self.normal.error <= function.bound_ulp, "{name}: {} ulp at {:e}", self.normal.error, self.normal.at);
        let (error, at) = (self.subnormal.error, self.subnormal.at);
        assert!(error <= function.bound_subnormal, "{name}: {error} units of 2^-149 at {at:e}");
        for (worst, (low, high, bound)) in self.absolute.iter().zip(function.absolute) {
            assert!(worst.error <= *bound, "{name} in {low} … {high}: off by {:e} at {:e}", worst.error, worst.at);
        }
        assert_eq!(self.wrong_special, 0, "{name}: infinities or NaN that must not be, or are missing");
        assert_eq!(self.other_nan, 0, "{name}: a NaN that is not canonical");
        assert_eq!(self.inversions, 0, "{name}: neighbours in the wrong order");
    }

    /// One line for people.
    pub fn line(&self, function: &Function) -> String {
        let share = |worst: &Worst| 100.0 * worst.not_nearest as f64 / worst.results.max(1) as f64;
        let bits = |x: f32| format!("{x:e} ({:08x})", x.to_bits());
        let mut line = format!(
            "{}: {} inputs; {:.4} ulp at {}, {:.4} % of {} normal results not nearest ({} doubtful)",
            function.name,
            self.inputs,
            self.normal.error,
            bits(self.normal.at),
            share(&self.normal),
            self.normal.results,
            self.doubtful,
        );
        line += &format!(
            "; below the normal range {:.4} × 2^-149 at {}, {:.4} % of {} not nearest",
            self.subnormal.error,
            bits(self.subnormal.at),
            share(&self.subnormal),
            self.subnormal.results,
        );
        for (worst, (low, high, _)) in self.absolute.iter().zip(function.absolute) {
            let (error, at, results) = (worst.error, bits(worst.at), worst.results);
            line += &format!("; in {low} … {high} off by {error:.4e} at {at}, of {results}");
        }
        line += &format!(
            "; wrong special {}, other NaN {}, inversions {}; differing from scalar:",
            self.wrong_special, self.other_nan, self.inversions
        );
        self.different.iter().for_each(|(path, count, _)| line += &format!(" {path} {count}"));
        line
    }
}

/// The spacing of float32 at `value`, a normal one.
pub fn ulp(value: f64) -> f64 {
    let exponent = value.abs().to_bits() >> 52;
    f64::from_bits((exponent - 23) << 52)
}

/// 2⁻¹²⁶ and 2⁻¹⁴⁹.
const NORMAL_MIN: f64 = f32::MIN_POSITIVE as f64;
const SUBNORMAL: f64 = NORMAL_MIN / 8_388_608.0;

/// Whether the oracle's last few bits decide to which float32 it rounds.
fn is_doubtful(truth: f64) -> bool {
    let low = truth.to_bits() & ((1 << 29) - 1);
    low.abs_diff(1 << 28) <= 8
}

fn judge(function: &Function, report: &mut Report, x: f32, y: f32) {
    let truth = (function.truth)(f64::from(x));
    let nearest = truth as f32;
    report.inputs += 1;
    report.other_nan += u64::from(function.canonical && y.is_nan() && y.to_bits() != math::CANONICAL_NAN.to_bits());
    if !truth.is_finite() || !nearest.is_finite() || !y.is_finite() {
        let same = if truth.is_nan() { y.is_nan() } else { y == nearest };
        report.wrong_special += u64::from(!same);
        return;
    }
    let error = (f64::from(y) - truth).abs();
    let is_nearest = y.to_bits() == nearest.to_bits();
    if let Some(range) = function.absolute.iter().position(|&(low, high, _)| low < x && x < high) {
        report.absolute[range].add(error, x, is_nearest);
    } else if truth.abs() < NORMAL_MIN {
        report.subnormal.add(error / SUBNORMAL, x, is_nearest);
    } else {
        report.doubtful += u64::from(is_doubtful(truth));
        report.normal.add(error / ulp(truth), x, is_nearest);
    }
}

/// Whether `b` may follow `a` when the bits of the argument increase by one or more; a change of sign between them is no neighbourhood.
fn in_order(direction: i8, x: [f32; 2], y: [f32; 2]) -> bool {
    if direction == 0 || x[0].is_sign_negative() != x[1].is_sign_negative() || y[0].is_nan() || y[1].is_nan() {
        return true;
    }
    // Larger bits are a larger positive, or a smaller negative number.
    let grows = (direction > 0) != x[0].is_sign_negative();
    if grows { y[0] <= y[1] } else { y[0] >= y[1] }
}

/// Inputs of a block.
const BLOCK: u64 = 1 << 16;

fn measure_block(function: &Function, execs: &[Exec], stride: u32, block: u64) -> Report {
    let total = (1u64 << 32).div_ceil(u64::from(stride));
    // One more than the block, for the order across its end.
    let range = block * BLOCK..((block + 1) * BLOCK + 1).min(total);
    let x: Vec<f32> = range.map(|index| f32::from_bits((index * u64::from(stride)) as u32)).collect();
    let on = |exec: &Exec| {
        let mut y = x.clone();
        (function.apply)(exec, &mut y);
        y
    };
    let y = on(&execs[0]);
    let mut report = Report { absolute: vec![Worst::default(); function.absolute.len()], ..Report::default() };
    for exec in &execs[1..] {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan() && !function.canonical);
        let other = on(exec);
        let mut different = (0..x.len()).filter(|&i| !same(y[i], other[i]));
        let first = different.next();
        let count = first.map_or(0, |_| 1 + different.count() as u64);
        report.different.push((exec.path(), count, first.map_or(0, |i| x[i].to_bits())));
    }
    for i in 0..x.len().min(BLOCK as usize) {
        judge(function, &mut report, x[i], y[i]);
    }
    for i in 1..x.len() {
        report.inversions += u64::from(!in_order(function.direction, [x[i - 1], x[i]], [y[i - 1], y[i]]));
    }
    report
}

/// Measures `function` at every `stride`-th bit pattern on `threads` threads, on the scalar path and every other that this CPU has.
pub fn measure(function: &Function, stride: u32, threads: usize) -> Report {
    measure_part(function, stride, threads, [1, 1])
}

/// As [`measure`], of part `part` (from 1) of `parts` equal ones.
pub fn measure_part(function: &Function, stride: u32, threads: usize, [part, parts]: [u64; 2]) -> Report {
    let blocks = (1u64 << 32).div_ceil(u64::from(stride)).div_ceil(BLOCK);
    let [first, blocks] = [part - 1, part].map(|part| blocks * part / parts);
    let (next, whole) = (AtomicU64::new(first), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let paths = Path::available().into_iter().filter(|&path| path != Path::Scalar);
                let paths = std::iter::once(Path::Scalar).chain(paths);
                let execs: Vec<Exec> = paths.map(|path| Exec::new(path, 1).unwrap()).collect();
                loop {
                    let block = next.fetch_add(1, Ordering::Relaxed);
                    if block >= blocks {
                        return;
                    }
                    let report = measure_block(function, &execs, stride, block);
                    whole.lock().unwrap().merge(report);
                }
            });
        }
    });
    whole.into_inner().unwrap()
}
