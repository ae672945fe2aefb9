//! `essaim evaluate`.

use crate::generate::config::LlamaConfig;
use anyhow::{Context, bail};
use clap::Args;
use essaim_kernels::Exec;
use essaim_protocol::dataset::DatasetManifest;
use essaim_protocol::ids::Hash;
use essaim_protocol::limits;
use essaim_protocol::manifest::{F64Bits, ModelConfig};
use essaim_train::checkpoint::read_model_file;
use essaim_train::eval::{ShardLoss, TokenBytes, evaluate_shard};
use essaim_train::model::Evaluator;
use essaim_train::shard::ShardReader;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, json};
use std::path::{Path, PathBuf};

/// Arguments of `essaim evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Bits per byte: how many bits the model needs for a byte of text it was never trained on, each document by itself, summed over the
held-out documents of a language. Lower is better; `essaim-corpus xz DATASET` gives what a general-purpose compressor needs.

Example: essaim evaluate --checkpoint DIR/public/checkpoints/00000010 --dataset DIR/public/dataset
")]
pub struct EvaluateArgs {
    /// The folder of the checkpoint
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The folder of the data set: dataset.manifest and shards
    #[arg(long, value_name = "DIR")]
    pub dataset: PathBuf,
    /// Only so many tokens of each language; whole documents
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub tokens: u64,
    /// Threads; all cores unless said
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl EvaluateArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let exec = Exec::from_env(self.threads.unwrap_or(cores))?;
        let config = model_config(&self.checkpoint.join("config.json"))?;
        let params = read_model_file(&self.checkpoint.join("model.safetensors"), &config)
            .with_context(|| format!("reading the model in {}", self.checkpoint.display()))?;
        let tokenizer = read(&self.checkpoint.join("tokenizer.json"))?;
        let token_bytes = TokenBytes::from_tokenizer_json(&tokenizer)?;
        let dataset = DatasetManifest::from_bytes(&read(&self.dataset.join("dataset.manifest"))?)?;
        if dataset.tokenizer != Hash::of(&tokenizer) {
            bail!("the data set was made with another tokenizer than the checkpoint's; name the data set of its run");
        }
        let mut evaluator = Evaluator::new(&config);
        let mut losses: Vec<(String, ShardLoss)> = Vec::new();
        let progress = progress(dataset.heldout.len() as u64);
        for heldout in &dataset.heldout {
            progress.set_message(heldout.language.clone());
            let path = self.dataset.join("shards").join(format!("{}.shard", heldout.shard.hash));
            let bytes = read(&path)?;
            if Hash::of(&bytes) != heldout.shard.hash {
                bail!("{} is damaged: its hash is not its name", path.display());
            }
            let mut shard = ShardReader::from_bytes(bytes).with_context(|| path.display().to_string())?;
            let loss = evaluate_shard(&exec, &mut evaluator, &params, &mut shard, &token_bytes, self.tokens)?;
            losses.push((heldout.language.clone(), loss));
            progress.inc(1);
        }
        progress.finish_and_clear();
        print(&losses, self.json);
        Ok(())
    }
}

fn print(losses: &[(String, ShardLoss)], as_json: bool) {
    if !as_json {
        println!("language  bits/byte    tokens     bytes");
        for (language, loss) in losses {
            println!("{language:>8} {:>10.4} {:>9} {:>9}", loss.bits_per_byte(), loss.tokens, loss.text_bytes);
        }
        return;
    }
    let column = |value: &dyn Fn(&ShardLoss) -> serde_json::Value| -> Map<String, serde_json::Value> {
        losses.iter().map(|(language, loss)| (language.clone(), value(loss))).collect()
    };
    let value = json!({
        "heldout_bits_per_byte": column(&|loss| loss.bits_per_byte().into()),
        "nats": column(&|loss| loss.nats.into()),
        "tokens": column(&|loss| loss.tokens.into()),
        "text_bytes": column(&|loss| loss.text_bytes.into()),
    });
    println!("{value}");
}

fn progress(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} languages, {msg}") {
        bar.set_style(style);
    }
    bar
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("reading {}", path.display());
    let len = std::fs::metadata(path).with_context(context)?.len();
    if len > limits::SHARD_MAX {
        bail!("{} has {len} bytes, at most {} are read", path.display(), limits::SHARD_MAX);
    }
    std::fs::read(path).with_context(context)
}

/// The shape of the checkpoint's model, checked.
fn model_config(path: &Path) -> anyhow::Result<ModelConfig> {
    let config =
        LlamaConfig::from_json(&read(path)?).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let model = ModelConfig {
        vocab_size: number(config.vocab_size),
        d_model: number(config.hidden_size),
        layers: number(config.num_hidden_layers),
        heads: number(config.num_attention_heads),
        kv_heads: number(config.kv_heads()),
        ffn: number(config.intermediate_size),
        context: number(config.max_position_embeddings),
        tied: config.tie_word_embeddings,
        rope_theta: F64Bits(config.rope_theta.to_bits()),
        norm_eps: F64Bits(config.rms_norm_eps.to_bits()),
        // Not needed to read a model.
        init_std: F64Bits(1.0f64.to_bits()),
    };
    model.check().with_context(|| path.display().to_string())?;
    if config.head_width() != model.head_dim() as usize {
        bail!("{}: heads of another width than hidden_size / num_attention_heads are not known here", path.display());
    }
    Ok(model)
}
