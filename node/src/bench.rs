//! `essaim bench`: one full training step of a fixed model, measured: forward, loss, backward, clipping by the global norm,
//! AdamW. The same work as PyTorch does for these configurations in float32, so that the two can be compared.

use crate::bench_ops::{OperatorResult, StepTimes, operators};
use essaim_kernels::ops::AdamwScalars;
use essaim_kernels::{Exec, ExecError, fma_flops_per_s, ops, reduce};
use essaim_protocol::manifest::{F64Bits, ModelConfig};
use essaim_train::init::initial_parameters;
use essaim_train::model::Model;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A configuration that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchConfig {
    /// d 128, 4 layers, 4/2 heads, ffn 384, vocabulary 4096, 8 × 256 tokens.
    #[value(name = "2m")]
    Small,
    /// d 256, 4 layers, 4/4 heads, ffn 1024, vocabulary 16,384, 8 × 256 tokens.
    #[value(name = "8m")]
    Medium,
    /// d 512, 8 layers, 8/4 heads, ffn 1536, vocabulary 32,000, 4 × 512 tokens.
    #[value(name = "60m")]
    Large,
}

impl BenchConfig {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            BenchConfig::Small => "2m",
            BenchConfig::Medium => "8m",
            BenchConfig::Large => "60m",
        }
    }

    /// The model (untied) and the sequences in a batch.
    pub fn model(self) -> (ModelConfig, usize) {
        let bits = |value: f64| F64Bits(value.to_bits());
        let [d_model, layers, heads, kv_heads, ffn, vocab_size, context, batch] = match self {
            BenchConfig::Small => [128, 4, 4, 2, 384, 4096, 256, 8],
            BenchConfig::Medium => [256, 4, 4, 4, 1024, 16384, 256, 8],
            BenchConfig::Large => [512, 8, 8, 4, 1536, 32000, 512, 4],
        };
        let config = ModelConfig {
            vocab_size,
            d_model,
            layers,
            heads,
            kv_heads,
            ffn,
            context,
            tied: false,
            rope_theta: bits(10_000.0),
            norm_eps: bits(1e-5),
            init_std: bits(0.02),
        };
        (config, batch as usize)
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BenchLength {
    /// So many training steps.
    Steps(usize),
    /// About so long, and at least three training steps.
    Seconds(f64),
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchResult {
    /// Name of the configuration.
    pub config: &'static str,
    /// Parameters of the model.
    pub parameters: u64,
    /// Kernel path: `avx512`, `avx2`, `neon`, `portable`, `scalar`.
    pub path: String,
    /// Threads.
    pub threads: usize,
    /// Tokens of a training step.
    pub tokens_per_step: usize,
    /// Training steps measured.
    pub steps: usize,
    /// Median wall time of a training step.
    pub wall_s: f64,
    /// Mean processor time of a training step, over all threads. The system counts it in hundredths of a second.
    pub cpu_s: f64,
    /// Tokens a second: tokens of a training step over its median wall time.
    pub tokens_per_s: f64,
    /// Floating-point operations of the matrix products of a training step: those that the mathematics needs, counted
    /// exactly, causal attention by its unmasked half; no recomputation, nothing element-wise.
    pub product_flops_per_step: u64,
    /// Floating-point operations a second of these products.
    pub product_flops_per_s: f64,
    /// What the same threads reach on fused multiply-adds alone, the median of a reading after each training step, which so meets the
    /// same clocks and neighbours; none where it cannot be measured.
    pub peak_flops_per_s: Option<f64>,
    /// The share of that peak.
    pub peak_share: Option<f64>,
    /// Most memory the process had, bytes.
    pub peak_memory_bytes: u64,
    /// What the formulas give for the same: the model's workspace, the kernels' scratch on these threads, and four arrays of
    /// parameters (parameters, gradients, both moments), bytes; none on a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_bytes: Option<u64>,
    /// Loss of the last training step, nats a token.
    pub loss: f64,
    /// Where the time went; when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Vec<OperatorResult>>,
    /// Name of the device that trained; none for the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Memory taken on the device, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
}

/// Floating-point operations of all matrix products of one training step of `batch` sequences, forward and backward.
pub fn product_flops(config: &ModelConfig, batch: usize) -> u64 {
    let [d, ffn, vocab, seq, heads] =
        [config.d_model, config.ffn, config.vocab_size, config.context, config.heads].map(u64::from);
    let head_dim = u64::from(config.head_dim());
    let kv = u64::from(config.kv_heads) * head_dim;
    let tokens = batch as u64 * seq;
    let block_weights = d * d * 2 + d * kv * 2 + d * ffn * 3;
    let weights = block_weights * u64::from(config.layers) + d * vocab;
    // Each weight: one product forward, two backward, each a multiplication and an addition a token.
    let linear = 3 * 2 * tokens * weights;
    // Scores and mix forward, four products backward, over the pairs that the causal mask leaves.
    let pairs = seq * (seq + 1) / 2;
    let attention = 6 * 2 * pairs * head_dim * heads * u64::from(config.layers) * batch as u64;
    linear + attention
}

/// Measures `config` on `threads` threads, and each operator when `by_operator`.
///
/// # Errors
/// [`ExecError`] when this machine cannot do exact arithmetic.
pub fn bench(
    config: BenchConfig,
    threads: usize,
    length: BenchLength,
    by_operator: bool,
) -> Result<BenchResult, ExecError> {
    let exec = Exec::from_env(threads)?;
    let (model_config, batch) = config.model();
    let mut work = Work::new(&exec, &model_config, batch);
    // Two to warm up, as the comparison does.
    work.training_step(&exec, 0);
    work.training_step(&exec, 1);
    let (start, mut cpu) = (Instant::now(), 0.0);
    let (mut times, mut peaks, mut loss) = (Vec::new(), Vec::new(), 0.0);
    let more = |done: usize| match length {
        BenchLength::Steps(steps) => done < steps.max(1),
        BenchLength::Seconds(seconds) => done < 3 || start.elapsed() < Duration::from_secs_f64(seconds),
    };
    while more(times.len()) {
        let cpu_start = cpu_seconds();
        loss = work.training_step(&exec, times.len() as u64 + 2);
        cpu += cpu_seconds() - cpu_start;
        times.push(work.times.clone());
        peaks.extend(exec.install(|| fma_flops_per_s(&exec)));
    }
    let steps = times.len();
    let wall_s = median(&mut times.iter().map(|step| step.wall.as_secs_f64()).collect::<Vec<_>>());
    let peak = Some(median(&mut peaks)).filter(|peak| peak.is_finite());
    let flops = product_flops(&model_config, batch);
    let tokens_per_step = batch * model_config.context as usize;
    let operators = by_operator.then(|| operators(&times, &model_config, batch, peak));
    Ok(BenchResult {
        config: config.name(),
        parameters: model_config.parameter_count(),
        path: exec.path().to_string(),
        threads,
        tokens_per_step,
        steps,
        wall_s,
        cpu_s: cpu / steps as f64,
        tokens_per_s: tokens_per_step as f64 / wall_s,
        product_flops_per_step: flops,
        product_flops_per_s: flops as f64 / wall_s,
        peak_flops_per_s: peak,
        peak_share: peak.map(|peak| flops as f64 / wall_s / peak),
        peak_memory_bytes: peak_memory_bytes().unwrap_or(0),
        workspace_bytes: Some(workspace_bytes(&model_config, batch, threads)),
        loss,
        operators,
        device: None,
        device_memory_bytes: None,
    })
}

/// Memory of a training step by the formulas of its parts.
fn workspace_bytes(config: &ModelConfig, batch: usize, threads: usize) -> u64 {
    let scratch = Model::scratch_size(config, batch).bytes(threads);
    4 * 4 * config.parameter_count() + Model::workspace_bytes(config, batch) + scratch
}

/// Random tokens for training step `index`.
pub(crate) fn fill_tokens(tokens: &mut [u32], vocab_size: u32, index: u64) {
    let mut random = blake3::Hasher::new_derive_key("essaim/1 bench").update(&index.to_le_bytes()).finalize_xof();
    for token in tokens {
        let mut bytes = [0u8; 8];
        random.fill(&mut bytes);
        *token = (u64::from_le_bytes(bytes) % u64::from(vocab_size)) as u32;
    }
}

struct Work {
    model: Model,
    params: Vec<f32>,
    grads: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    losses: Vec<f32>,
    tokens: Vec<u32>,
    batch: usize,
    /// Of the last training step.
    times: StepTimes,
}

impl Work {
    fn new(exec: &Exec, config: &ModelConfig, batch: usize) -> Work {
        let params = initial_parameters(exec, &[1; 32], config);
        let model = Model::new(config, batch);
        let len = params.len();
        let context = config.context as usize;
        Work {
            model,
            params,
            grads: vec![0.0; len],
            first: vec![0.0; len],
            second: vec![0.0; len],
            losses: vec![0.0; batch * context],
            tokens: vec![0; batch * (context + 1)],
            batch,
            times: StepTimes::default(),
        }
    }

    /// One training step on random tokens; gives the mean loss.
    fn training_step(&mut self, exec: &Exec, index: u64) -> f64 {
        const CLIP_NORM: f32 = 1.0;
        let step_start = Instant::now();
        fill_tokens(&mut self.tokens, self.model.shape().vocab as u32, index);
        debug_assert_eq!(self.losses.len(), self.batch * self.model.shape().context);
        self.model.profile_mut().reset();
        exec.install(|| {
            self.model.inner_gradients(exec, &self.params, &self.tokens, &mut self.grads, &mut self.losses);
            let start = Instant::now();
            let norm = reduce::sum_squares(exec, &self.grads).sqrt();
            if norm > CLIP_NORM {
                ops::scale(exec, &mut self.grads, CLIP_NORM / norm);
            }
            self.times.clip = start.elapsed();
            let (beta1, beta2) = (0.9f32, 0.95f32);
            let power = index as i32 + 1;
            let scalars = AdamwScalars {
                lr: 1e-3,
                beta1,
                beta2,
                eps: 1e-8,
                weight_decay: 0.1,
                bias1: 1.0 - beta1.powi(power),
                bias2: 1.0 - beta2.powi(power),
            };
            let start = Instant::now();
            ops::adamw_update(exec, &mut self.params, &self.grads, &mut self.first, &mut self.second, &scalars);
            self.times.adamw = start.elapsed();
        });
        self.times.wall = step_start.elapsed();
        self.times.model = self.model.profile().clone();
        self.losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / self.losses.len() as f64
    }
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied().unwrap_or(f64::NAN),
        _ => values.get(middle.wrapping_sub(1)..=middle).map_or(f64::NAN, |pair| pair.iter().sum::<f64>() / 2.0),
    }
}

/// Processor time of this process so far, seconds, in units of the system's clock tick.
pub(crate) fn cpu_seconds() -> f64 {
    // Fields 14 and 15 of the line, counted after the name in parentheses, are in hundredths of a second on Linux.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// The most memory this process had, bytes.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_products_are_counted() {
        // By hand, for one layer: d 2, one head, ffn 3, vocabulary 5, context 2, batch 1.
        let (mut config, _) = BenchConfig::Small.model();
        (config.d_model, config.layers, config.heads, config.kv_heads) = (2, 1, 1, 1);
        (config.ffn, config.vocab_size, config.context) = (3, 5, 2);
        let weights = 4 * 4 + 3 * 6 + 10;
        let attention = 6 * 2 * 3 * 2;
        assert_eq!(product_flops(&config, 1), 6 * 2 * weights + attention);
    }

    #[test]
    fn the_configurations_have_the_reference_sizes() {
        // As PyTorch counts them.
        let count = |config: BenchConfig| config.model().0.parameter_count();
        assert_eq!(count(BenchConfig::Small), 1_836_160);
        assert_eq!(count(BenchConfig::Medium), 12_585_216);
        assert_eq!(count(BenchConfig::Large), 57_942_528);
    }

    #[test]
    fn the_loss_falls_when_the_same_batch_comes_again() {
        let exec = Exec::detect(1).unwrap();
        let (mut config, _) = BenchConfig::Small.model();
        (config.d_model, config.layers, config.heads, config.kv_heads) = (16, 1, 2, 1);
        (config.ffn, config.vocab_size, config.context) = (16, 32, 16);
        let mut work = Work::new(&exec, &config, 2);
        let first = work.training_step(&exec, 0);
        let later = (0..20).map(|_| work.training_step(&exec, 0)).last().unwrap();
        assert!(later < first - 0.05, "{first} then {later}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(peak_memory_bytes().unwrap() > 1 << 20);
    }
}
