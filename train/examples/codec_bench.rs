//! How fast updates are encoded, checked and added up, in bytes of float32 a second on one thread.
//!
//! `cargo run --release -p essaim-train --example codec_bench`

use essaim_kernels::Exec;
use essaim_protocol::ids::{MemberId, RunId};
use essaim_protocol::manifest::Optimizer;
use essaim_train::codec::{Update, UpdateFormat, UpdateHeader};
use essaim_train::selfcheck::tiny_manifest;
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut manifest = tiny_manifest(Optimizer::Muon);
    (manifest.model.d_model, manifest.model.ffn, manifest.model.layers) = (512, 1536, 4);
    let format = UpdateFormat::of(&manifest);
    let exec = Exec::detect(1)?;
    let header = UpdateHeader { run: RunId([1; 32]), round: 1, member: MemberId([2; 32]) };
    let gradient: Vec<f32> = (0..format.parameters()).map(|i| ((i * 7919 % 10_007) as f32 - 5000.0) * 1e-6).collect();
    let moments = vec![1e-9; format.moments()];
    let mut acc = vec![0.0f32; gradient.len()];
    let gigabytes = 4e-9 * gradient.len() as f64;
    let mut best = [0.0f64; 3];
    for _ in 0..9 {
        let start = Instant::now();
        let bytes = format.encode(&exec, &header, &gradient, &moments)?;
        let encoded = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let update = Update::open(&exec, &bytes, &format, &header)?;
        let checked = start.elapsed().as_secs_f64();
        let start = Instant::now();
        update.accumulate(&exec, 0.25, &mut acc);
        let added = start.elapsed().as_secs_f64();
        for (best, seconds) in best.iter_mut().zip([encoded, checked, added]) {
            *best = best.max(gigabytes / seconds);
        }
    }
    let [encode, check, add] = best;
    println!(
        "{} parameters; GB of float32 a second: encode {encode:.2}, check {check:.2}, add {add:.2}",
        gradient.len()
    );
    Ok(())
}
