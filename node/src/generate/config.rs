//! `config.json` of a checkpoint folder: the shape of the model.

use serde::Deserialize;

/// The fields of a Hugging Face `LlamaConfig` that the forward pass needs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LlamaConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many as query heads when absent.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `hidden_size / num_attention_heads` when absent.
    pub head_dim: Option<usize>,
    /// Tokens of context that it was trained with.
    pub max_position_embeddings: usize,
    /// Added to the mean square.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Whether the output head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// The token that begins a document.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// The token that ends a document.
    #[serde(default)]
    pub eos_token_id: Option<u32>,
    /// The token that fills batches.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
}

fn default_eps() -> f64 {
    1e-5
}

fn default_theta() -> f64 {
    10_000.0
}

impl LlamaConfig {
    /// Key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Reads `config.json` and checks that the shape can be one.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn from_json(bytes: &[u8]) -> Result<LlamaConfig, String> {
        let config: LlamaConfig = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let sizes = [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("num_key_value_heads", config.kv_heads()),
            ("head_dim", config.head_width()),
            ("max_position_embeddings", config.max_position_embeddings),
        ];
        for (name, size) in sizes {
            if size == 0 || size > 1 << 24 {
                return Err(format!("{name} is {size}"));
            }
        }
        if !config.num_attention_heads.is_multiple_of(config.kv_heads()) || !config.head_width().is_multiple_of(2) {
            return Err(format!(
                "{} query heads, {} key heads of width {} do not fit together",
                config.num_attention_heads,
                config.kv_heads(),
                config.head_width()
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_filled_in_and_nonsense_is_refused() {
        let text = r#"{"vocab_size":8,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,
                       "num_attention_heads":2,"max_position_embeddings":16,"model_type":"llama"}"#;
        let config = LlamaConfig::from_json(text.as_bytes()).unwrap();
        assert_eq!((config.kv_heads(), config.head_width(), config.rope_theta), (2, 4, 10_000.0));
        let zero = text.replace("\"num_hidden_layers\":1", "\"num_hidden_layers\":0");
        assert!(LlamaConfig::from_json(zero.as_bytes()).unwrap_err().contains("num_hidden_layers"));
        let odd = text.replace("\"hidden_size\":8", "\"hidden_size\":6");
        assert!(LlamaConfig::from_json(odd.as_bytes()).unwrap_err().contains("width 3"));
        assert!(LlamaConfig::from_json(b"{}").unwrap_err().contains("vocab_size"));
    }
}
