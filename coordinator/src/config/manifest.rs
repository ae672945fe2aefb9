//! From `run.toml` and a data set to a manifest.

use super::{CodecName, OptimizerName, RunConfig, Seed};
use essaim_protocol::dataset::DatasetManifest;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::manifest::{
    Admission, Codec, F64Bits, InnerConfig, Manifest, ManifestError, MixWeight, ModelConfig, Optimizer, OuterConfig,
    PROTOCOL_VERSION, Phase, Timing,
};

/// What a `run.toml` says that cannot be, once the data set is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No such preset.
    #[error("model.preset is '{got}': one of 2m, 8m, 60m, lucie-7b")]
    Preset {
        /// What was given.
        got: String,
    },
    /// The model knows fewer tokens than the data set has.
    #[error("model.vocab_size is {got}, but the data set has {needed} tokens: leave it out, or give at least that")]
    Vocabulary {
        /// What was given.
        got: u32,
        /// Tokens of the data set.
        needed: u32,
    },
    /// Not 64 hexadecimal digits.
    #[error("seed: {0}; give a whole number or 64 hexadecimal digits")]
    Seed(#[from] essaim_protocol::ids::ParseIdError),
    /// A phase names a mix that the data set lacks.
    #[error("phases.weights names the mix '{mix}', which the data set lacks; it has: {known}")]
    Mix {
        /// Which mix.
        mix: String,
        /// The mixes there are.
        known: String,
    },
    /// A field out of its range.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What a manifest holds beside the settings.
#[derive(Debug, Clone)]
pub struct ManifestInput<'a> {
    /// The data set.
    pub dataset: &'a DatasetManifest,
    /// Hash of its canonical bytes.
    pub dataset_hash: Hash,
    /// Length of its canonical bytes.
    pub dataset_len_bytes: u64,
    /// The operator's key.
    pub operator: MemberId,
    /// Used when the settings have no seed.
    pub random_seed: [u8; 32],
    /// The last value of the hash chain.
    pub hash_chain_anchor: Hash,
    /// Values in the hash chain.
    pub hash_chain_len: u64,
}

fn bits(value: f64) -> F64Bits {
    F64Bits(value.to_bits())
}

impl Seed {
    /// The 32 bytes: the digits themselves, or derived from the number.
    ///
    /// # Errors
    /// [`SettingsError::Seed`].
    pub fn bytes(&self) -> Result<[u8; 32], SettingsError> {
        match self {
            Seed::Number(number) => Ok(blake3::derive_key("essaim 1 run.toml seed", &number.to_le_bytes())),
            Seed::Hex(text) => Ok(text.parse::<Hash>()?.0),
        }
    }
}

