//! How fast losses and gradients of a batch are: tokens a second, and the share of each operator.
//!
//! The configurations are those of common PyTorch baselines of the same sizes, without the optimiser. Run as
//! `cargo run --release -p essaim-train --example step_bench -- 8m --threads 2`, next to whatever it is compared with, several times in turn, and
//! compare medians.

use essaim_kernels::{Exec, NUMERICS_ID};
use essaim_protocol::manifest::{F64Bits, ModelConfig};
use essaim_train::init::initial_parameters;
use essaim_train::model::{Model, Operator};
use std::time::Instant;

const HELP: &str = "Times forward, loss and backward of one batch and prints one line of JSON.

Usage: step_bench [2m|8m|60m] [--threads N] [--steps N] [--micro-batch N] [--profile]

  2m, 8m, 60m       the model (default 8m); batch and context belong to it
  --threads N       threads (default: one for each core)
  --steps N         timed batches after two that are not (default 12)
  --micro-batch N   sequences at once (default: the whole batch); changes no bit
  --profile         also print each operator's share of the time, on stderr

ESSAIM_KERNELS=scalar|portable|avx2|avx512 chooses the implementation.";

struct Options {
    name: String,
    threads: usize,
    steps: usize,
    micro_batch: Option<usize>,
    profile: bool,
}

fn options() -> Result<Option<Options>, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { name: "8m".into(), threads: cores, steps: 12, micro_batch: None, profile: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().unwrap_or_default();
            value.parse().ok().filter(|&n: &usize| n > 0).ok_or(format!("{arg} {value}: expected a number above zero"))
        };
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--threads" => options.threads = number()?,
            "--steps" => options.steps = number()?,
            "--micro-batch" => options.micro_batch = Some(number()?),
            "--profile" => options.profile = true,
            name => options.name = name.into(),
        }
    }
    Ok(Some(options))
}

/// The configuration of a name, and its batch.
fn configuration(name: &str) -> Option<(ModelConfig, usize)> {
    let ([d_model, layers, heads, kv_heads, ffn, vocab_size, context], batch) = match name {
        "2m" => ([128, 4, 4, 2, 384, 4096, 256], 8),
        "8m" => ([256, 4, 4, 4, 1024, 16_384, 256], 8),
        "60m" => ([512, 8, 8, 4, 1536, 32_000, 512], 4),
        _ => return None,
    };
    let bits = |value: f64| F64Bits(value.to_bits());
    let (rope_theta, norm_eps, init_std) = (bits(10_000.0), bits(1e-5), bits(0.02));
    let config = ModelConfig {
        vocab_size,
        d_model,
        layers,
        heads,
        kv_heads,
        ffn,
        context,
        tied: false,
        rope_theta,
        norm_eps,
        init_std,
    };
    Some((config, batch))
}

/// Processor time of this process in seconds, where the system tells.
fn processor_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

fn main() -> Result<(), String> {
    let Some(options) = options()? else {
        println!("{HELP}");
        return Ok(());
    };
    let unknown = || format!("no configuration '{}': use 2m, 8m or 60m", options.name);
    let (config, batch) = configuration(&options.name).ok_or_else(unknown)?;
    let exec = Exec::from_env(options.threads).map_err(|error| error.to_string())?;
    let params = initial_parameters(&exec, &[0; 32], &config);
    let micro_batch = options.micro_batch.unwrap_or(batch).min(batch);
    let mut model = Model::new(&config, micro_batch);
    let context = config.context as usize;
    let mut stream = blake3::Hasher::new().finalize_xof();
    let (mut grads, mut losses) = (vec![0.0; params.len()], vec![0.0; batch * context]);
    let mut times = Vec::new();
    let mut processor_start = None;
    for index in 0..options.steps + 2 {
        let mut bytes = vec![0u8; 4 * batch * (context + 1)];
        stream.fill(&mut bytes);
        let tokens: Vec<u32> =
            bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word) % config.vocab_size).collect();
        if index == 2 {
            model.profile_mut().reset();
            processor_start = processor_s();
        }
        let start = Instant::now();
        model.inner_gradients(&exec, &params, &tokens, &mut grads, &mut losses);
        if index >= 2 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let processor = processor_s().zip(processor_start).map_or(f64::NAN, |(end, start)| end - start);
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    if options.profile {
        let profile = model.profile();
        for operator in Operator::all() {
            let share = profile.spent(operator).as_secs_f64() / times.iter().sum::<f64>();
            let ms = 1e3 * profile.spent(operator).as_secs_f64() / options.steps as f64;
            eprintln!("{:>18} {:5.1} % {ms:8.2} ms", operator.to_string(), 100.0 * share);
        }
    }
    let result = serde_json::json!({
        "engine": format!("essaim {NUMERICS_ID} {}", exec.path()),
        "config": options.name,
        "parameters": params.len(),
        "threads": options.threads,
        "micro_batch": micro_batch,
        "tokens_per_step": batch * context,
        "wall_s": median,
        "cpu_s": processor / options.steps as f64,
        "tokens_per_s": ((batch * context) as f64 / median).round(),
        "loss": losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64,
    });
    println!("{result}");
    Ok(())
}
