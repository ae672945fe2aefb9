//! The semantics in executable form: plain scalar loops, one thread, nothing clever. SEMANTICS.md says the same in words.

pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod embedding;
pub(crate) mod gemm;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod reduce;
pub(crate) mod rope;
