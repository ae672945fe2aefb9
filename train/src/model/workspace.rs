//! The model's buffers: allocated once, cut to the tokens of each pass.
//!
//! **Memory.** With `t` tokens in a micro-batch, `d = d_model`, `h = heads`, and rows of `q = row_stride(d + 2 kv_width)`, `g = row_stride(2 ffn)` and
//! `f = row_stride(ffn)`, a training workspace holds
//! `t · layers · (5d + q + g + f + 2h + 2)` floats that the backward pass needs, `t · (4d + q + g + f + 1)` more of scratch,
//! one tile of logits `[tile, row_stride(vocab)]` (8 MiB where that is 512 tokens or more, else at most 128 MiB, unless 256 tokens take more), the
//! rotary tables `[context, head_dim]`, and `2t` token ids; a tied model also the head's gradient `[vocab, d]`. An evaluation's is that of a model with one layer.
//!
//! Beside it the CPU's kernels keep scratch, bounded by the kernels' [`ScratchSize`] over all products and the attention of a micro-batch: at most about
//! `max(2²⁰ + 32k, 512k)` floats of a packed operand, `k` the longest chain that is packed, on the thread that calls and, where gradients
//! are taken in turns, on each other; and on each thread up to 100,800 of the
//! other operand and attention's packed heads, `3 · context · head_dim + 224 · (context + head_dim + 16)` where these are multiples of 32.

use super::profile::{MATRICES, Matrix};
use crate::config::ModelShape;
use essaim_kernels::ops::{AttentionShape, LinearShape, LinearStrides};
use essaim_kernels::{ScratchSize, row_stride};

/// Elements of a tile of logits, unless [`TILE_TOKENS_MIN`] tokens take more.
const TILE: usize = 32 << 20;
/// Elements of a tile that the third-level cache of most machines holds: the products and the loss of a tile then read what was just written.
const TILE_CACHED: usize = 2 << 20;
/// Fewest tokens in a tile that is made smaller so that it stays in the cache: each tile packs the whole head anew, twice.
const TILE_CACHED_TOKENS_MIN: usize = 512;
/// Fewest tokens in a tile of logits. Each tile reads the whole head and its gradient: with 64 tokens the head took 1.6 times as
/// long as with 512.
const TILE_TOKENS_MIN: usize = 256;

/// Tokens whose logits are in memory at once, for a workspace of `tokens`.
pub(crate) fn tile_tokens(shape: &ModelShape, tokens: usize) -> usize {
    let tile = match TILE_CACHED / shape.vocab {
        cached if cached >= TILE_CACHED_TOKENS_MIN => cached,
        _ => (TILE / shape.vocab).max(TILE_TOKENS_MIN),
    };
    tile.min(tokens)
}

/// Defines a set of float buffers of `width(shape) · tokens` elements each, and its view for a number of tokens.
macro_rules! buffers {
    ($(#[$doc:meta])* $name:ident, $view:ident, |$shape:ident| { $($(#[$field_doc:meta])* $field:ident: $width:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $($(#[$field_doc])* $field: Vec<f32>,)*
        }

        #[doc = concat!("[`", stringify!($name), "`], cut to the tokens of a pass.")]
        pub(crate) struct $view<'a> {
            $($(#[$field_doc])* pub(crate) $field: &'a mut [f32],)*
        }

        impl $name {
            /// Buffers for up to `tokens` tokens.
            pub(crate) fn new($shape: &ModelShape, tokens: usize) -> $name {
                $name { $($field: vec![0.0; $width * tokens],)* }
            }

            /// The parts that `tokens` tokens take.
            ///
            /// # Panics
            /// When there are more than the buffers hold.
            pub(crate) fn cut(&mut self, $shape: &ModelShape, tokens: usize) -> $view<'_> {
                $view { $($field: &mut self.$field[..$width * tokens],)* }
            }

            /// Elements of all buffers.
            #[cfg(test)]
            pub(crate) fn elements(&self) -> usize {
                [$(self.$field.len()),*].iter().sum()
            }

            /// Elements for each token, over all buffers.
            pub(crate) fn width($shape: &ModelShape) -> usize {
                [$($width),*].iter().sum()
            }
        }
    };
}

buffers! {
    /// What one block keeps for its backward pass.
    BlockBuffers, BlockView, |shape| {
        /// The stream that enters the block `[tokens, d_model]`.
        stream: shape.d_model,
        /// Inverse root mean squares of the stream `[tokens]`.
        attention_rstd: 1,
        /// The stream, normed `[tokens, d_model]`.
        attention_in: shape.d_model,
        /// Queries and keys, rotated, and values `[tokens, row_stride(d_model + 2 kv_width)]`.
        qkv: row_stride(Matrix::Qkv.sizes(shape).1),
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
        /// Gate and up `[tokens, row_stride(2 ffn)]`.
        gate_up: row_stride(Matrix::GateUp.sizes(shape).1),
        /// `silu(gate) ∘ up` `[tokens, row_stride(ffn)]`.
        activation: row_stride(shape.ffn),
    }
}

