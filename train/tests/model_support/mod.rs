//! Small models and their data, for the tests of the model.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use essaim_kernels::Exec;
use essaim_protocol::manifest::{F64Bits, ModelConfig};
use essaim_train::init::initial_parameters;
use essaim_train::params::{ParamLayout, TensorKind};

/// A configuration of the given lengths: vocabulary, d_model, layers, heads, kv_heads, ffn, context.
pub fn config(lengths: [u32; 7], tied: bool) -> ModelConfig {
    let bits = |value: f64| F64Bits(value.to_bits());
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

/// Grouped queries, lengths that are no multiple of any vector width.
pub fn grouped(tied: bool) -> ModelConfig {
    config([67, 24, 3, 4, 2, 44, 13], tied)
}

/// Pseudo-random tokens.
pub fn tokens(count: usize, vocab: u32, seed: u64) -> Vec<u32> {
    let mut bytes = vec![0u8; 4 * count];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()) % vocab).collect()
}

/// Parameters that exercise everything: larger than at the start of a run, and norm gains around 1 instead of 1.
pub fn parameters(exec: &Exec, config: &ModelConfig) -> Vec<f32> {
    let mut params = initial_parameters(exec, &[5; 32], config);
    for tensor in ParamLayout::new(config).tensors() {
        for (i, value) in params[tensor.range()].iter_mut().enumerate() {
            match tensor.kind {
                TensorKind::Norm => *value = 1.0 + 0.05 * ((i % 7) as f32 - 3.0),
                _ => *value *= 8.0,
            }
        }
    }
    params
}
