//! Text from a checkpoint: `essaim generate`. The forward pass is candle's, in ordinary float32, so its bits are not
//! those of `f32-exact/1`; nothing in a run depends on them.

pub mod config;
pub mod model;
pub mod sampler;
pub mod text;

pub use model::{GenerateError, Llama, Session};
pub use sampler::{Sampler, Sampling};
pub use text::{Generated, Request, generate};
