//! Checkpoints load in the packages that people use: `safetensors`, and where they are installed `tokenizers` and `transformers`.
//!
//! Runs `tests/python/check_checkpoint.py` with the interpreter named by `ESSAIM_PYTHON`, else `python3`. An interpreter without
//! `safetensors` is no failure: the test then says that it was skipped.
#![allow(clippy::unwrap_used)]

use essaim_kernels::Exec;
use essaim_protocol::manifest::{Manifest, Optimizer};
use essaim_train::checkpoint::{checkpoint_files, write_model_file};
use essaim_train::init::initial_parameters;
use essaim_train::selfcheck::tiny_manifest;
use std::path::Path;
use std::process::Command;

fn python() -> Option<String> {
    let python = std::env::var("ESSAIM_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import numpy, safetensors"]).output().ok()?;
    found.status.success().then_some(python)
}

fn write_folder(folder: &Path, manifest: &Manifest) {
    write_model(folder, manifest);
    for (name, bytes) in checkpoint_files(manifest) {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn a_checkpoint_loads_from_python() {
    let Some(python) = python() else {
        println!("skipped: no python with safetensors; set ESSAIM_PYTHON to one");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_checkpoint.py");
    for tied in [false, true] {
        let mut manifest = tiny_manifest(Optimizer::Muon);
        manifest.model.tied = tied;
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &manifest);
        let run = || Command::new(&python).arg(script).arg(folder.path()).output().unwrap();
        let output = run();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let text = String::from_utf8_lossy(&output.stdout);
        let result: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(result["parameters"], manifest.model.parameter_count());
        // A file of another shape is found out.
        manifest.model.ffn += 2;
        write_model(folder.path(), &manifest);
        assert!(!run().status.success(), "another model's file under the same configuration");
    }
}

fn write_model(folder: &Path, manifest: &Manifest) {
    let params = initial_parameters(&Exec::detect(1).unwrap(), &manifest.seed, &manifest.model);
    write_model_file(&folder.join("model.safetensors"), &manifest.model, &params).unwrap();
}
