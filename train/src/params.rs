//! Where each parameter lives: one flat `Vec<f32>`, tensor after tensor in a fixed order.
//!
//! Parameters, gradients, momenta, the checkpoint file and the update codec all use this order:
//! `model.embed_tokens.weight`, then for each block `input_layernorm`, `q_proj`, `k_proj`, `v_proj`, `o_proj`,
//! `post_attention_layernorm`, `gate_proj`, `up_proj`, `down_proj`, then `model.norm.weight`, then `lm_head.weight` unless
//! the head is tied to the embedding. Names are Hugging Face's for a Llama; matrices are row-major `[out, in]`.

use crate::config::ModelShape;
use essaim_protocol::manifest::ModelConfig;
use std::ops::Range;

/// What a tensor is to the optimiser and to initialisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorKind {
    /// The embedding `[vocab, d_model]`; also the head when tied.
    Embedding,
    /// A hidden matrix `[out, in]`.
    Matrix,
    /// A vector of RMSNorm gains `[d_model]`.
    Norm,
    /// An output head of its own, `[vocab, d_model]`.
    Head,
}

/// One tensor of the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face's name.
    pub name: String,
    /// What it is.
    pub kind: TensorKind,
    /// Its rows; 1 for a vector.
    pub rows: usize,
    /// Its columns; the length of a vector.
    pub cols: usize,
    /// Index of its first element in the flat vector.
    pub offset: usize,
}

impl TensorSpec {
    /// How many elements it has; never zero.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Its part of the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }

    /// Its shape in the checkpoint file: `[cols]` for a vector, `[rows, cols]` for a matrix.
    pub fn shape(&self) -> Vec<usize> {
        match self.kind {
            TensorKind::Norm => vec![self.cols],
            TensorKind::Embedding | TensorKind::Matrix | TensorKind::Head => vec![self.rows, self.cols],
        }
    }
}

/// The tensors of one block, as ranges of the flat vector. Rows are outputs, columns inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockRanges {
    /// Gains before attention `[d_model]`.
    pub(crate) attention_norm: Range<usize>,
    /// Queries `[d_model, d_model]`.
    pub(crate) q: Range<usize>,
    /// Keys `[kv_width, d_model]`.
    pub(crate) k: Range<usize>,
    /// Values `[kv_width, d_model]`.
    pub(crate) v: Range<usize>,
    /// Attention's output `[d_model, d_model]`.
    pub(crate) o: Range<usize>,
    /// Gains before the feed-forward layer `[d_model]`.
    pub(crate) ffn_norm: Range<usize>,
    /// Gate `[ffn, d_model]`.
    pub(crate) gate: Range<usize>,
    /// Up `[ffn, d_model]`.
    pub(crate) up: Range<usize>,
    /// Down `[d_model, ffn]`.
    pub(crate) down: Range<usize>,
}

impl BlockRanges {
    /// Queries, keys and values, which lie one after the other: one matrix `[d_model + 2 kv_width, d_model]`.
    pub(crate) fn qkv(&self) -> Range<usize> {
        self.q.start..self.v.end
    }

    /// Gate and up likewise: `[2 ffn, d_model]`.
    pub(crate) fn gate_up(&self) -> Range<usize> {
        self.gate.start..self.up.end
    }
}

/// Tensors in their fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamLayout {
    tensors: Vec<TensorSpec>,
    total: usize,
    layers: usize,
}

/// Tensors of one block.
const PER_BLOCK: usize = 9;

impl ParamLayout {
    /// The layout of a model.
    ///
    /// # Panics
    /// When [`ModelConfig::check`] refuses `config`, or when the parameters are too many to be addressed on this machine.
    pub fn new(config: &ModelConfig) -> ParamLayout {
        let shape = ModelShape::from(config);
        assert!(
            config.parameter_count() <= (isize::MAX / 4) as u64,
            "{} parameters are more than this machine can address",
            config.parameter_count()
        );
        let (d, kv, ffn, vocab) = (shape.d_model, shape.kv_width(), shape.ffn, shape.vocab);
        let mut layout = ParamLayout { tensors: Vec::new(), total: 0, layers: shape.layers };
        layout.push("model.embed_tokens.weight".into(), TensorKind::Embedding, vocab, d);
        for layer in 0..shape.layers {
            let mut push = |name: &str, kind, rows, cols| {
                layout.push(format!("model.layers.{layer}.{name}.weight"), kind, rows, cols);
            };
            push("input_layernorm", TensorKind::Norm, 1, d);
            push("self_attn.q_proj", TensorKind::Matrix, d, d);
            push("self_attn.k_proj", TensorKind::Matrix, kv, d);
            push("self_attn.v_proj", TensorKind::Matrix, kv, d);
            push("self_attn.o_proj", TensorKind::Matrix, d, d);
            push("post_attention_layernorm", TensorKind::Norm, 1, d);
            push("mlp.gate_proj", TensorKind::Matrix, ffn, d);
            push("mlp.up_proj", TensorKind::Matrix, ffn, d);
            push("mlp.down_proj", TensorKind::Matrix, d, ffn);
        }
        layout.push("model.norm.weight".into(), TensorKind::Norm, 1, d);
        if !shape.tied {
            layout.push("lm_head.weight".into(), TensorKind::Head, vocab, d);
        }
        layout
    }

