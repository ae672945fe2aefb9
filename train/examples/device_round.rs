//! One contribution on a device and on the CPU: are the updates the same, bit for bit, and how long did each take? One JSON line; exit code 1 if they differ.
//!
//! `cargo run --release -p essaim-train --example device_round -- --config 8m --steps 15 --optimizer muon --device cuda:0`. `--device shim` runs
//! the kernels on the CPU, which is slow: `--config tiny` is for that.

use essaim_cuda_shim::ShimDriver;
use essaim_kernels::Exec;
use essaim_kernels::cuda::{CudaDevices, Device, DeviceSource};
use essaim_protocol::ids::{MemberId, RunId};
use essaim_protocol::manifest::{Manifest, Optimizer};
use essaim_train::contribute::{Contributed, Work, contribute};
use essaim_train::device;
use essaim_train::engine::Engine;
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::{tiny_manifest, tiny_unit};
use std::error::Error;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

struct Arguments {
    config: String,
    steps: u32,
    optimizer: Optimizer,
    device: String,
    threads: usize,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = Arguments {
        config: "8m".into(),
        steps: 15,
        optimizer: Optimizer::Muon,
        device: "cuda:0".into(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match (word.as_str(), value.as_str()) {
            ("--config", _) => arguments.config = value,
            ("--steps", _) => arguments.steps = value.parse()?,
            ("--optimizer", "muon") => arguments.optimizer = Optimizer::Muon,
            ("--optimizer", "adamw") => arguments.optimizer = Optimizer::AdamW,
            ("--device", _) => arguments.device = value,
            ("--threads", _) => arguments.threads = value.parse()?,
            _ => return Err(format!("{word} {value} is unknown; see the source's first lines").into()),
        }
    }
    Ok(arguments)
}

/// A run of the configuration; those of `essaim bench`.
fn manifest(config: &str, optimizer: Optimizer) -> Result<Manifest, Box<dyn Error>> {
    let mut manifest = tiny_manifest(optimizer);
    let [d_model, layers, heads, kv_heads, ffn, vocab_size, context, batch] = match config {
        "tiny" => return Ok(manifest),
        "2m" => [128, 4, 4, 2, 384, 4096, 256, 8],
        "8m" => [256, 4, 4, 4, 1024, 16384, 256, 8],
        "60m" => [512, 8, 8, 4, 1536, 32000, 512, 4],
        _ => return Err(format!("--config {config}: tiny, 2m, 8m or 60m").into()),
    };
    let model = &mut manifest.model;
    (model.d_model, model.layers, model.heads, model.kv_heads) = (d_model, layers, heads, kv_heads);
    (model.ffn, model.vocab_size, model.context) = (ffn, vocab_size, context);
    manifest.inner.batch = batch;
    Ok(manifest)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = arguments()?;
    let device = match arguments.device.strip_prefix("cuda:") {
        Some(ordinal) => CudaDevices.open(ordinal.parse()?)?,
        None if arguments.device == "shim" => Device::new(ShimDriver::open()?),
        None => CudaDevices.open(0)?,
    };
    let exec = Exec::from_env(arguments.threads)?;
    let manifest = manifest(&arguments.config, arguments.optimizer)?;
    let base = Base::initial(&exec, &manifest);
    let context = RoundContext { exec: &exec, manifest: &manifest, run: RunId([1; 32]), round: 1 };
    let micro_batch =
        device::micro_batch_for(&manifest, device::usable_bytes(&device)).ok_or("the model does not fit")?;
    let work = |engine| {
        let (member, steps) = (MemberId([2; 32]), arguments.steps);
        let work = Work { context, engine, member, base: &base, base_tokens_total: 0, steps, micro_batch };
        let start = Instant::now();
        let mut units = |step: u32| Ok(tiny_unit(&manifest, step));
        let done = contribute(&work, &mut units, &mut |_| ControlFlow::Continue(()))?;
        Ok::<(Contributed, f64), Box<dyn Error>>((done, start.elapsed().as_secs_f64()))
    };
    let (on_device, device_s) = work(Engine::Device(&device))?;
    let (on_cpu, cpu_s) = work(Engine::Cpu)?;
    let equal = on_device == on_cpu;
    println!(
        r#"{{"config": "{}", "optimizer": "{:?}", "steps": {}, "skipped": {}, "loss": {}, "update": "{}", "equal": {equal}, "device": "{}", "device_s": {device_s:.3}, "cpu": "{}", "threads": {}, "cpu_s": {cpu_s:.3}}}"#,
        arguments.config,
        arguments.optimizer,
        on_device.steps,
        on_device.skipped,
        f64::from_bits(on_device.loss.0),
        on_device.update_hash,
        device.info().name,
        exec.path(),
        arguments.threads,
    );
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
