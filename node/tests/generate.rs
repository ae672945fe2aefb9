//! Candle's forward pass of a checkpoint that `train` wrote agrees with `train`'s own, within rounding.
#![allow(clippy::unwrap_used)]

use essaim_kernels::Exec;
use essaim_node::generate::Llama;
use essaim_protocol::manifest::Optimizer;
use essaim_train::checkpoint;
use essaim_train::init::initial_parameters;
use essaim_train::model::Evaluator;
use essaim_train::selfcheck::tiny_manifest;

#[test]
fn candle_reads_our_checkpoints_and_comes_to_the_same_logits() {
    let exec = Exec::detect(1).unwrap();
    for tied in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = tiny_manifest(Optimizer::Muon);
        manifest.model.tied = tied;
        // Weights large enough that attention and positions matter.
        manifest.model.init_std = essaim_protocol::manifest::F64Bits(0.3f64.to_bits());
        let params = initial_parameters(&exec, &[7; 32], &manifest.model);
        checkpoint::write_model_file(&dir.path().join("model.safetensors"), &manifest.model, &params).unwrap();
        for (name, bytes) in checkpoint::checkpoint_files(&manifest) {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let llama = Llama::load(dir.path()).unwrap();
        let vocab = manifest.model.vocab_size;
        let ids: Vec<u32> = (0..manifest.model.context.min(12)).map(|i| (i * 5 + 2) % vocab).collect();
        let theirs = llama.session().feed(&ids).unwrap();
        let mut ours = vec![0.0f32; vocab as usize];
        Evaluator::new(&manifest.model).logits(&exec, &params, &ids, &mut ours);
        let largest = ours.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        assert!(largest > 0.1, "logits that say something: {largest}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() < 1e-4 * largest.max(1.0), "tied {tied}: {a} and {b}");
        }
    }
}
