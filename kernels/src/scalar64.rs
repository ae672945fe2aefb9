//! Scalars in float64: schedules, bias corrections, rotary angles.
//!
//! The functions are those of the `libm` crate, pinned to one version and built without its architecture-specific code, so that they are
//! sequences of float64 additions, multiplications and divisions, and give the same bits everywhere. The standard library's
//! `f64::sin` and its like call the system's C library, which differs between systems: never use those where a bit may matter.

pub use libm::{cos, exp, log, pow, sin, sqrt};
