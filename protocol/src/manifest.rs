//! The manifest: everything that decides a run's numbers, signed by its operators. Its hash is the run's id.

use crate::ids::{Hash, MemberId};
use crate::limits;
use crate::signing::{Kind, Statement};
use serde::{Deserialize, Serialize};

/// The version of the protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// A binary64 as an opaque bit pattern: this crate compares and carries it, and never calculates with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct F64Bits(pub u64);

impl F64Bits {
    /// Whether the pattern is a number: neither infinite nor NaN.
    pub fn is_finite(self) -> bool {
        (self.0 >> 52) & 0x7ff != 0x7ff
    }

    /// Whether the pattern is a finite number above zero.
    pub fn is_positive(self) -> bool {
        self.is_finite() && self.0 != 0 && self.0 >> 63 == 0
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Manifest {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// For people.
    pub name: String,
    /// The arithmetic: `f32-exact/1`.
    pub numerics: String,
    /// The model.
    pub model: ModelConfig,
    /// Hash of `tokenizer.json`.
    pub tokenizer: Hash,
    /// Hash of the dataset manifest.
    pub dataset: Hash,
    /// Length of the dataset manifest, bytes.
    pub dataset_len_bytes: u64,
    /// What is read when; at least one.
    pub phases: Vec<Phase>,
    /// The first checkpoint and the order of the data follow from it.
    pub seed: [u8; 32],
    /// The inner optimiser and its schedule.
    pub inner: InnerConfig,
    /// How updates are compressed.
    pub codec: Codec,
    /// The outer optimiser.
    pub outer: OuterConfig,
    /// Rounds of the run.
    pub rounds: u64,
    /// Who may take part, and how much each does.
    pub admission: Admission,
    /// How long things may take.
    pub timing: Timing,
    /// Contributions that the protocol audits, in thousandths. No audits in this version: 0.
    pub audit_permille: u32,
    /// A full copy of the checkpoint stays public every so many rounds.
    pub keyframe_every_rounds: u64,
    /// Tokens of held-out text, for each language, that a record's held-out loss is measured on.
    pub heldout_tokens_max: u64,
    /// The operators' keys.
    pub operators: Vec<MemberId>,
    /// How many of them must sign.
    pub threshold: u32,
    /// The last value of the operator's hash chain; a record reveals the value before the one revealed last.
    pub hash_chain_anchor: Hash,
    /// Values in the hash chain; more than `rounds`.
    pub hash_chain_len: u64,
    /// Room for what later versions decide. Empty in this version; a reader refuses what it does not know.
    pub extensions: Vec<Extension>,
}

/// A setting that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Extension {
    /// Which.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// A Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct ModelConfig {
    /// Rows of the embedding.
    pub vocab_size: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Blocks.
    pub layers: u32,
    /// Query heads; the head's width is `d_model / heads`.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of the feed-forward layer.
    pub ffn: u32,
    /// Tokens in a training sequence.
    pub context: u32,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: F64Bits,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: F64Bits,
    /// Standard deviation of the initial weights.
    pub init_std: F64Bits,
}

/// From where in the run on, which mixes of the data set are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Phase {
    /// For people: `pre-training`, `annealing`.
    pub name: String,
    /// Tokens handed out in this phase; the last phase goes on to the end of the run.
    pub tokens: u64,
    /// Mixes of the dataset manifest and their shares, relative to the sum.
    pub weights: Vec<MixWeight>,
}

/// A mix's share in a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct MixWeight {
    /// Name of the mix.
    pub mix: String,
    /// Its share; above zero.
    pub weight: u32,
}

/// The inner optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub enum Optimizer {
    /// AdamW for every parameter.
    AdamW,
    /// Muon for the hidden matrices, AdamW for embedding, head and norms.
    Muon,
}

