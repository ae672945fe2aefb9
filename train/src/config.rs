//! The model's shape in the units that arithmetic needs: `usize` lengths and floats, from a checked
//! [`ModelConfig`] whose numbers are integers and bit patterns.

use essaim_protocol::manifest::{F64Bits, ModelConfig};

/// The binary64 that a manifest carries as a bit pattern.
pub fn float64(bits: F64Bits) -> f64 {
    f64::from_bits(bits.0)
}

/// A Llama's lengths, and the constants of its arithmetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelShape {
    /// Rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head: `d_model / heads`.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Most tokens that are predicted at once; positions are `0..context`.
    pub context: usize,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm: the manifest's binary64, rounded to binary32.
    pub norm_eps: f32,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
}

impl ModelShape {
    /// Width of the keys, and of the values, of one token: `kv_heads * head_dim`.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

impl From<&ModelConfig> for ModelShape {
    /// The shape of `config`.
    ///
    /// # Panics
    /// When [`ModelConfig::check`] refuses `config`: a manifest is checked where it enters.
    fn from(config: &ModelConfig) -> ModelShape {
        if let Err(error) = config.check() {
            panic!("a model configuration that was not checked: {error}");
        }
        ModelShape {
            vocab: config.vocab_size as usize,
            d_model: config.d_model as usize,
            layers: config.layers as usize,
            heads: config.heads as usize,
            kv_heads: config.kv_heads as usize,
            head_dim: config.head_dim() as usize,
            ffn: config.ffn as usize,
            context: config.context as usize,
            tied: config.tied,
            rope_theta: float64(config.rope_theta),
            norm_eps: float64(config.norm_eps) as f32,
            init_std: float64(config.init_std),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn bits(value: f64) -> F64Bits {
        F64Bits(value.to_bits())
    }

    /// A configuration of the given lengths: vocabulary, d_model, layers, heads, kv_heads, ffn, context.
    pub(crate) fn config(lengths: [u32; 7], tied: bool) -> ModelConfig {
        let [vocab_size, d_model, layers, heads, kv_heads, ffn, context] = lengths;
        ModelConfig {
            vocab_size,
            d_model,
            layers,
            heads,
            kv_heads,
            ffn,
            context,
            tied,
            rope_theta: bits(10_000.0),
            norm_eps: bits(1e-5),
            init_std: bits(0.02),
        }
    }

    #[test]
    fn lengths_and_constants_are_those_of_the_configuration() {
        let shape = ModelShape::from(&config([64, 24, 2, 4, 2, 48, 16], false));
        assert_eq!((shape.head_dim, shape.kv_width(), shape.context), (6, 12, 16));
        assert_eq!((shape.norm_eps, shape.rope_theta), (1e-5f32, 10_000.0));
    }

    #[test]
    #[should_panic(expected = "model.heads")]
    fn a_configuration_that_was_not_checked_is_a_bug() {
        let _ = ModelShape::from(&config([64, 24, 2, 4, 3, 48, 16], false));
    }
}
