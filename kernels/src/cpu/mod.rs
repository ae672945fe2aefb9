//! The fast paths: one generic body for each operation, compiled once for any CPU and once for each set of vector instructions.

mod ahead;
mod isa;
mod micro;
mod pack;
mod rows;
mod scratch;

pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod loss;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod reduce;
pub(crate) mod rope;

pub(crate) use isa::Isa;
pub(crate) use scratch::{Shared, with_sums};
