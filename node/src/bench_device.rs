//! `essaim bench --device cuda`: the same training step on a device, as a round does it: tokens go in, losses and norm come out.

use crate::bench::{
    BenchConfig, BenchLength, BenchResult, cpu_seconds, fill_tokens, median, peak_memory_bytes, product_flops,
};
use crate::bench_ops::{StepTimes, operators};
use essaim_kernels::cuda::{Device, DeviceError};
use essaim_kernels::{Exec, ExecError};
use essaim_protocol::ids::RunId;
use essaim_protocol::manifest::{Manifest, Optimizer};
use essaim_train::device::{DeviceInnerLoop, DeviceTimes, device_memory_bytes, micro_batch_for, usable_bytes};
use essaim_train::engine::StepError;
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::tiny_manifest;
use std::time::{Duration, Instant};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchDeviceError {
    /// The machine cannot do exact arithmetic.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An inner step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The model does not fit the device.
    #[error(
        "{config} needs {needed_bytes} bytes of device memory even with one sequence at a time, {usable_bytes} can be used"
    )]
    Memory {
        /// The configuration.
        config: &'static str,
        /// What it needs.
        needed_bytes: u64,
        /// What there is.
        usable_bytes: u64,
    },
}

/// A run whose inner steps are the ones that are measured: AdamW, as PyTorch does it in the comparison.
fn manifest(config: BenchConfig) -> Manifest {
    let (model, batch) = config.model();
    let mut manifest = tiny_manifest(Optimizer::AdamW);
    (manifest.model, manifest.inner.batch) = (model, batch as u32);
    manifest
}

/// The steps of a bench.
struct Steps<'a> {
    inner: DeviceInnerLoop<'a>,
    /// `[batch, context + 1]`
    tokens: Vec<u32>,
    done: u64,
}

impl Steps<'_> {
    /// A step on other tokens than the last: how long it took, and its loss.
    fn run(&mut self, vocab_size: u32) -> Result<(Duration, f64), StepError> {
        fill_tokens(&mut self.tokens, vocab_size, self.done);
        self.done += 1;
        let start = Instant::now();
        // It waits for the losses, so all of it is done.
        self.inner.step(&self.tokens).map(|report| (start.elapsed(), report.loss))
    }

    /// `count` steps that wait for each operator.
    fn timed(&mut self, count: usize, vocab_size: u32) -> Result<Vec<StepTimes>, StepError> {
        self.inner.start_times();
        (0..count)
            .map(|_| {
                let (wall, _) = self.run(vocab_size)?;
                let DeviceTimes { model, clip, optimizer } = self.inner.take_times();
                Ok(StepTimes { wall, model, clip, adamw: optimizer })
            })
            .collect()
    }
}

/// Measures `config` on `device`. What is around the steps runs on `threads` threads. The operators are timed in as many steps more, which wait
/// for each of them and are slower for it: what they come to is more than `wall_s`.
///
/// # Errors
/// [`BenchDeviceError`].
pub fn bench_on(
    device: &Device,
    config: BenchConfig,
    threads: usize,
    length: BenchLength,
    by_operator: bool,
) -> Result<BenchResult, BenchDeviceError> {
    let exec = Exec::from_env(threads)?;
    let manifest = manifest(config);
    let (model, batch) = config.model();
    let usable_bytes = usable_bytes(device);
    let micro_batch = micro_batch_for(&manifest, usable_bytes).ok_or_else(|| BenchDeviceError::Memory {
        config: config.name(),
        needed_bytes: device_memory_bytes(&manifest, 1),
        usable_bytes,
    })?;
    let context = RoundContext { exec: &exec, manifest: &manifest, run: RunId([0; 32]), round: 1 };
    let base = Base::initial(&exec, &manifest);
    let tokens = vec![0; batch * (model.context as usize + 1)];
    let mut steps = Steps { inner: DeviceInnerLoop::new(device, context, &base, 0, micro_batch)?, tokens, done: 0 };
    steps.run(model.vocab_size)?;
    steps.run(model.vocab_size)?;
    let (start, cpu_start) = (Instant::now(), cpu_seconds());
    let (mut wall, mut loss) = (Vec::new(), 0.0);
    while match length {
        BenchLength::Steps(steps) => wall.len() < steps.max(1),
        BenchLength::Seconds(seconds) => wall.len() < 3 || start.elapsed() < Duration::from_secs_f64(seconds),
    } {
        let (spent, nats) = steps.run(model.vocab_size)?;
        wall.push(spent.as_secs_f64());
        loss = nats;
    }
    let count = wall.len();
    let (wall_s, cpu_s) = (median(&mut wall), (cpu_seconds() - cpu_start) / count as f64);
    let (flops, tokens_per_step) = (product_flops(&model, batch), batch * model.context as usize);
    let peak = device.info().peak_flops();
    let times = if by_operator { steps.timed(count, model.vocab_size)? } else { Vec::new() };
    Ok(BenchResult {
        config: config.name(),
        parameters: model.parameter_count(),
        path: format!("{}:{}", device.info().kind, device.info().ordinal),
        threads,
        tokens_per_step,
        steps: count,
        wall_s,
        cpu_s,
        tokens_per_s: tokens_per_step as f64 / wall_s,
        product_flops_per_step: flops,
        product_flops_per_s: flops as f64 / wall_s,
        peak_flops_per_s: peak,
        peak_share: peak.map(|peak| flops as f64 / wall_s / peak),
        peak_memory_bytes: peak_memory_bytes().unwrap_or(0),
        workspace_bytes: None,
        loss,
        operators: by_operator.then(|| operators(&times, &model, batch, peak)),
        device: Some(device.info().name.clone()),
        device_memory_bytes: Some(device_memory_bytes(&manifest, micro_batch)),
    })
}
