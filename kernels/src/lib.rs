//! Exact float32 arithmetic: the same bits on every machine.
//!
//! Everything here implements the numerics id [`NUMERICS_ID`], whose normative text is `SEMANTICS.md` in this crate's folder.
//! The scalar code under `reference/` *is* the semantics in executable form; every other [`Path`] is a faster way to the
//! same bits, and the tests compare them with `==`.
//!
//! The crate knows nothing of models or networks. Tensors are row-major `&[f32]` slices; an operation checks the lengths of its
//! slices and panics on a mismatch, since that is a bug of the caller and never the fault of outside data.
//!
//! ```
//! use essaim_kernels::{Exec, Layout, Path, gemm};
//!
//! // The same bits from the fastest path on two threads as from the scalar reference on one.
//! let (a, b) = (vec![0.1f32; 5 * 7], vec![0.3f32; 7 * 4]);
//! let product = |exec: &Exec| {
//!     let mut c = vec![0.0f32; 5 * 4];
//!     gemm(exec, Layout::NN, 5, 4, 7, &a, 7, &b, 4, &mut c, 4, false);
//!     c
//! };
//! assert_eq!(product(&Exec::detect(2)?), product(&Exec::new(Path::Scalar, 1)?));
//! # Ok::<(), essaim_kernels::ExecError>(())
//! ```
//!
//! Where to start: [`Exec`] (which path, how many threads), [`ops`] (what a Llama needs), [`gemm()`], [`reduce`], [`math`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cpu;
pub mod cuda;
mod exec;
mod fma;
mod gemm;
pub mod math;
pub mod ops;
mod peak;
mod platform;
pub mod reduce;
mod reference;
pub mod scalar64;
mod scratch;
mod selftest;

pub use exec::{Exec, ExecError, THREADS_MAX};
pub use fma::fma_exact;
pub use gemm::{Layout, gemm, row_stride};
pub use peak::fma_flops_per_s;
pub use platform::{ParsePathError, Path};
pub use scratch::ScratchSize;
pub use selftest::{SelfTestError, self_test};

/// The name of this arithmetic, as it stands in a run's manifest. Any change of a single bit is a new name.
pub const NUMERICS_ID: &str = "f32-exact/1";
