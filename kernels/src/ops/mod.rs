//! What a Llama needs, forward and backward, and what its optimisers need.
//!
//! Every operation takes the [`Exec`](crate::Exec) first. Shapes stand in the docs as `[rows, columns]`; slices are row-major, and
//! dense unless a distance of rows is given.
//! "Continues a chain" means that the output holds a running sum which the operation extends in order: so a batch may be cut
//! into micro-batches anywhere between sequences without changing a bit.

mod attention;
mod elementwise;
mod embedding;
mod linear;
mod loss;
mod norm;
mod optim;
mod rope;
mod swiglu;

pub(crate) use attention::AttentionStrides;
pub use attention::{
    AttentionShape, attention_backward, attention_backward_joint, attention_forward, attention_forward_joint,
};
pub use elementwise::{add, add_assign, axpby, div_assign, lerp, mul_assign, scale, scaled_add, sqrt_assign, sub};
pub use embedding::{embedding_backward, embedding_forward};
pub use linear::{
    LinearShape, LinearStrides, LinearTimes, linear_backward_input, linear_backward_input_strided,
    linear_backward_strided, linear_backward_weight, linear_backward_weight_strided, linear_forward,
    linear_forward_strided,
};
pub use loss::{
    cross_entropy_forward_backward, cross_entropy_forward_backward_strided, cross_entropy_losses,
    cross_entropy_losses_strided,
};
pub use norm::{add_rmsnorm_forward, rmsnorm_backward, rmsnorm_forward};
pub use optim::{AdamwScalars, NesterovScalars, adamw_update, nesterov_update};
pub use rope::{RopeShape, rope_backward, rope_backward_strided, rope_forward, rope_forward_strided, rope_tables};
pub use swiglu::{SwigluShape, swiglu_backward, swiglu_backward_joint, swiglu_forward, swiglu_forward_joint};