impl RunConfig {
    /// The manifest of these settings over a data set, checked.
    ///
    /// # Errors
    /// [`SettingsError`]: the first thing that cannot be.
    pub fn manifest(&self, input: &ManifestInput<'_>) -> Result<Manifest, SettingsError> {
        let model = self.model.resolve(input.dataset.vocab_size)?;
        let phases = self.phases(input.dataset)?;
        let manifest = Manifest {
            protocol: PROTOCOL_VERSION,
            name: self.name.clone(),
            numerics: essaim_kernels::NUMERICS_ID.to_owned(),
            tokenizer: input.dataset.tokenizer,
            dataset: input.dataset_hash,
            dataset_len_bytes: input.dataset_len_bytes,
            phases,
            seed: self.seed.as_ref().map_or(Ok(input.random_seed), Seed::bytes)?,
            inner: self.inner_config(&model),
            codec: match self.codec.name {
                CodecName::Q4 => Codec::Q4 { block: self.codec.block },
            },
            outer: OuterConfig {
                lr: bits(self.outer.lr),
                momentum: bits(self.outer.momentum),
                clip_to_median: self.outer.clip_to_median,
            },
            rounds: self.rounds,
            admission: self.admission_config(),
            timing: Timing {
                round_min_ms: self.timing.round_min_ms,
                round_max_ms: self.timing.round_max_ms,
                fetch_max_ms: self.timing.fetch_max_ms,
            },
            audit_permille: 0,
            keyframe_every_rounds: self.keyframe_every_rounds,
            heldout_tokens_max: self.heldout_tokens_max,
            operators: vec![input.operator],
            threshold: 1,
            hash_chain_anchor: input.hash_chain_anchor,
            hash_chain_len: input.hash_chain_len,
            extensions: Vec::new(),
            model,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// Values that the operator's hash chain needs: one a record, record 0 included, and one to spare.
    pub fn hash_chain_len(&self) -> u64 {
        self.rounds.saturating_add(2)
    }

    fn phases(&self, dataset: &DatasetManifest) -> Result<Vec<Phase>, SettingsError> {
        if self.phases.is_empty() {
            let weights = vec![MixWeight { mix: "main".to_owned(), weight: 1 }];
            known_mix("main", dataset)?;
            return Ok(vec![Phase { name: "main".to_owned(), tokens: u64::MAX, weights }]);
        }
        let mut phases = Vec::with_capacity(self.phases.len());
        for phase in &self.phases {
            let mut weights = Vec::with_capacity(phase.weights.len());
            for (mix, weight) in &phase.weights {
                known_mix(mix, dataset)?;
                weights.push(MixWeight { mix: mix.clone(), weight: *weight });
            }
            phases.push(Phase { name: phase.name.clone(), tokens: phase.tokens, weights });
        }
        Ok(phases)
    }

    fn inner_config(&self, model: &ModelConfig) -> InnerConfig {
        let inner = &self.inner;
        let round_tokens = u64::from(inner.steps)
            .saturating_mul(u64::from(inner.batch).saturating_mul(u64::from(model.context)))
            .saturating_mul(u64::from(self.admission.members_min));
        let total_tokens = inner.total_tokens.unwrap_or_else(|| self.rounds.max(1).saturating_mul(round_tokens));
        InnerConfig {
            optimizer: match inner.optimizer {
                OptimizerName::AdamW => Optimizer::AdamW,
                OptimizerName::Muon => Optimizer::Muon,
            },
            steps: inner.steps,
            batch: inner.batch,
            grad_segments: 1,
            peak_lr: bits(inner.peak_lr),
            final_lr_fraction: bits(inner.final_lr_fraction),
            warmup_tokens: inner.warmup_tokens.unwrap_or(total_tokens / 20),
            total_tokens,
            beta1: bits(inner.beta1),
            beta2: bits(inner.beta2),
            eps: bits(inner.eps),
            weight_decay: bits(inner.weight_decay),
            clip_norm: bits(inner.clip_norm),
            muon_momentum: bits(inner.muon_momentum),
            muon_iterations: inner.muon_iterations,
        }
    }

    fn admission_config(&self) -> Admission {
        let admission = &self.admission;
        Admission {
            members_min: admission.members_min,
            members_max: admission.members_max,
            probation_steps: admission.probation_steps.unwrap_or_else(|| (self.inner.steps / 3).max(1)),
            probation_rounds: admission.probation_rounds,
            member_share_max_permille: admission.member_share_max_permille,
            newcomer_share_max_permille: admission.newcomer_share_max_permille,
            absent_rounds_max: admission.absent_rounds_max,
        }
    }
}

fn known_mix(mix: &str, dataset: &DatasetManifest) -> Result<(), SettingsError> {
    if dataset.mix(mix).is_some() {
        return Ok(());
    }
    let known = dataset.mixes.iter().map(|mix| mix.name.as_str()).collect::<Vec<_>>().join(", ");
    Err(SettingsError::Mix { mix: mix.to_owned(), known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_protocol::dataset::{Mix, ShardInfo};
    use std::path::Path;

    fn dataset() -> DatasetManifest {
        let shard = ShardInfo { hash: Hash([1; 32]), len_bytes: 100, tokens: 50, documents: 1 };
        DatasetManifest {
            version: 1,
            name: "d".into(),
            tokenizer: Hash([2; 32]),
            vocab_size: 4096,
            mixes: vec![Mix { name: "main".into(), shards: vec![shard] }],
            heldout: vec![],
            sources: vec![],
            settings: String::new(),
        }
    }

    fn manifest(text: &str) -> Result<Manifest, String> {
        let text = format!("name = 'x'\ndataset = 'd'\n{text}");
        let config = RunConfig::parse(&text, Path::new("run.toml")).unwrap();
        let dataset = dataset();
        let input = ManifestInput {
            dataset: &dataset,
            dataset_hash: Hash([3; 32]),
            dataset_len_bytes: 9,
            operator: MemberId([4; 32]),
            random_seed: [5; 32],
            hash_chain_anchor: Hash([6; 32]),
            hash_chain_len: config.hash_chain_len(),
        };
        config.manifest(&input).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_give_a_checked_manifest() {
        let got = manifest("rounds = 10").unwrap();
        assert_eq!(got.model.vocab_size, 4096);
        assert_eq!(got.inner.total_tokens, 10 * 24 * 8 * 256);
        assert_eq!(got.inner.warmup_tokens, 10 * 24 * 8 * 256 / 20);
        assert_eq!(got.inner.peak_lr, F64Bits(2e-3f64.to_bits()));
        assert_eq!(got.admission.probation_steps, 8);
        assert_eq!(got.seed, [5; 32]);
        assert_eq!(manifest("rounds = 10\nseed = 7").unwrap().seed, manifest("rounds = 20\nseed = 7").unwrap().seed);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, part) in [
            ("rounds = 0", "rounds is 0"),
            ("rounds = 1\n[inner]\nsteps = 0", "inner.steps is 0"),
            ("rounds = 1\n[inner]\nbatch = 0", "inner.batch is 0"),
            ("rounds = 1\n[model]\nd_model = 130", "model.d_model is 130: a multiple of model.heads"),
            ("rounds = 1\n[model]\nheads = 4\nkv_heads = 3", "model.heads is 4: a multiple of model.kv_heads"),
            ("rounds = 1\n[codec]\nblock = 3", "codec.block is 3"),
            ("rounds = 1\n[outer]\nlr = nan", "outer.lr"),
            ("rounds = 1\nseed = 'xyz'", "seed: expected 64 hexadecimal digits"),
            ("rounds = 1\n[timing]\nround_max_ms = 0", "timing.round_max_ms is 0"),
            (
                "rounds = 1\n[[phases]]\nname='a'\ntokens=1\nweights={other=1}",
                "the mix 'other', which the data set lacks; it has: main",
            ),
            ("rounds = 1\n[[phases]]\nname='a'\ntokens=1\nweights={main=0}", "phases.weights is 0"),
            ("rounds = 1\nkeyframe_every_rounds = 0", "keyframe_every_rounds is 0"),
        ] {
            let error = manifest(text).unwrap_err();
            assert!(error.contains(part) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
