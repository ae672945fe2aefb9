//! The speed of a device's matrix products on the shapes of the measured models, as JSON lines. `benches/gpu.py` compares them with cuBLAS.
//!
//! `cargo run --release -p essaim-cuda-shim --example device_products -- --device cuda:0`; `--device shim` runs each once, to see that it works.

use std::time::Instant;

use essaim_cuda_shim::ShimDriver;
use essaim_kernels::Layout;
use essaim_kernels::cuda::{CudaDevices, Device, DeviceError, DeviceSource, ops};

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

fn measure(device: &Device, (layout, m, n, k): Shape, once: bool) -> Result<f64, DeviceError> {
    let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i % 1013) as f32 / 512.0 - 1.0).collect() };
    let (a, b, mut c) =
        (device.buffer_from(&values(m * k))?, device.buffer_from(&values(n * k))?, device.buffer(m * n)?);
    let (lda, ldb) = match layout {
        Layout::NN => (k, n),
        Layout::NT => (k, k),
        Layout::TN => (m, n),
    };
    let mut run = |times: usize| {
        let start = Instant::now();
        for _ in 0..times {
            ops::gemm(device, layout, m, n, k, a.view(..), lda, b.view(..), ldb, c.view_mut(..), n, false)?;
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--device"), Some(name)) => name,
        _ => return Err("usage: device_products --device cuda:N|shim".into()),
    };
    let is_shim = name == "shim";
    let device = match name.strip_prefix("cuda:") {
        _ if is_shim => Device::new(ShimDriver::open()?),
        Some(ordinal) => CudaDevices.open(ordinal.parse()?)?,
        None => CudaDevices.open(0)?,
    };
    let shapes = if is_shim { vec![(Layout::NT, 200, 130, 40), (Layout::TN, 64, 70, 9)] } else { shapes() };
    for shape in shapes {
        let seconds = measure(&device, shape, is_shim)?;
        let (layout, m, n, k) = shape;
        let flops = (2 * m * n * k) as f64 / seconds;
        println!(r#"{{"layout": "{layout:?}", "m": {m}, "n": {n}, "k": {k}, "flops_per_s": {flops:.0}}}"#);
    }
    Ok(())
}
