//! Checkpoints: the Hugging Face layout, with bytes that follow from the parameters alone.
//!
//! `model.safetensors` has one tensor after another in the order of [`ParamLayout`], as float32, and a header of our own making: an
//! 8-byte little-endian length, then JSON without blanks, `__metadata__` (`{"format":"pt"}`, without which some loaders
//! refuse a file) first, then the tensors in order, then blanks up to a multiple of eight. So `b3sum` of the file is the hash in the
//! record, and a reader can ask for exactly this header.

use crate::config::float64;
use crate::files;
use crate::params::ParamLayout;
use essaim_protocol::ids::Hash;
use essaim_protocol::manifest::{Manifest, ModelConfig};
use serde_json::json;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Id of the token that begins a document, `<s>`.
pub const BOS_ID: u32 = 0;
/// Id of the token that ends a document, `</s>`.
pub const EOS_ID: u32 = 1;
/// Id of the token that stands for nothing, `<pad>`.
pub const PAD_ID: u32 = 3;

/// Why a file is no checkpoint of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("checkpoint: {0}")]
    Io(#[from] io::Error),
    /// Not as long as this model's file is.
    #[error("a model file of {got} bytes, this model's has {expected}: truncated, or of another model")]
    Length {
        /// Its length, bytes.
        got: u64,
        /// The length of the model's file, bytes.
        expected: u64,
    },
    /// The header is not the one that this model has.
    #[error(
        "the model file's header differs from this model's from byte {at} on: damaged, of another model, or not written by essaim"
    )]
    Header {
        /// The first byte that differs.
        at: usize,
    },
    /// A parameter is infinite or not a number.
    #[error("the model file holds a value that is not finite in {tensor}, element {index}")]
    NonFinite {
        /// Which tensor.
        tensor: String,
        /// Which element of it.
        index: usize,
    },
}

