//! Matrix products and linear layers.

use super::launch::{THREADS, launch, size};
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};
use crate::gemm::{GemmShape, Layout};
use crate::ops::LinearShape;

/// What the distance of stored rows stays below: 32 of them, the deepest slice, are counted with 32 bits.
const STRIDE_END: usize = 1 << 27;

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
    c: ViewMut<'_, f32>,
    ldc: usize,
    accumulate: bool,
) -> Result<(), DeviceError> {
    gemm_of_kind(device, None, layout, m, n, k, a, lda, b, ldb, c, ldc, accumulate)
}

/// [`gemm`] by the kernel of that kind; by the one that suits the device and the shape when it is none. The bits are the same.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// As [`gemm`], and when the kind does not take the shape: sizes, strides and addresses that are no multiples of four elements are for
/// [`ProductKind::Any`].
#[allow(clippy::too_many_arguments)]
pub fn gemm_of_kind(
    device: &Device,
    wanted: Option<ProductKind>,
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
    assert!(lda.max(ldb) < STRIDE_END, "leading dimensions {lda} and {ldb} of {shape:?}");
    let pointers = [a.arg(), b.arg(), c.arg()];
    let kind = wanted.unwrap_or_else(|| kind(&shape, pointers, device.info().multiprocessors as usize));
    assert!(kind == ProductKind::Any || takes_vectors(&shape, pointers), "{kind:?} of {shape:?} at {pointers:?}");
    let (kernel, tile) = (kernel(layout, kind), kind.tile());
    let sizes = [m, n, k, lda, ldb, ldc].map(size);
    let args = [&pointers[..], &sizes, &[Arg::U32(u32::from(accumulate))]].concat();
    launch(device, kernel, (m.div_ceil(tile) * n.div_ceil(tile), 1), THREADS, &args)
}

/// Which kernel computes a product. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductKind {
    /// Tiles of 128 × 128.
    Large,
    /// Tiles of 64 × 64, so that small products have work for all multiprocessors.
    Small,
    /// Tiles of 32 × 32: a chain cannot be split, so products with few outputs need many small tiles.
    Tiny,
    /// As small, for sizes, strides or addresses that are no multiples of four elements.
    Any,
}

impl ProductKind {
    /// All of them.
    pub const ALL: [ProductKind; 4] = [ProductKind::Large, ProductKind::Small, ProductKind::Tiny, ProductKind::Any];

    fn tile(self) -> usize {
        match self {
            ProductKind::Large => 128,
            ProductKind::Small | ProductKind::Any => 64,
            ProductKind::Tiny => 32,
        }
    }
}

fn kernel(layout: Layout, kind: ProductKind) -> &'static str {
    match (layout, kind) {
        (Layout::NN, ProductKind::Large) => "essaim_gemm_nn_large",
        (Layout::NN, ProductKind::Small) => "essaim_gemm_nn_small",
        (Layout::NN, ProductKind::Tiny) => "essaim_gemm_nn_tiny",
        (Layout::NN, ProductKind::Any) => "essaim_gemm_nn_any",
        (Layout::NT, ProductKind::Large) => "essaim_gemm_nt_large",
        (Layout::NT, ProductKind::Small) => "essaim_gemm_nt_small",
        (Layout::NT, ProductKind::Tiny) => "essaim_gemm_nt_tiny",
        (Layout::NT, ProductKind::Any) => "essaim_gemm_nt_any",
        (Layout::TN, ProductKind::Large) => "essaim_gemm_tn_large",
        (Layout::TN, ProductKind::Small) => "essaim_gemm_tn_small",
        (Layout::TN, ProductKind::Tiny) => "essaim_gemm_tn_tiny",
        (Layout::TN, ProductKind::Any) => "essaim_gemm_tn_any",
    }
}

/// Whether the kernels that read four elements at a time take the product.
fn takes_vectors(shape: &GemmShape, pointers: [Arg; 3]) -> bool {
    let GemmShape { layout, m, n, lda, ldb, ldc, .. } = *shape;
    let aligned = pointers.iter().all(|pointer| matches!(pointer, Arg::Address(address) if address % 16 == 0));
    // Where rows of C are contiguous in an operand, they are read four at a time to the end: then their number matters too.
    let a_rows = if layout == Layout::TN { m } else { 4 };
    aligned && [lda, ldb, ldc, n, a_rows].iter().all(|value| value.is_multiple_of(4))
}

fn kind(shape: &GemmShape, pointers: [Arg; 3], multiprocessors: usize) -> ProductKind {
    let GemmShape { m, n, .. } = *shape;
    if !takes_vectors(shape, pointers) {
        return ProductKind::Any;
    }
    // The multiprocessor with most tiles is done last: its work, over the rate at which it does it.
    let cost = |(kind, percent): (ProductKind, usize)| {
        let side = kind.tile();
        let tiles = m.div_ceil(side) * n.div_ceil(side);
        (tiles.div_ceil(multiprocessors.max(1)) * side * side * 100 / percent, kind)
    };
    let kinds = RATES.map(cost);
    kinds.into_iter().min_by_key(|(cost, _)| *cost).map_or(ProductKind::Large, |(_, kind)| kind)
}

/// Kinds, and the share of a multiprocessor's peak that they are assumed to reach, in percent.
const RATES: [(ProductKind, usize); 3] = [(ProductKind::Large, 92), (ProductKind::Small, 75), (ProductKind::Tiny, 35)];

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
