//! The operations of [`crate::ops`], [`crate::reduce`] and [`crate::gemm()`] on a device: the same names, the same order of arguments, the same
//! bits.
//!
//! What differs: the first argument is the [`super::Device`]; slices are views of its memory; results of reductions stay on the device, in
//! views of one element; and where an operation needs memory besides, that is an argument (`scratch`), as long as the function named
//! `…_scratch_len` says. Token ids are not checked against the vocabulary, since only the device sees them: a wrong one reads and
//! writes nothing outside the tables, and gives NaN.
//!
//! Lengths are checked as on the CPU, by panics. An operation is queued when its function returns; an error it makes may show later.
//! The functions that end in `_if` take a flag on the device and change nothing when it holds 0.

mod attention;
mod elementwise;
mod embedding;
mod launch;
mod loss;
mod math;
mod moments;
mod norm;
mod optim;
mod product;
mod reduce;
mod rope;
mod squares;

pub use attention::{attention_backward, attention_forward, attention_scratch_len};
pub use elementwise::{
    add, add_assign, axpby, axpby_if, copy, div_assign, fill, lerp, mul_assign, scale, scale_by, scale_into,
    scaled_add, scaled_sum, sqrt_assign, sub, swiglu_backward, swiglu_forward,
};
pub use embedding::{embedding_backward, embedding_forward, embedding_scratch_len};
pub use loss::{cross_entropy_forward_backward, cross_entropy_losses};
pub use math::{exp_slice, log_slice, rsqrt_slice, sigmoid_slice, silu_slice};
pub use moments::{col_means, row_means, span};
pub use norm::{rmsnorm_backward, rmsnorm_forward};
pub use optim::{adamw_update, adamw_update_if, nesterov_update, nesterov_update_if};
pub use product::{ProductKind, gemm, gemm_of_kind, linear_backward_input, linear_backward_weight, linear_forward};
pub use reduce::{
    all_finite, clip_factor, col_sum_squares, col_sums, dot, inverse_norm, max_abs, row_dots, row_sum_squares,
    row_sums, sum, sum_scratch_len, sum_squares,
};
pub use rope::{rope_backward, rope_forward};
pub use squares::{SquaresPlan, sum_squares_each};
