//! The operations of [`crate::ops`], [`crate::reduce`] and [`crate::gemm()`] on a device: the same names, the same order of arguments, the same
//! bits.
