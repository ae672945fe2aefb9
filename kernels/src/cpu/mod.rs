//! The fast paths: one generic body for each operation, compiled once for any CPU and once for AVX2 with FMA.

mod isa;
mod micro;
mod pack;
mod scratch;

pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod math;
