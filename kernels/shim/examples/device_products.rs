//! The speed of a device's matrix products on the shapes of the measured models, as JSON lines. `benches/gpu.py` compares them with cuBLAS.
//!
//! `cargo run --release -p essaim-cuda-shim --example device_products -- --device cuda:0 [--kind auto|large|small|tiny|any|all]`: by the kernels that suit
//! the device (`auto`), by those of one kind, or by those of each kind in turn. `--device shim` runs two products once, to see that it works.

use std::time::Instant;

use essaim_cuda_shim::ShimDriver;
use essaim_kernels::Layout;
use essaim_kernels::cuda::ops::{self, ProductKind};
use essaim_kernels::cuda::{CudaDevices, Device, DeviceError, DeviceSource};

/// Tokens of a batch, width, width of keys and values, feed-forward width, vocabulary.
const MODELS: [[usize; 5]; 3] =
    [[2048, 128, 64, 384, 4096], [2048, 256, 256, 1024, 16384], [2048, 512, 256, 1536, 32000]];
/// Most tokens of a product with the vocabulary, as the inner loop cuts them.
const LOGITS: usize = 32 << 20;

type Shape = (Layout, usize, usize, usize);

/// Products of a layer `[outputs, inputs]`: forward, gradient of the input, gradient of the weights.
fn layer(tokens: usize, inputs: usize, outputs: usize) -> [Shape; 3] {
    [
        (Layout::NT, tokens, outputs, inputs),
        (Layout::NN, tokens, inputs, outputs),
        (Layout::TN, outputs, inputs, tokens),
    ]
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for [tokens, width, kv, ffn, vocab] in MODELS {
        let tile = (LOGITS / vocab / 128 * 128).min(tokens);
        let layers = [(tokens, width, width), (tokens, width, kv), (tokens, width, ffn), (tokens, ffn, width)];
        for (tokens, inputs, outputs) in layers.into_iter().chain([(tile, width, vocab)]) {
            for shape in layer(tokens, inputs, outputs) {
                if !shapes.contains(&shape) {
                    shapes.push(shape);
                }
            }
        }
    }
    shapes.push((Layout::NN, 4096, 4096, 4096));
    shapes
}

/// Uniform from -1 to 1: what is multiplied decides how much power a card takes, and so its clock. (SplitMix64.)
fn values(len: usize, seed: u64) -> Vec<f32> {
    let value = |index: usize| {
        let mut bits = (index as u64).wrapping_add(seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(value).collect()
}

/// Cards wake up slowly.
fn warm_up(device: &Device) -> Result<(), DeviceError> {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 1.0 {
        measure(device, None, (Layout::NN, 2048, 2048, 2048), true)?;
    }
    Ok(())
}

/// Seconds of a product.
fn measure(
    device: &Device,
    kind: Option<ProductKind>,
    (layout, m, n, k): Shape,
    once: bool,
) -> Result<f64, DeviceError> {
    let (a, b, mut c) =
        (device.buffer_from(&values(m * k, 1))?, device.buffer_from(&values(n * k, 2))?, device.buffer(m * n)?);
    let (lda, ldb) = match layout {
        Layout::NN => (k, n),
        Layout::NT => (k, k),
        Layout::TN => (m, n),
    };
    let mut run = |times: usize| {
        let start = Instant::now();
        for _ in 0..times {
            let (a, b, c) = (a.view(..), b.view(..), c.view_mut(..));
            ops::gemm_of_kind(device, kind, layout, m, n, k, a, lda, b, ldb, c, n, false)?;
        }
        device.synchronize()?;
        Ok::<f64, DeviceError>(start.elapsed().as_secs_f64() / times as f64)
    };
    if once {
        return run(1);
    }
    let times = ((2e10 / (2 * m * n * k) as f64) as usize).clamp(1, 200);
    run(times)?;
    run(times)?;
    let mut seconds = (0..12).map(|_| run(times)).collect::<Result<Vec<f64>, _>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[6])
}

/// The kinds to measure, with their names.
fn kinds(wanted: &str) -> Option<Vec<(&'static str, Option<ProductKind>)>> {
    let named = [
        ("auto", None),
        ("large", Some(ProductKind::Large)),
        ("small", Some(ProductKind::Small)),
        ("tiny", Some(ProductKind::Tiny)),
        ("any", Some(ProductKind::Any)),
    ];
    let wanted = |(name, _): &(&str, _)| *name == wanted || (wanted == "all" && *name != "auto");
    Some(named.into_iter().filter(wanted).collect::<Vec<_>>()).filter(|kinds| !kinds.is_empty())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: device_products --device cuda:N|shim [--kind auto|large|small|tiny|any|all]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, kinds) = match arguments[..] {
        ["--device", name] => (name, kinds("auto")),
        ["--device", name, "--kind", kind] => (name, kinds(kind)),
        _ => return Err(usage.into()),
    };
    let kinds = kinds.ok_or(usage)?;
    let is_shim = name == "shim";
    let device = match name.strip_prefix("cuda:") {
        _ if is_shim => Device::new(ShimDriver::open()?),
        Some(ordinal) => CudaDevices.open(ordinal.parse()?)?,
        None => CudaDevices.open(0)?,
    };
    let shapes = if is_shim { vec![(Layout::NT, 200, 132, 40), (Layout::TN, 64, 72, 12)] } else { shapes() };
    if !is_shim {
        warm_up(&device)?;
    }
    for shape in shapes {
        for &(name, kind) in &kinds {
            let seconds = measure(&device, kind, shape, is_shim)?;
            let (layout, m, n, k) = shape;
            let flops = (2 * m * n * k) as f64 / seconds;
            println!(
                r#"{{"layout": "{layout:?}", "m": {m}, "n": {n}, "k": {k}, "kind": "{name}", "flops_per_s": {flops:.0}}}"#
            );
        }
    }
    Ok(())
}
