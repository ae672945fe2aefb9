//! The device's buffers for one pass through the model: allocated once, cut to the tokens of each micro-batch.
//!
//! As [`crate::model`]'s workspace, field for field, but that each set is one allocation, whose fields begin at multiples of 256 bytes.

use crate::config::ModelShape;
use essaim_kernels::cuda::{Buffer, Device, DeviceError, ViewMut};

/// Elements between two places where a field may begin.
const ALIGNMENT: usize = 64;

/// Elements of a tile of logits, unless [`TILE_TOKENS_MIN`] tokens take more: 128 MiB.
const TILE: usize = 32 << 20;
/// Fewest tokens in a tile of logits, and what their number is a multiple of: rows of a block of threads' part of a product.
const TILE_TOKENS_MIN: usize = 128;

/// Tokens whose logits are in memory at once, for a workspace of `tokens`.
pub(super) fn tile_tokens(shape: &ModelShape, tokens: usize) -> usize {
    ((TILE / shape.vocab / TILE_TOKENS_MIN).max(1) * TILE_TOKENS_MIN).min(tokens)
}

/// Where the field after one of `len` elements may begin.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}

/// Defines a set of float buffers of `width(shape) · tokens` elements each, and its view for a number of tokens.
macro_rules! fields {
    ($(#[$doc:meta])* $name:ident, $view:ident, |$shape:ident| { $($(#[$field_doc:meta])* $field:ident: $width:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name {
            buffer: Buffer<f32>,
            tokens_max: usize,
        }

        #[doc = concat!("[`", stringify!($name), "`], cut to the tokens of a pass.")]
        pub(super) struct $view<'a> {
            $($(#[$field_doc])* pub(super) $field: ViewMut<'a, f32>,)*
        }

        impl $name {
            /// Buffers for up to `tokens_max` tokens.
            pub(super) fn new(device: &Device, shape: &ModelShape, tokens_max: usize) -> Result<$name, DeviceError> {
                Ok($name { buffer: device.buffer($name::len(shape, tokens_max))?, tokens_max })
            }

            /// The parts that `tokens` tokens take.
            ///
            /// # Panics
            /// When there are more than the buffers hold.
            pub(super) fn cut(&mut self, $shape: &ModelShape, tokens: usize) -> $view<'_> {
                assert!(tokens <= self.tokens_max, "{tokens} tokens where {} have room", self.tokens_max);
                let rest = self.buffer.view_mut(..);
                $(
                    let width = $width;
                    let (field, rest) = rest.split_at(padded(width * self.tokens_max));
                    let $field = field.range(..width * tokens);
                )*
                debug_assert!(rest.is_empty());
                $view { $($field,)* }
            }

            /// Elements of all of them.
            pub(super) fn len($shape: &ModelShape, tokens_max: usize) -> usize {
                [$($width),*].map(|width| padded(width * tokens_max)).iter().sum()
            }
        }
    };
}

fields! {
    /// What one block keeps for its backward pass.
    BlockBuffers, BlockView, |shape| {
        /// The stream that enters the block `[tokens, d_model]`.
        stream: shape.d_model,
        /// Inverse root mean squares of the stream `[tokens]`.
        attention_rstd: 1,
        /// The stream, normed `[tokens, d_model]`.
        attention_in: shape.d_model,
        /// Queries, rotated `[tokens, d_model]`.
        q: shape.d_model,
        /// Keys, rotated `[tokens, kv_width]`.
        k: shape.kv_width(),
        /// Values `[tokens, kv_width]`.
        v: shape.kv_width(),
        /// Attention's output, before its projection `[tokens, d_model]`.
        attention_out: shape.d_model,
        /// Statistics of attention's softmax `[batch, heads, seq, 2]`.
        stats: 2 * shape.heads,
        /// The stream after attention `[tokens, d_model]`.
        middle: shape.d_model,
        /// Inverse root mean squares of the middle `[tokens]`.
        ffn_rstd: 1,
        /// The middle, normed `[tokens, d_model]`.
        ffn_in: shape.d_model,
        /// Gate `[tokens, ffn]`.
        gate: shape.ffn,
        /// Up `[tokens, ffn]`.
        up: shape.ffn,
        /// `silu(gate) ∘ up` `[tokens, ffn]`.
        activation: shape.ffn,
    }
}

fields! {
    /// What is shared by all blocks.
    SharedBuffers, SharedView, |shape| {
        /// The stream that leaves the last block `[tokens, d_model]`.
        stream: shape.d_model,
        /// Its inverse root mean squares `[tokens]`.
        rstd: 1,
        /// The last stream, normed `[tokens, d_model]`.
        normed: shape.d_model,
        /// Forward: a projection before it is added to the stream. Backward: gradient of what a norm gave, or of
        /// attention's output. `[tokens, d_model]`
        narrow: shape.d_model,
    }
}

fields! {
    /// Scratch of the backward pass.
    GradientBuffers, GradientView, |shape| {
        /// Gradient of the stream `[tokens, d_model]`.
        stream: shape.d_model,
        /// Gradient of the queries `[tokens, d_model]`.
        q: shape.d_model,
        /// Gradient of the keys `[tokens, kv_width]`.
        k: shape.kv_width(),
        /// Gradient of the values `[tokens, kv_width]`.
        v: shape.kv_width(),
        /// Gradient of the activation `[tokens, ffn]`.
        activation: shape.ffn,
        /// Gradient of the gate `[tokens, ffn]`.
        gate: shape.ffn,
        /// Gradient of up `[tokens, ffn]`.
        up: shape.ffn,
    }
}
