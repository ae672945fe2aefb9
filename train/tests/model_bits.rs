//! The bit promises of the model: nothing but parameters and tokens decides losses and gradients.
#![allow(clippy::unwrap_used)]

mod model_support;

use essaim_kernels::{Exec, Path};
use essaim_protocol::manifest::ModelConfig;
use essaim_train::init::initial_parameters;
use essaim_train::model::{Evaluator, Model};
use essaim_train::params::ParamLayout;
use model_support::{config, grouped, parameters, tokens};

const BATCH: usize = 5;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Bits of the gradients and the losses of one batch.
fn inner_step(exec: &Exec, config: &ModelConfig, batch_max: usize) -> (Vec<u32>, Vec<u32>) {
    let params = parameters(&Exec::detect(1).unwrap(), config);
    let context = config.context as usize;
    let rows = tokens(BATCH * (context + 1), config.vocab_size, 3);
    let (mut grads, mut losses) = (vec![f32::NAN; params.len()], vec![f32::NAN; BATCH * context]);
    let mut model = Model::new(config, batch_max);
    // Twice: what one inner step leaves in the buffers is not seen by the next.
    for _ in 0..2 {
        model.inner_gradients(exec, &params, &rows, &mut grads, &mut losses);
    }
    assert!(grads.iter().chain(&losses).all(|value| value.is_finite()));
    (bits(&grads), bits(&losses))
}

/// Odd lengths; single heads; and a model large enough that work is really shared out among threads.
fn configs() -> Vec<ModelConfig> {
    vec![
        grouped(false),
        grouped(true),
        config([50, 16, 2, 4, 1, 24, 1], false),
        config([600, 48, 2, 3, 3, 130, 70], true),
    ]
}

#[test]
fn paths_and_threads_give_the_same_bits() {
    for config in configs() {
        let want = inner_step(&Exec::new(Path::Scalar, 1).unwrap(), &config, BATCH);
        for path in Path::available() {
            for threads in [1, 2, 3] {
                let got = inner_step(&Exec::new(path, threads).unwrap(), &config, BATCH);
                assert!(got == want, "{path} with {threads} threads differs for {config:?}");
            }
        }
    }
}

#[test]
fn micro_batches_give_the_bits_of_the_whole_batch() {
    let exec = Exec::detect(2).unwrap();
    for config in configs() {
        let want = inner_step(&exec, &config, BATCH);
        for batch_max in [1, 2, 3, 4, 9] {
            assert!(
                inner_step(&exec, &config, batch_max) == want,
                "micro-batches of {batch_max} differ for {config:?}"
            );
        }
    }
}

/// With this vocabulary a tile holds the logits of 256 tokens, so those of 3 × 130 are cut within a sequence.
#[test]
fn tiles_of_logits_change_no_bit() {
    let config = config([(8 << 20) / 256, 4, 1, 1, 1, 8, 130], false);
    let exec = Exec::detect(2).unwrap();
    let params = parameters(&exec, &config);
    let rows = tokens(3 * 131, config.vocab_size, 3);
    let step = |batch_max| {
        let (mut grads, mut losses) = (vec![0.0; params.len()], vec![0.0; 390]);
        Model::new(&config, batch_max).inner_gradients(&exec, &params, &rows, &mut grads, &mut losses);
        (bits(&grads), bits(&losses))
    };
    let (grads, losses) = step(1);
    assert!(grads.iter().any(|&bits| bits != 0) && losses.iter().all(|&bits| bits != 0));
    assert!((grads, losses) == step(3));
}

#[test]
fn evaluation_has_the_same_bits_on_every_path_and_any_number_of_threads() {
    let config = config([600, 48, 2, 3, 3, 130, 70], true);
    let params = parameters(&Exec::detect(1).unwrap(), &config);
    let rows = tokens(68, config.vocab_size, 4);
    let losses = |exec: &Exec| {
        let mut losses = vec![f32::NAN; 67];
        Evaluator::new(&config).losses(exec, &params, &rows[..67], &rows[1..], &mut losses);
        bits(&losses)
    };
    let want = losses(&Exec::new(Path::Scalar, 1).unwrap());
    for path in Path::available() {
        for threads in [1, 2, 3] {
            assert!(losses(&Exec::new(path, threads).unwrap()) == want, "{path} with {threads} threads differs");
        }
    }
}

/// The hash of a vector's little-endian bytes.
fn hash(values: impl IntoIterator<Item = u32>) -> String {
    let mut hasher = blake3::Hasher::new();
    values.into_iter().for_each(|value| {
        hasher.update(&value.to_le_bytes());
    });
    hasher.finalize().to_hex().to_string()
}

/// Golden: another value means that checkpoints and records of existing runs can no longer be rebuilt, so it needs a new numerics
/// id.
#[test]
fn initial_parameters_losses_and_gradients_are_the_golden_ones() {
    let exec = Exec::detect(2).unwrap();
    let initial = initial_parameters(&exec, &[1; 32], &config([4096, 128, 4, 4, 2, 384, 256], false));
    assert_eq!(initial.len(), ParamLayout::new(&config([4096, 128, 4, 4, 2, 384, 256], false)).total());
    let (grads, losses) = inner_step(&exec, &grouped(false), BATCH);
    let (tied_grads, tied_losses) = inner_step(&exec, &grouped(true), BATCH);
    let got = [bits(&initial), losses, grads, tied_losses, tied_grads].map(hash);
    let want = [
        "8928ddc62ed660744dacd5d64405b9ed041965f017fcfaaebfad6521c5d92392",
        "ce927f3f7b8ffd091e00fa0ab106ba9ce8d803f8789738c9255500dedafcb97e",
        "71113e26ad090ac13e0967a6dfd2f0e03d8248b5e1dfc512ec9df70885761fcb",
        "bf74a980ae53cf1bdb775215fa1173c698e541fa6223a48f7dd8a591d1578d93",
        "ee3562a8d5fe1f3a95aaa017b16d6cf1833284a2b3367fb80ed9683eb9fa563c",
    ];
    assert_eq!(got, want);
}