buffers! {
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

buffers! {
    /// Scratch of the backward pass.
    GradientBuffers, GradientView, |shape| {
        /// Gradient of the stream `[tokens, d_model]`.
        stream: shape.d_model,
        /// Gradient of queries, keys and values `[tokens, row_stride(d_model + 2 kv_width)]`.
        qkv: row_stride(Matrix::Qkv.sizes(shape).1),
        /// Gradient of the activation `[tokens, row_stride(ffn)]`.
        activation: row_stride(shape.ffn),
        /// Gradient of gate and up `[tokens, row_stride(2 ffn)]`.
        gate_up: row_stride(Matrix::GateUp.sizes(shape).1),
    }
}

/// Bytes of a training workspace for micro-batches of `batch` sequences.
pub(crate) fn training_bytes(shape: &ModelShape, batch: usize) -> u64 {
    let tokens = batch as u64 * shape.context as u64;
    let blocks = shape.layers as u64 * BlockBuffers::width(shape) as u64;
    let scratch = (SharedBuffers::width(shape) + GradientBuffers::width(shape)) as u64;
    let tile =
        tile_tokens(shape, usize::try_from(tokens).unwrap_or(usize::MAX)) as u64 * row_stride(shape.vocab) as u64;
    let tables = shape.context as u64 * shape.head_dim as u64;
    let tied_head = if shape.tied { shape.vocab as u64 * shape.d_model as u64 } else { 0 };
    4 * (tokens * (blocks + scratch + 2) + tile + tables + tied_head)
}

/// What the kernels keep for themselves while micro-batches of `batch` sequences are trained on.
pub(crate) fn training_scratch(shape: &ModelShape, batch: usize) -> ScratchSize {
    let ModelShape { context: seq, heads, kv_heads, head_dim, .. } = *shape;
    let attention = ScratchSize::attention(AttentionShape { batch, seq, heads, kv_heads, head_dim });
    let all_tokens = batch.saturating_mul(seq);
    let layer = |matrix: Matrix| {
        let (inputs, outputs) = matrix.sizes(shape);
        let (tokens, strides) = match matrix {
            Matrix::Head => (tile_tokens(shape, all_tokens), LinearStrides { x: inputs, y: row_stride(outputs) }),
            Matrix::Qkv | Matrix::GateUp => (all_tokens, LinearStrides { x: inputs, y: row_stride(outputs) }),
            Matrix::Down => (all_tokens, LinearStrides { x: row_stride(inputs), y: outputs }),
            _ => (all_tokens, LinearStrides { x: inputs, y: outputs }),
        };
        ScratchSize::linear(LinearShape { tokens, inputs, outputs }, strides)
    };
    MATRICES.map(layer).into_iter().fold(attention, ScratchSize::or)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn widths_are_those_of_the_documented_formula() {
        let shape = ModelShape::from(&config([64, 24, 3, 4, 2, 48, 16], true));
        let (d, q, g, f, h) = (24, 24 + 2 * 12, 2 * 48, 48, 4);
        assert_eq!(BlockBuffers::width(&shape), 5 * d + q + g + f + 2 * h + 2);
        assert_eq!(SharedBuffers::width(&shape) + GradientBuffers::width(&shape), 4 * d + q + g + f + 1);
        let (tokens, tile, tables, head) = (32, 32 * 64, 16 * 6, 64 * 24);
        let floats = tokens * (3 * (5 * d + q + g + f + 2 * h + 2) + 4 * d + q + g + f + 3) + tile + tables + head;
        assert_eq!(training_bytes(&shape, 2), 4 * floats as u64);
    }

    #[test]
    fn buffers_are_cut_to_the_tokens_of_a_pass() {
        let shape = ModelShape::from(&config([64, 24, 3, 4, 2, 48, 16], false));
        let mut buffers = BlockBuffers::new(&shape, 32);
        let view = buffers.cut(&shape, 5);
        assert_eq!((view.stream.len(), view.qkv.len(), view.stats.len()), (5 * 24, 5 * 48, 5 * 8));
    }

    #[test]
    fn a_tile_of_logits_is_bounded_unless_the_vocabulary_is_huge() {
        let tile = |vocab, tokens| tile_tokens(&ModelShape::from(&config([vocab, 24, 3, 4, 2, 48, 16], false)), tokens);
        assert_eq!(tile(4096, 16384), 512);
        assert_eq!(tile(4096, 100), 100);
        assert_eq!(tile(4097, 16384), 8190);
        assert_eq!(tile(1 << 20, 8192), 256);
    }
}