/// What a member does between two checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct InnerConfig {
    /// Which optimiser.
    pub optimizer: Optimizer,
    /// Most inner steps of a member in a round.
    pub steps: u32,
    /// Sequences in the batch of one inner step.
    pub batch: u32,
    /// Segments of a batch whose gradients are summed by a fixed tree; divides `batch`. Version 1: 1.
    pub grad_segments: u32,
    /// Learning rate after warm-up.
    pub peak_lr: F64Bits,
    /// Share of the peak that the cosine ends at.
    pub final_lr_fraction: F64Bits,
    /// Tokens of linear warm-up.
    pub warmup_tokens: u64,
    /// Tokens after which the learning rate stays at its final value.
    pub total_tokens: u64,
    /// Decay of the first moment (AdamW).
    pub beta1: F64Bits,
    /// Decay of the second moment (AdamW).
    pub beta2: F64Bits,
    /// Added to the root of the second moment.
    pub eps: F64Bits,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: F64Bits,
    /// Largest global gradient norm.
    pub clip_norm: F64Bits,
    /// Muon's momentum (Nesterov).
    pub muon_momentum: F64Bits,
    /// Newton–Schulz iterations of Muon.
    pub muon_iterations: u32,
}

/// How an update is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub enum Codec {
    /// Four-bit values with one scale a block.
    Q4 {
        /// Values in a block: a multiple of 2, at most 4096.
        block: u32,
    },
}

/// The outer optimiser: SGD with Nesterov momentum on the weighted mean of the pseudo-gradients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct OuterConfig {
    /// Learning rate.
    pub lr: F64Bits,
    /// Momentum.
    pub momentum: F64Bits,
    /// Whether an update longer than the median norm is scaled down to it.
    pub clip_to_median: bool,
}

/// Who takes part, and how inner steps are shared out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Admission {
    /// Members needed before the first round starts; below it a round is not closed early.
    pub members_min: u32,
    /// Most members.
    pub members_max: u32,
    /// Inner steps of a member on probation.
    pub probation_steps: u32,
    /// Accepted contributions that end probation.
    pub probation_rounds: u32,
    /// Most that one member may be assigned, in thousandths of all inner steps of a round (1000: no cap).
    pub member_share_max_permille: u32,
    /// Most that all members on probation together may be assigned, in thousandths, while others are present.
    pub newcomer_share_max_permille: u32,
    /// Rounds in a row without an accepted contribution after which a member is dropped.
    pub absent_rounds_max: u32,
}

/// How long things may take, milliseconds on the operator's clock. They decide no number: a verifier has no clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Timing {
    /// A round is not closed before, even when every claim is in.
    pub round_min_ms: u64,
    /// A round is closed then, whoever is missing.
    pub round_max_ms: u64,
    /// An update not fetched so long after the close is withheld.
    pub fetch_max_ms: u64,
}

impl Statement for Manifest {
    const KIND: Kind = Kind::Manifest;
    const PAYLOAD_MAX: usize = limits::MANIFEST_MAX;
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Another protocol version.
    #[error("the manifest is of protocol {got}, this build speaks {PROTOCOL_VERSION}; update essaim")]
    Protocol {
        /// Its version.
        got: u32,
    },
    /// A setting that this version does not know.
    #[error("the manifest has the setting '{name}', which this build does not know; update essaim")]
    Extension {
        /// Its name.
        name: String,
    },
    /// A field out of its range.
    #[error("{field} is {got}: {rule}")]
    Field {
        /// Which field, as in `run.toml`.
        field: &'static str,
        /// Its value, for people.
        got: String,
        /// What it should be.
        rule: &'static str,
    },
}

/// Refuses `got` unless `holds`.
fn rule(holds: bool, field: &'static str, got: impl ToString, rule: &'static str) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError::Field { field, got: got.to_string(), rule }) }
}

