//! The fast paths: one generic body for each operation, compiled once for any CPU and once for each set of vector instructions.

mod ahead;
mod blocking;
mod isa;
mod micro;
mod pack;
mod rows;
mod scratch;

pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod reduce;
pub(crate) mod rope;

pub(crate) use ahead::LINE;
pub use blocking::row_stride;
pub(crate) use blocking::scratch_len as gemm_scratch_len;
pub(crate) use isa::Isa;
#[cfg(test)]
pub(crate) use scratch::held;
pub(crate) use scratch::{Shared, with_sums};