/// The bytes of the model file before the parameters.
fn model_header(layout: &ParamLayout) -> Vec<u8> {
    let mut text = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    for tensor in layout.tensors() {
        let shape: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        let (start, end) = (4 * tensor.range().start, 4 * tensor.range().end);
        let _ = write!(
            text,
            r#","{}":{{"dtype":"F32","shape":[{}],"data_offsets":[{start},{end}]}}"#,
            tensor.name,
            shape.join(",")
        );
    }
    text.push('}');
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Length of the model file of any checkpoint of a model.
pub fn model_file_len_bytes(config: &ModelConfig) -> u64 {
    let layout = ParamLayout::new(config);
    model_header(&layout).len() as u64 + 4 * layout.total() as u64
}

fn write_model(config: &ModelConfig, params: &[f32], out: &mut dyn Write) -> io::Result<()> {
    let layout = ParamLayout::new(config);
    assert_eq!(params.len(), layout.total(), "parameters of another model");
    out.write_all(&model_header(&layout))?;
    files::for_each_le_chunk(params, &mut |bytes| out.write_all(bytes))
}

/// The hash of the model file, without writing it: what the record says of a checkpoint.
///
/// # Panics
/// When `params` are of another model.
pub fn model_file_hash(config: &ModelConfig, params: &[f32]) -> Hash {
    let mut hasher = files::HashWriter::new();
    match write_model(config, params, &mut hasher) {
        Ok(()) => hasher.finish(),
        Err(error) => unreachable!("hashing does no input or output: {error}"),
    }
}

/// Writes the model file, atomically, and returns its hash.
///
/// # Errors
/// What the file system says.
///
/// # Panics
/// When `params` are of another model.
pub fn write_model_file(path: &Path, config: &ModelConfig, params: &[f32]) -> io::Result<Hash> {
    Ok(files::write_atomic(path, |out| write_model(config, params, out))?.0)
}

/// Reads a model file into parameters. Callers compare [`model_file_hash`] with the record, or have the file's hash checked already.
///
/// # Errors
/// [`CheckpointError`].
pub fn read_model_file(path: &Path, config: &ModelConfig) -> Result<Vec<f32>, CheckpointError> {
    let file = File::open(path)?;
    let got = file.metadata()?.len();
    read_model(file, got, config)
}

/// Reads a model file of `len_bytes` bytes from a reader.
///
/// # Errors
/// [`CheckpointError`].
pub fn read_model(mut input: impl Read, len_bytes: u64, config: &ModelConfig) -> Result<Vec<f32>, CheckpointError> {
    let layout = ParamLayout::new(config);
    let expected_header = model_header(&layout);
    let expected = expected_header.len() as u64 + 4 * layout.total() as u64;
    if len_bytes != expected {
        return Err(CheckpointError::Length { got: len_bytes, expected });
    }
    let mut header = vec![0; expected_header.len()];
    input.read_exact(&mut header)?;
    if let Some(at) = header.iter().zip(&expected_header).position(|(got, expected)| got != expected) {
        return Err(CheckpointError::Header { at });
    }
    let mut params = Vec::with_capacity(layout.total());
    let mut piece = vec![0; 4 << 16];
    while params.len() < layout.total() {
        let piece = &mut piece[..4 * (layout.total() - params.len()).min(1 << 16)];
        input.read_exact(piece)?;
        params.extend(piece.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    match params.iter().position(|value| !value.is_finite()) {
        None => Ok(params),
        Some(at) => {
            let tensor = layout.tensors().iter().find(|tensor| tensor.range().contains(&at));
            let (tensor, offset) = tensor.map_or((String::new(), 0), |tensor| (tensor.name.clone(), tensor.offset));
            Err(CheckpointError::NonFinite { tensor, index: at - offset })
        }
    }
}

/// The small files that stand beside the model file in a checkpoint folder, by name; `tokenizer.json` is the data set's. They follow from
/// the manifest, so that every checkpoint of a run has the same.
pub fn checkpoint_files(manifest: &Manifest) -> Vec<(&'static str, Vec<u8>)> {
    let model = &manifest.model;
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "head_dim": model.head_dim(),
        "hidden_act": "silu",
        "hidden_size": model.d_model,
        "initializer_range": float64(model.init_std),
        "intermediate_size": model.ffn,
        "max_position_embeddings": model.context,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": float64(model.norm_eps),
        "rope_scaling": null,
        "rope_theta": float64(model.rope_theta),
        "tie_word_embeddings": model.tied,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": model.vocab_size,
    });
    let generation = json!({ "bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID });
    let tokenizer = json!({
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": false,
        "eos_token": "</s>",
        "model_max_length": model.context,
        "pad_token": "<pad>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
    });
    let files = [("config.json", config), ("generation_config.json", generation), ("tokenizer_config.json", tokenizer)];
    files.into_iter().map(|(name, value)| (name, format!("{value:#}\n").into_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::tiny_manifest;
    use essaim_protocol::manifest::Optimizer;
    use safetensors::SafeTensors;

    fn params(config: &ModelConfig) -> Vec<f32> {
        (0..ParamLayout::new(config).total()).map(|i| (i as f32 - 500.0) * 1e-3).collect()
    }

    fn configs() -> [ModelConfig; 2] {
        let model = tiny_manifest(Optimizer::Muon).model;
        [ModelConfig { tied: true, ..model.clone() }, model]
    }

    #[test]
    fn a_model_file_comes_back_and_hashes_as_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for config in configs() {
            let path = folder.path().join("model.safetensors");
            let params = params(&config);
            let hash = write_model_file(&path, &config, &params).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(hash, Hash::of(&bytes));
            assert_eq!(hash, model_file_hash(&config, &params));
            assert_eq!(bytes.len() as u64, model_file_len_bytes(&config));
            assert_eq!(read_model_file(&path, &config).unwrap(), params);
        }
    }

    #[test]
    fn the_safetensors_crate_reads_the_same_tensors() {
        for config in configs() {
            let params = params(&config);
            let mut bytes = Vec::new();
            write_model(&config, &params, &mut bytes).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let layout = ParamLayout::new(&config);
            assert_eq!(file.len(), layout.tensors().len());
            assert_eq!(layout.tensor("lm_head.weight").is_none(), config.tied);
            for tensor in layout.tensors() {
                let view = file.tensor(&tensor.name).unwrap();
                assert_eq!(view.shape(), tensor.shape());
                assert_eq!(files::f32s_from_le(view.data()), params[tensor.range()]);
            }
            assert_eq!((bytes.len() - 4 * params.len()) % 8, 0);
        }
    }

    #[test]
    fn damage_is_named() {
        let [_, config] = configs();
        let mut bytes = Vec::new();
        write_model(&config, &params(&config), &mut bytes).unwrap();
        let error = |bytes: &[u8]| read_model(bytes, bytes.len() as u64, &config).unwrap_err().to_string();
        assert!(error(&bytes[..bytes.len() - 1]).contains("truncated"));
        let flipped = |at: usize, bit: u8| {
            let mut bytes = bytes.clone();
            bytes[at] ^= bit;
            bytes
        };
        assert!(error(&flipped(40, 1)).contains("from byte 40 on"));
        let mut bad = bytes.clone();
        let at = bad.len() - 4;
        bad[at..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        assert!(error(&bad).contains("lm_head.weight, element 1679"), "{}", error(&bad));
    }

    #[test]
    fn small_files_are_the_ones_that_the_layout_names() {
        let manifest = tiny_manifest(Optimizer::Muon);
        let files = checkpoint_files(&manifest);
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let wanted = essaim_protocol::layout::CHECKPOINT_FILES;
        assert_eq!(names, wanted.into_iter().filter(|name| *name != "tokenizer.json").collect::<Vec<_>>());
        let config: serde_json::Value = serde_json::from_slice(&files[0].1).unwrap();
        assert_eq!(config["num_key_value_heads"], 2);
        assert_eq!(config["rms_norm_eps"], 1e-5);
        assert_eq!(config["rope_theta"], 10_000.0);
    }
}