impl Manifest {
    /// Whether every field is in its range.
    ///
    /// # Errors
    /// [`ManifestError`]: the first that is not.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.protocol != PROTOCOL_VERSION {
            return Err(ManifestError::Protocol { got: self.protocol });
        }
        if let Some(extension) = self.extensions.first() {
            return Err(ManifestError::Extension { name: extension.name.clone() });
        }
        rule(!self.name.is_empty() && self.name.len() <= limits::NAME_MAX, "name", &self.name, "1 to 256 bytes")?;
        rule(self.numerics == "f32-exact/1", "numerics", &self.numerics, "only f32-exact/1 is known")?;
        self.model.check()?;
        self.inner.check()?;
        self.admission.check()?;
        let Codec::Q4 { block } = self.codec;
        rule(
            (2..=4096).contains(&block) && block.is_multiple_of(2),
            "codec.block",
            block,
            "an even number from 2 to 4096",
        )?;
        rule(self.outer.lr.is_positive(), "outer.lr", "not above zero", "a number above zero")?;
        rule(self.outer.momentum.is_finite(), "outer.momentum", "not finite", "a number from 0 up to 1")?;
        rule((1..=limits::ROUNDS_MAX).contains(&self.rounds), "rounds", self.rounds, "from 1 to 16777216")?;
        rule(self.hash_chain_len > self.rounds, "hash_chain_len", self.hash_chain_len, "more than rounds")?;
        rule(self.hash_chain_len <= limits::ROUNDS_MAX * 2, "hash_chain_len", self.hash_chain_len, "at most 33554432")?;
        rule(self.audit_permille == 0, "audit_permille", self.audit_permille, "0: this version audits nothing")?;
        rule(self.keyframe_every_rounds > 0, "keyframe_every_rounds", 0, "at least 1")?;
        let timing = &self.timing;
        rule(
            timing.round_max_ms > 0 && timing.round_min_ms <= timing.round_max_ms,
            "timing.round_max_ms",
            timing.round_max_ms,
            "above zero and not below round_min_ms",
        )?;
        rule(timing.fetch_max_ms > 0, "timing.fetch_max_ms", 0, "above zero")?;
        self.check_operators()?;
        self.check_phases()
    }

    fn check_operators(&self) -> Result<(), ManifestError> {
        let count = self.operators.len();
        let mut keys = self.operators.clone();
        keys.sort_unstable();
        keys.dedup();
        rule(
            count > 0 && count <= limits::SIGNATURES_MAX && keys.len() == count,
            "operators",
            count,
            "1 to 64 different keys",
        )?;
        let threshold = usize::try_from(self.threshold).unwrap_or(usize::MAX);
        rule(threshold >= 1 && threshold <= count, "threshold", threshold, "from 1 to the number of operators")
    }

    fn check_phases(&self) -> Result<(), ManifestError> {
        rule((1..=64).contains(&self.phases.len()), "phases", self.phases.len(), "1 to 64 phases")?;
        for phase in &self.phases {
            rule(phase.name.len() <= limits::NAME_MAX, "phases.name", &phase.name, "at most 256 bytes")?;
            rule(phase.tokens > 0, "phases.tokens", 0, "above zero")?;
            let weights = &phase.weights;
            rule((1..=256).contains(&weights.len()), "phases.weights", weights.len(), "1 to 256 mixes")?;
            for entry in weights {
                rule(entry.weight > 0 && entry.weight <= 1 << 20, "phases.weights", entry.weight, "from 1 to 1048576")?;
            }
        }
        Ok(())
    }

    /// Tokens of one inner step: batch × context.
    pub fn tokens_per_step(&self) -> u64 {
        u64::from(self.inner.batch).saturating_mul(u64::from(self.model.context))
    }
}

