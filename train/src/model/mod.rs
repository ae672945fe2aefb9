//! The model: a Llama (RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases), forward and backward.
//!
//! No autograd and no tensor library: each operator is a call of [`essaim_kernels::ops`] on slices of buffers that are
//! allocated once. The order of the calls is part of the numerics id, since it fixes every chain and every rounding:
//!
//! ```text
//! stream = embedding[tokens]
//! each block:  a = rmsnorm(stream);  q, k, v = a·Wqᵀ, a·Wkᵀ, a·Wvᵀ;  rotate q and k
//!              middle = stream + attention(q, k, v)·Woᵀ                 product rounded, then the sum
//!              b = rmsnorm(middle);  h = silu(b·Wgateᵀ) ∘ (b·Wupᵀ)
//!              stream = middle + h·Wdownᵀ
//! logits = rmsnorm(stream)·Wheadᵀ;  loss of each token = cross entropy, nats
//! ```
//!
//! Backward is the reverse, operator by operator. Where several products flow into one gradient they continue one chain: first
//! gate, then up; first q, then k, then v. The gradient that a norm sends to the stream is rounded, then added.
//! Weight gradients are chains over the tokens of the whole batch, in order, continued in the caller's buffer: so cutting a batch
//! between sequences changes no bit, and neither does the tile of tokens in which logits are processed.
//!
//! [`Model`] trains; [`Evaluator`] measures and predicts with a fraction of the memory.

mod block;
mod evaluator;
mod head;
mod pass;
mod profile;
mod training;
mod workspace;

pub use evaluator::Evaluator;
pub use profile::{Direction, Matrix, Operator, Profile};
pub use training::Model;