    fn push(&mut self, name: String, kind: TensorKind, rows: usize, cols: usize) {
        self.tensors.push(TensorSpec { name, kind, rows, cols, offset: self.total });
        self.total += rows * cols;
    }

    /// The tensors, in order, without gaps.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Elements of the flat vector.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The tensor of a Hugging Face name.
    pub fn tensor(&self, name: &str) -> Option<&TensorSpec> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    pub(crate) fn embedding(&self) -> Range<usize> {
        self.tensors[0].range()
    }

    pub(crate) fn block(&self, layer: usize) -> BlockRanges {
        let range = |index: usize| self.tensors[1 + layer * PER_BLOCK + index].range();
        BlockRanges {
            attention_norm: range(0),
            q: range(1),
            k: range(2),
            v: range(3),
            o: range(4),
            ffn_norm: range(5),
            gate: range(6),
            up: range(7),
            down: range(8),
        }
    }

    pub(crate) fn final_norm(&self) -> Range<usize> {
        self.tensors[1 + self.layers * PER_BLOCK].range()
    }

    /// The head of its own, or else the embedding.
    pub(crate) fn head(&self) -> Range<usize> {
        self.tensors.get(2 + self.layers * PER_BLOCK).map_or_else(|| self.embedding(), TensorSpec::range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn tensors_follow_each_other_without_gaps_and_count_as_the_protocol_counts() {
        for tied in [false, true] {
            let config = config([64, 24, 3, 4, 2, 48, 16], tied);
            let layout = ParamLayout::new(&config);
            let mut next = 0;
            for tensor in layout.tensors() {
                assert_eq!(tensor.offset, next, "{}", tensor.name);
                assert_eq!(tensor.shape().iter().product::<usize>(), tensor.len());
                next = tensor.range().end;
            }
            assert_eq!(next, layout.total());
            assert_eq!(layout.total() as u64, config.parameter_count());
        }
    }

    #[test]
    fn ranges_by_role_are_those_of_the_names() {
        let layout = ParamLayout::new(&config([64, 24, 3, 4, 2, 48, 16], false));
        let named = |name: &str| layout.tensor(name).unwrap().range();
        let block = layout.block(1);
        assert_eq!(block.attention_norm, named("model.layers.1.input_layernorm.weight"));
        assert_eq!(block.q, named("model.layers.1.self_attn.q_proj.weight"));
        assert_eq!(block.k, named("model.layers.1.self_attn.k_proj.weight"));
        assert_eq!(block.v, named("model.layers.1.self_attn.v_proj.weight"));
        assert_eq!(block.o, named("model.layers.1.self_attn.o_proj.weight"));
        assert_eq!(block.ffn_norm, named("model.layers.1.post_attention_layernorm.weight"));
        assert_eq!(block.gate, named("model.layers.1.mlp.gate_proj.weight"));
        assert_eq!(block.up, named("model.layers.1.mlp.up_proj.weight"));
        assert_eq!(block.down, named("model.layers.1.mlp.down_proj.weight"));
        assert!(block.q.end == block.k.start && block.k.end == block.v.start && block.gate.end == block.up.start);
        assert_eq!([block.qkv().len(), block.gate_up().len()], [(24 + 2 * 12) * 24, 2 * 48 * 24]);
        assert_eq!(layout.final_norm(), named("model.norm.weight"));
        assert_eq!(layout.head(), named("lm_head.weight"));
        let tied = ParamLayout::new(&config([64, 24, 3, 4, 2, 48, 16], true));
        assert_eq!(tied.head(), tied.embedding());
        assert_eq!(tied.tensor("lm_head.weight"), None);
    }

    /// Lucie-7B (OpenLLM-France): 65,024 tokens, d 4096, 32 blocks, 32 heads of which 8 for keys and values, ffn 12,288.
    #[test]
    fn lucie_7b_has_as_many_parameters_as_its_model_card_says() {
        let layout = ParamLayout::new(&config([65_024, 4096, 32, 32, 8, 12_288, 4096], false));
        assert_eq!(layout.total(), 6_706_958_336);
        assert_eq!(layout.tensors().len(), 2 + 32 * 9 + 1);
    }
}
