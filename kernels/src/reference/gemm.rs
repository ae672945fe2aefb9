//! Matrix product: every output is one chain of fused multiply-adds over `k` in increasing order.

use crate::gemm::{GemmShape, Layout};

/// `C (+)= op(A) op(B)`. The chain starts from the output itself when accumulating, else from +0.
pub(crate) fn gemm(shape: &GemmShape, a: &[f32], b: &[f32], c: &mut [f32]) {
    for i in 0..shape.m {
        for j in 0..shape.n {
            let mut sum = if shape.accumulate { c[i * shape.ldc + j] } else { 0.0 };
            for p in 0..shape.k {
                let x = match shape.layout {
                    Layout::NN | Layout::NT => a[i * shape.lda + p],
                    Layout::TN => a[p * shape.lda + i],
                };
                let y = match shape.layout {
                    Layout::NN | Layout::TN => b[p * shape.ldb + j],
                    Layout::NT => b[j * shape.ldb + p],
                };
                sum = x.mul_add(y, sum);
            }
            c[i * shape.ldc + j] = sum;
        }
    }
}
