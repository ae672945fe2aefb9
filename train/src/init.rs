//! The first checkpoint: derived from the manifest's seed, so that nobody has to download or believe it.
//!
//! **Definition.** Tensor number `i` of the [`ParamLayout`] (from 0) is filled as follows.
//! - Norm gains are 1.
//! - Otherwise its stream is the extendable output of BLAKE3 in key derivation mode, with context
//!   `"essaim f32-exact/1 initial parameters"`, over the 32 bytes of the seed followed by `i` as 8 little-endian bytes.
//!   Bytes `8p..8p+8` of the stream are two little-endian 32-bit integers `a`, `b`, and give elements `2p` and `2p + 1` of the
//!   tensor (row-major; an odd last element takes the first of its pair) by Box and Muller's transform in binary64:
//!   `u = (a + 1) / 2^32`, `w = b / 2^32`, `r = sqrt(-2 ln u)`, `z = r cos(2π w)` and `r sin(2π w)`, with
//!   [`scalar64`]'s functions, `-2 ln u` and `2π w` each one multiplication, and `2π` the nearest binary64.
//!   The element is `z * std` in binary64, rounded to binary32.
//! - `std` is the manifest's `init_std`; for the matrices that write to the residual stream (`o_proj`, `down_proj`) it is
//!   `init_std / sqrt(2 * layers)`, so that the stream's variance does not grow with depth (as GPT-2 does).

use crate::config::ModelShape;
use crate::params::{ParamLayout, TensorKind, TensorSpec};
use essaim_kernels::{Exec, scalar64};
use essaim_protocol::manifest::ModelConfig;

const CONTEXT: &str = "essaim f32-exact/1 initial parameters";

/// Elements that one task fills; even, so that pairs stay together.
const TASK: usize = 1 << 15;

/// The parameters of checkpoint 0, flat in [`ParamLayout`] order. The same bits on every machine and with any number of threads.
///
/// # Panics
/// When [`ModelConfig::check`] refuses `config`, or this thread fails the known-answer test.
pub fn initial_parameters(exec: &Exec, seed: &[u8; 32], config: &ModelConfig) -> Vec<f32> {
    let layout = ParamLayout::new(config);
    let shape = ModelShape::from(config);
    let mut params = vec![0.0f32; layout.total()];
    exec.install(|| {
        for (index, tensor) in layout.tensors().iter().enumerate() {
            let values = &mut params[tensor.range()];
            match tensor.kind {
                TensorKind::Norm => values.fill(1.0),
                TensorKind::Embedding | TensorKind::Matrix | TensorKind::Head => {
                    fill_normal(exec, seed, index as u64, standard_deviation(&shape, tensor), values);
                }
            }
        }
    });
    params
}

fn standard_deviation(shape: &ModelShape, tensor: &TensorSpec) -> f64 {
    let writes_to_stream = tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight");
    if writes_to_stream { shape.init_std / scalar64::sqrt(2.0 * shape.layers as f64) } else { shape.init_std }
}

/// Fills `values` with the stream of tensor `index`.
fn fill_normal(exec: &Exec, seed: &[u8; 32], index: u64, std: f64, values: &mut [f32]) {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(seed);
    hasher.update(&index.to_le_bytes());
    exec.for_each_chunk(values, TASK, |start, chunk| {
        let mut stream = hasher.finalize_xof();
        // Four bytes an element: `start` is even, so this is where its pair begins.
        stream.set_position(4 * start as u64);
        let mut bytes = [0u8; 4096];
        for part in chunk.chunks_mut(bytes.len() / 4) {
            stream.fill(&mut bytes);
            for (pair, word) in part.chunks_mut(2).zip(bytes.chunks_exact(8)) {
                let [a0, a1, a2, a3, b0, b1, b2, b3] = *word else { unreachable!("chunks of eight bytes") };
                let normals = box_muller(u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([b0, b1, b2, b3]));
                for (value, normal) in pair.iter_mut().zip(normals) {
                    *value = (normal * std) as f32;
                }
            }
        }
    });
}

/// Two independent normal values from two uniform integers.
fn box_muller(a: u32, b: u32) -> [f64; 2] {
    const UNIT: f64 = 1.0 / 4_294_967_296.0;
    let radius = scalar64::sqrt(-2.0 * scalar64::log((f64::from(a) + 1.0) * UNIT));
    let angle = std::f64::consts::TAU * (f64::from(b) * UNIT);
    [radius * scalar64::cos(angle), radius * scalar64::sin(angle)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn values_do_not_depend_on_threads_and_have_the_stated_spread() {
        let config = config([2000, 48, 2, 4, 2, 96, 16], false);
        let layout = ParamLayout::new(&config);
        let [one, two, three] =
            [1, 2, 3].map(|threads| initial_parameters(&Exec::detect(threads).unwrap(), &[7; 32], &config));
        assert!(one == two && one == three);
        for tensor in layout.tensors() {
            let values = &one[tensor.range()];
            if tensor.kind == TensorKind::Norm {
                assert!(values.iter().all(|&value| value == 1.0), "{}", tensor.name);
                continue;
            }
            let want = standard_deviation(&ModelShape::from(&config), tensor);
            let count = values.len() as f64;
            let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
            let spread = (values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / count).sqrt();
            assert!(mean.abs() < 5.0 * want / count.sqrt(), "{}: mean {mean}", tensor.name);
            assert!((spread / want - 1.0).abs() < 5.0 / (2.0 * count).sqrt(), "{}: spread {spread}", tensor.name);
        }
    }

    #[test]
    fn tensors_and_seeds_have_streams_of_their_own() {
        let config = config([64, 24, 2, 4, 4, 48, 16], false);
        let layout = ParamLayout::new(&config);
        let exec = Exec::detect(1).unwrap();
        let params = initial_parameters(&exec, &[7; 32], &config);
        let (q, k) = (layout.block(0).q, layout.block(0).k);
        assert_ne!(params[q.clone()], params[k]);
        assert_ne!(params[q.clone()], params[layout.block(1).q]);
        assert_ne!(params[q.clone()], initial_parameters(&exec, &[8; 32], &config)[q]);
    }

    /// The first pair of a stream, calculated here from the definition with another arrangement of the code.
    #[test]
    fn the_first_elements_are_those_of_the_definition() {
        let config = config([64, 24, 1, 4, 2, 48, 16], false);
        let params = initial_parameters(&Exec::detect(1).unwrap(), &[3; 32], &config);
        let mut message = [3u8; 40];
        message[32..].copy_from_slice(&0u64.to_le_bytes());
        let mut stream = [0u8; 8];
        blake3::Hasher::new_derive_key(CONTEXT).update(&message).finalize_xof().fill(&mut stream);
        let word = u64::from_le_bytes(stream);
        let (u, w) = (((word & 0xffff_ffff) + 1) as f64 / 2f64.powi(32), (word >> 32) as f64 / 2f64.powi(32));
        let radius = libm::sqrt(-2.0 * libm::log(u));
        let angle = 2.0 * std::f64::consts::PI * w;
        assert_eq!(params[0], (radius * libm::cos(angle) * 0.02) as f32);
        assert_eq!(params[1], (radius * libm::sin(angle) * 0.02) as f32);
    }
}
