//! Matrix products and linear layers.

use super::launch::{THREADS, launch, size};
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};
use crate::gemm::{GemmShape, Layout};
use crate::ops::LinearShape;

/// Longest distance of stored rows that the kernels count with 32 bits.
const STRIDE_MAX: usize = 1 << 27;

/// `C[m, n] = op(A)[m, k] · op(B)[k, n]`, or `C +=` it when `accumulate`: [`crate::gemm()`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a view is too short for its matrix, or a leading dimension is shorter than a row.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    device: &Device,
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
    a: View<'_, f32>,
    lda: usize,
    b: View<'_, f32>,
    ldb: usize,
    mut c: ViewMut<'_, f32>,
    ldc: usize,
    accumulate: bool,
) -> Result<(), DeviceError> {
    let shape = GemmShape { layout, m, n, k, lda, ldb, ldc, accumulate };
    shape.check(a.len(), b.len(), c.len());
    if m == 0 || n == 0 || (k == 0 && accumulate) {
        return Ok(());
    }
    assert!(lda.max(ldb) <= STRIDE_MAX, "leading dimensions {lda} and {ldb} of {shape:?}");
    let pointers = [a.arg(), b.arg(), c.arg()];
    let kind = kind(&shape, pointers, device.info().multiprocessors as usize);
    let (kernel, tile) = (kernel(layout, kind), kind.tile());
    let sizes = [m, n, k, lda, ldb, ldc].map(size);
    let args = [&pointers[..], &sizes, &[Arg::U32(u32::from(accumulate))]].concat();
    launch(device, kernel, (m.div_ceil(tile) * n.div_ceil(tile), 1), THREADS, &args)
}

/// Which kernel computes a product. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Tiles of 128 × 128.
    Large,
    /// Tiles of 64 × 64, so that small products have work for all multiprocessors.
    Small,
    /// Tiles of 32 × 32: a chain cannot be split, so products with few outputs need many small tiles.
    Tiny,
    /// As small, for sizes, strides or addresses that are no multiples of four elements.
    Any,
}

impl Kind {
    fn tile(self) -> usize {
        match self {
            Kind::Large => 128,
            Kind::Small | Kind::Any => 64,
            Kind::Tiny => 32,
        }
    }
}

fn kernel(layout: Layout, kind: Kind) -> &'static str {
    match (layout, kind) {
        (Layout::NN, Kind::Large) => "essaim_gemm_nn_large",
        (Layout::NN, Kind::Small) => "essaim_gemm_nn_small",
        (Layout::NN, Kind::Tiny) => "essaim_gemm_nn_tiny",
        (Layout::NN, Kind::Any) => "essaim_gemm_nn_any",
        (Layout::NT, Kind::Large) => "essaim_gemm_nt_large",
        (Layout::NT, Kind::Small) => "essaim_gemm_nt_small",
        (Layout::NT, Kind::Tiny) => "essaim_gemm_nt_tiny",
        (Layout::NT, Kind::Any) => "essaim_gemm_nt_any",
        (Layout::TN, Kind::Large) => "essaim_gemm_tn_large",
        (Layout::TN, Kind::Small) => "essaim_gemm_tn_small",
        (Layout::TN, Kind::Tiny) => "essaim_gemm_tn_tiny",
        (Layout::TN, Kind::Any) => "essaim_gemm_tn_any",
    }
}

fn kind(shape: &GemmShape, pointers: [Arg; 3], multiprocessors: usize) -> Kind {
    let GemmShape { layout, m, n, lda, ldb, ldc, .. } = *shape;
    let aligned = pointers.iter().all(|pointer| matches!(pointer, Arg::Address(address) if address % 16 == 0));
    // Where rows of C are contiguous in an operand, they are read four at a time to the end: then their number matters too.
    let a_rows = if layout == Layout::TN { m } else { 4 };
    if !aligned || [lda, ldb, ldc, n, a_rows].iter().any(|value| !value.is_multiple_of(4)) {
        return Kind::Any;
    }
    // The multiprocessor with most tiles is done last: its work, over the rate at which it does it.
    let cost = |(kind, percent): (Kind, usize)| {
        let side = kind.tile();
        let tiles = m.div_ceil(side) * n.div_ceil(side);
        (tiles.div_ceil(multiprocessors.max(1)) * side * side * 100 / percent, kind)
    };
    let kinds = RATES.map(cost);
    kinds.into_iter().min_by_key(|(cost, _)| *cost).map_or(Kind::Large, |(_, kind)| kind)
}

/// Kinds, and the share of a multiprocessor's peak that they are assumed to reach, in percent.
const RATES: [(Kind, usize); 3] = [(Kind::Large, 92), (Kind::Small, 75), (Kind::Tiny, 35)];

/// `y[tokens, out] = x[tokens, in] · w[out, in]ᵀ`: [`crate::ops::linear_forward`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a view does not have the shape's length.
pub fn linear_forward(
    device: &Device,
    shape: LinearShape,
    x: View<'_, f32>,
    w: View<'_, f32>,
    y: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    shape.check(x.len(), w.len(), y.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(device, Layout::NT, tokens, outputs, inputs, x, inputs, w, inputs, y, outputs, false)
}

/// `dx[tokens, in] (+)= dy[tokens, out] · w[out, in]`: [`crate::ops::linear_backward_input`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a view does not have the shape's length.
pub fn linear_backward_input(
    device: &Device,
    shape: LinearShape,
    dy: View<'_, f32>,
    w: View<'_, f32>,
    dx: ViewMut<'_, f32>,
    accumulate: bool,
) -> Result<(), DeviceError> {
    shape.check(dx.len(), w.len(), dy.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(device, Layout::NN, tokens, inputs, outputs, dy, outputs, w, inputs, dx, inputs, accumulate)
}

/// `dw[out, in] += dy[tokens, out]ᵀ · x[tokens, in]`: [`crate::ops::linear_backward_weight`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a view does not have the shape's length.
pub fn linear_backward_weight(
    device: &Device,
    shape: LinearShape,
    dy: View<'_, f32>,
    x: View<'_, f32>,
    dw: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    shape.check(x.len(), dw.len(), dy.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(device, Layout::TN, outputs, inputs, tokens, dy, outputs, x, inputs, dw, inputs, true)
}
