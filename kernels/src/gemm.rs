//! Matrix product, every output one chain of fused multiply-adds.

use crate::cpu::Shared;
use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

pub use crate::cpu::row_stride;

/// How the operands of a product are stored, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A is stored `[m, k]`, B `[k, n]`.
    NN,
    /// A is stored `[m, k]`, B `[n, k]`.
    NT,
    /// A is stored `[k, m]`, B `[k, n]`.
    TN,
}

/// A product's sizes and leading dimensions, as checked by [`gemm`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct GemmShape {
    pub(crate) layout: Layout,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) lda: usize,
    pub(crate) ldb: usize,
    pub(crate) ldc: usize,
    pub(crate) accumulate: bool,
}

impl GemmShape {
    /// Panics unless the slices hold the matrices.
    pub(crate) fn check(&self, a_len: usize, b_len: usize, c_len: usize) {
        let holds = |name: &str, rows: usize, cols: usize, stride: usize, len: usize| {
            assert!(stride >= cols || rows <= 1, "{name}: leading dimension {stride} below the {cols} columns");
            // Unsafe code relies on this check: a size that wraps around must not pass it.
            let last = rows.saturating_sub(1).checked_mul(stride).and_then(|start| start.checked_add(cols));
            let needed = if rows == 0 || cols == 0 { 0 } else { last.unwrap_or(usize::MAX) };
            assert!(len >= needed, "{name}: {len} elements, but {rows} × {cols} at stride {stride} needs {needed}");
        };
        match self.layout {
            Layout::NN | Layout::NT => holds("A", self.m, self.k, self.lda, a_len),
            Layout::TN => holds("A", self.k, self.m, self.lda, a_len),
        }
        match self.layout {
            Layout::NN | Layout::TN => holds("B", self.k, self.n, self.ldb, b_len),
            Layout::NT => holds("B", self.n, self.k, self.ldb, b_len),
        }
        holds("C", self.m, self.n, self.ldc, c_len);
    }
}

/// `C[m, n] = op(A)[m, k] · op(B)[k, n]`, or `C +=` it when `accumulate`.
///
/// Every output is `fma(a_ip, b_pj, …)` over `p` in increasing order, starting from +0, or from the output itself when
/// accumulating. `lda`, `ldb`, `ldc` are the distances in elements between stored rows. With `k == 0` the output becomes +0, or stays
/// when accumulating.
///
/// # Panics
/// When a slice is too short for its matrix, or a leading dimension is shorter than a row.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    exec: &Exec,
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let shape = GemmShape { layout, m, n, k, lda, ldb, ldc, accumulate };
    shape.check(a.len(), b.len(), c.len());
    match exec.path() {
        Path::Scalar => reference::gemm::gemm(&shape, a, b, c),
        _ => crate::cpu::gemm::gemm(exec, &shape, a, b, Shared::new(c.as_mut_ptr())),
    }
}