impl ModelConfig {
    /// Whether the shape is one that a Llama can have.
    ///
    /// # Errors
    /// [`ManifestError::Field`].
    pub fn check(&self) -> Result<(), ManifestError> {
        let range =
            |value: u32, max: u32, field| rule((1..=max).contains(&value), field, value, "above zero, and sane");
        range(self.vocab_size, 1 << 20, "model.vocab_size")?;
        range(self.d_model, 1 << 16, "model.d_model")?;
        range(self.layers, 1024, "model.layers")?;
        range(self.heads, 1024, "model.heads")?;
        range(self.kv_heads, 1024, "model.kv_heads")?;
        range(self.ffn, 1 << 18, "model.ffn")?;
        range(self.context, 1 << 17, "model.context")?;
        rule(self.d_model.is_multiple_of(self.heads), "model.d_model", self.d_model, "a multiple of model.heads")?;
        rule(self.heads.is_multiple_of(self.kv_heads), "model.heads", self.heads, "a multiple of model.kv_heads")?;
        let width = self.head_dim();
        rule(width.is_multiple_of(2), "model.d_model / model.heads", width, "even, since positions rotate pairs")?;
        rule(self.rope_theta.is_positive(), "model.rope_theta", "not above zero", "a number above zero")?;
        rule(self.norm_eps.is_positive(), "model.norm_eps", "not above zero", "a number above zero")?;
        rule(self.init_std.is_positive(), "model.init_std", "not above zero", "a number above zero")
    }

    /// Width of one head. Zero heads are one.
    pub fn head_dim(&self) -> u32 {
        self.d_model.checked_div(self.heads).unwrap_or(self.d_model)
    }

    /// How many parameters the model has. Allocates nothing.
    pub fn parameter_count(&self) -> u64 {
        let [vocab, d, ffn] = [self.vocab_size, self.d_model, self.ffn].map(u64::from);
        let kv = u64::from(self.kv_heads).saturating_mul(u64::from(self.head_dim()));
        let embedding = vocab.saturating_mul(d).saturating_mul(if self.tied { 1 } else { 2 });
        let attention = d.saturating_mul(d.saturating_mul(2).saturating_add(kv.saturating_mul(2)));
        let block =
            attention.saturating_add(d.saturating_mul(ffn.saturating_mul(3))).saturating_add(d.saturating_mul(2));
        block.saturating_mul(u64::from(self.layers)).saturating_add(embedding).saturating_add(d)
    }
}

impl InnerConfig {
    fn check(&self) -> Result<(), ManifestError> {
        rule((1..=limits::INNER_STEPS_MAX).contains(&self.steps), "inner.steps", self.steps, "from 1 to 100000")?;
        rule((1..=limits::BATCH_MAX).contains(&self.batch), "inner.batch", self.batch, "from 1 to 65536")?;
        rule(self.grad_segments == 1, "inner.grad_segments", self.grad_segments, "1 in this version")?;
        rule(self.peak_lr.is_positive(), "inner.peak_lr", "not above zero", "a number above zero")?;
        rule(self.eps.is_positive(), "inner.eps", "not above zero", "a number above zero")?;
        rule(self.clip_norm.is_positive(), "inner.clip_norm", "not above zero", "a number above zero")?;
        let others = [self.final_lr_fraction, self.beta1, self.beta2, self.weight_decay, self.muon_momentum];
        rule(others.iter().all(|v| v.is_finite()), "inner", "a value that is not finite", "finite numbers")?;
        rule(
            self.total_tokens > self.warmup_tokens,
            "inner.total_tokens",
            self.total_tokens,
            "more than warmup_tokens",
        )?;
        rule((1..=32).contains(&self.muon_iterations), "inner.muon_iterations", self.muon_iterations, "from 1 to 32")
    }
}

impl Admission {
    fn check(&self) -> Result<(), ManifestError> {
        rule(self.members_min > 0, "admission.members_min", self.members_min, "at least 1")?;
        rule(
            self.members_min <= self.members_max && self.members_max <= limits::MEMBERS_MAX,
            "admission.members_max",
            self.members_max,
            "not below members_min, at most 65536",
        )?;
        rule(self.probation_steps > 0, "admission.probation_steps", self.probation_steps, "at least 1")?;
        rule(self.absent_rounds_max > 0, "admission.absent_rounds_max", self.absent_rounds_max, "at least 1")?;
        for (share, field) in [
            (self.member_share_max_permille, "admission.member_share_max_permille"),
            (self.newcomer_share_max_permille, "admission.newcomer_share_max_permille"),
        ] {
            rule((1..=1000).contains(&share), field, share, "from 1 to 1000")?;
        }
        Ok(())
    }
}
