//! `essaim bench`.

use crate::bench::{self, BenchConfig, BenchLength, BenchResult};
use crate::bench_device::bench_on;
use crate::bench_ops;
use crate::events::bytes_text;
use clap::Args;
use essaim_kernels::cuda::{CudaDevices, DeviceChoice, DeviceSource};

/// Arguments of `essaim bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Measures forward, loss, backward, clipping by the global norm and AdamW on random tokens. peak_share is the speed of the
matrix products as a share of what the same threads reach on fused multiply-adds alone, measured in the same process; of a
device, of what its units can do at its highest clock.
")]
pub struct BenchArgs {
    /// The model
    #[arg(long, value_enum, default_value = "8m")]
    pub config: BenchConfig,
    /// What to measure: cpu, auto, cuda, cuda:N
    #[arg(long, default_value_t = DeviceChoice::Cpu, value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Training steps to measure
    #[arg(long, value_name = "N", default_value_t = 12, conflicts_with = "seconds")]
    pub steps: usize,
    /// Measure about so long instead
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Also print a line for each operator: its time, its share of the step, and of a product its share of the peak. On a
    /// device, in as many steps more that wait for each operator
    #[arg(long)]
    pub ops: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        anyhow::ensure!((1..=1024).contains(&threads), "--threads is {threads}: from 1 to 1024");
        let length = match self.seconds {
            Some(seconds) if !(seconds > 0.0 && seconds <= 3600.0) => {
                anyhow::bail!("--seconds is {seconds}: above 0, at most 3600")
            }
            Some(seconds) => BenchLength::Seconds(seconds),
            None => BenchLength::Steps(self.steps),
        };
        let open = |ordinal| CudaDevices.open(ordinal);
        let picked = self.device.pick(&CudaDevices, open);
        let (device, reason) = picked.map_err(|reason| anyhow::anyhow!("--device {}: {reason}", self.device))?;
        if device.is_none() && self.device == DeviceChoice::Auto {
            eprintln!("measuring the CPU: {reason}");
        }
        let result = match device {
            Some(device) => bench_on(&device, self.config, threads, length, self.ops)?,
            None => bench::bench(self.config, threads, length, self.ops)?,
        };
        if self.json {
            println!("{}", serde_json::to_string(&result)?);
            return Ok(());
        }
        let on = result.device.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let BenchResult { config, parameters, threads, path, .. } = &result;
        println!("{config} ({parameters} parameters), {threads} threads, {path}{on}");
        println!("tokens_per_s       {:.0}", result.tokens_per_s);
        println!("wall_s, cpu_s      {:.4}, {:.4}  (median and mean of {})", result.wall_s, result.cpu_s, result.steps);
        match (result.peak_share, result.peak_flops_per_s) {
            (Some(share), Some(peak)) => {
                println!("peak_share         {share:.3}  of {:.1} Gflop/s of fused multiply-adds", peak / 1e9);
            }
            _ => println!("peak_share         not known on this path"),
        }
        if let Some(bytes) = result.device_memory_bytes {
            println!("device_memory      {bytes}  ({})", bytes_text(bytes));
        }
        if result.operators.is_some() {
            print!("{}", bench_ops::table(&result));
        }
        println!("peak_memory_bytes  {}  ({})", result.peak_memory_bytes, bytes_text(result.peak_memory_bytes));
        if let Some(bytes) = result.workspace_bytes {
            println!("workspace_bytes    {bytes}  ({})", bytes_text(bytes));
        }
        Ok(())
    }
}
