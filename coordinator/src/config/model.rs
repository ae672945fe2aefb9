//! `[model]`: a preset, and what differs from it.

use super::SettingsError;
use essaim_protocol::manifest::{F64Bits, ModelConfig};
use serde::{Deserialize, Serialize};

/// A preset's name and shape: `d_model, layers, heads, kv_heads, ffn, context, tied, rope_theta`.
type Preset = (&'static str, [u32; 6], bool, f64);

/// The presets. `lucie-7b` is the configuration of OpenLLM-France/Lucie-7B.
pub const PRESETS: [Preset; 4] = [
    ("2m", [128, 4, 4, 2, 384, 256], false, 10_000.0),
    ("8m", [256, 4, 4, 4, 1024, 256], false, 10_000.0),
    ("60m", [512, 8, 8, 4, 1536, 512], false, 10_000.0),
    ("lucie-7b", [4096, 32, 32, 8, 12_288, 4096], false, 20_000_000.0),
];

/// `[model]`. Every field overrides the preset's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// `2m`, `8m`, `60m` or `lucie-7b`; default `2m`.
    pub preset: String,
    /// Rows of the embedding; default: what the dataset's tokenizer knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<u32>,
    /// Width of the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_model: Option<u32>,
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<u32>,
    /// Query heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<u32>,
    /// Key and value heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u32>,
    /// Width of the feed-forward layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ffn: Option<u32>,
    /// Tokens in a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Whether the output head is the embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// Base of the rotary frequencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Added to the mean square in RMSNorm; default 1e-5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f64>,
    /// Standard deviation of the initial weights; default 0.02.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_std: Option<f64>,
}

impl Default for ModelSettings {
    fn default() -> ModelSettings {
        ModelSettings {
            preset: "2m".to_owned(),
            vocab_size: None,
            d_model: None,
            layers: None,
            heads: None,
            kv_heads: None,
            ffn: None,
            context: None,
            tied: None,
            rope_theta: None,
            norm_eps: None,
            init_std: None,
        }
    }
}

impl ModelSettings {
    /// The model, with the vocabulary of the data set where none is given.
    ///
    /// # Errors
    /// [`SettingsError::Preset`], [`SettingsError::Vocabulary`]. The shape is checked with the manifest.
    pub fn resolve(&self, dataset_vocab_size: u32) -> Result<ModelConfig, SettingsError> {
        let preset = PRESETS.iter().find(|(name, ..)| *name == self.preset);
        let (_, [d_model, layers, heads, kv_heads, ffn, context], tied, rope_theta) =
            *preset.ok_or_else(|| SettingsError::Preset { got: self.preset.clone() })?;
        let vocab_size = self.vocab_size.unwrap_or(dataset_vocab_size);
        if vocab_size < dataset_vocab_size {
            return Err(SettingsError::Vocabulary { got: vocab_size, needed: dataset_vocab_size });
        }
        let bits = |value: Option<f64>, default: f64| F64Bits(value.unwrap_or(default).to_bits());
        Ok(ModelConfig {
            vocab_size,
            d_model: self.d_model.unwrap_or(d_model),
            layers: self.layers.unwrap_or(layers),
            heads: self.heads.unwrap_or(heads),
            kv_heads: self.kv_heads.unwrap_or(kv_heads),
            ffn: self.ffn.unwrap_or(ffn),
            context: self.context.unwrap_or(context),
            tied: self.tied.unwrap_or(tied),
            rope_theta: bits(self.rope_theta, rope_theta),
            norm_eps: bits(self.norm_eps, 1e-5),
            init_std: bits(self.init_std, 0.02),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_models_and_lucie_counts_exactly() {
        for (name, ..) in PRESETS {
            let settings = ModelSettings { preset: name.to_owned(), ..ModelSettings::default() };
            assert_eq!(settings.resolve(4096).unwrap().check(), Ok(()), "{name}");
        }
        let lucie = ModelSettings { preset: "lucie-7b".to_owned(), ..ModelSettings::default() };
        assert_eq!(lucie.resolve(65_024).unwrap().parameter_count(), 6_706_958_336);
        let small = ModelSettings::default().resolve(4096).unwrap();
        assert_eq!(small.parameter_count(), 1_836_160);
    }

    #[test]
    fn an_unknown_preset_and_a_small_vocabulary_are_refused() {
        let unknown = ModelSettings { preset: "3m".to_owned(), ..ModelSettings::default() };
        let error = unknown.resolve(4096).unwrap_err().to_string();
        assert_eq!(error, "model.preset is '3m': one of 2m, 8m, 60m, lucie-7b");
        let small = ModelSettings { vocab_size: Some(100), ..ModelSettings::default() };
        assert!(matches!(small.resolve(4096), Err(SettingsError::Vocabulary { got: 100, needed: 4096 })));
    }
}
