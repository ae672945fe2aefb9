//! The fast paths: one generic body for each operation, compiled once for any CPU and once for AVX2 with FMA.

mod isa;

pub(crate) mod elementwise;
pub(crate) mod math;
