//! The swarm against data parallelism and against one machine, at equal tokens: loss and bits per byte on held-out text.
//!
//! ```text
//! cargo run --release -p essaim-train --example compare -- dataset=DIR [method=swarm,parallel,single] [members=4] [rounds=10]
//!     [steps=30] [batch=4] [context=128] [lr=2e-3] [optimizer=muon|adamw] [threads=N] [seed=1] …
//! ```
//!
//! `DIR` is what `essaim-corpus build` makes. All methods start from one checkpoint, read the same units in the same order and have the
//! same schedule by tokens:
//! - `swarm`: members do `steps` inner steps a round each; their updates go through the codec and the outer step, all as in a real run;
//! - `parallel`: one optimiser whose batch is that of all members together: what a data centre would do;
//! - `single`: one machine with a member's batch, for as many tokens.
//!
//! With `out=FOLDER` the last checkpoint is left there. Settings of the run have the names of the manifest. Each result is one line of JSON on standard output.

use essaim_kernels::Exec;
use essaim_protocol::data_order::DataOrder;
use essaim_protocol::dataset::DatasetManifest;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{Codec, F64Bits, Manifest, MixWeight, Optimizer, Phase};
use essaim_protocol::statements::Contribution;
use essaim_train::aggregate::next_checkpoint;
use essaim_train::checkpoint::{checkpoint_files, write_model_file};
use essaim_train::contribute::{Work, contribute};
use essaim_train::engine::Engine;
use essaim_train::eval::{TokenBytes, evaluate_shard};
use essaim_train::inner::InnerLoop;
use essaim_train::model::Evaluator;
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::tiny_manifest;
use essaim_train::shard::ShardReader;
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

type Failure = Box<dyn Error + Send + Sync>;

/// `name=value` arguments; each is taken once, and none may be left.
struct Arguments(BTreeMap<String, String>);

impl Arguments {
    fn parse() -> Result<Arguments, Failure> {
        let pair = |argument: String| match argument.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("'{argument}' is no name=value; see the top of examples/compare.rs").into()),
        };
        std::env::args().skip(1).map(pair).collect::<Result<_, Failure>>().map(Arguments)
    }

    fn take<T: FromStr>(&mut self, name: &str, default: &str) -> Result<T, Failure> {
        let value = self.0.remove(name).unwrap_or_else(|| default.to_owned());
        value.parse().map_err(|_| format!("{name}={value} is no such value").into())
    }

    fn bits(&mut self, name: &str, default: &str) -> Result<F64Bits, Failure> {
        Ok(F64Bits(self.take::<f64>(name, default)?.to_bits()))
    }

    fn finish(self) -> Result<(), Failure> {
        match self.0.keys().next() {
            Some(name) => Err(format!("no setting is called '{name}'").into()),
            None => Ok(()),
        }
    }
}

/// What all methods share.
struct Scene {
    exec: Exec,
    folder: PathBuf,
    dataset: DatasetManifest,
    order: DataOrder,
    manifest: Manifest,
    token_bytes: TokenBytes,
    members: u64,
    shards: BTreeMap<Hash, ShardReader<File>>,
    languages: Vec<String>,
    /// Held-out loss is measured after so many rounds; 0: only at the end.
    eval_every: u64,
    /// Where the last checkpoint is left.
    out: Option<PathBuf>,
}

fn manifest(arguments: &mut Arguments, dataset: &DatasetManifest, members: u64) -> Result<Manifest, Failure> {
    let optimizer = match arguments.take::<String>("optimizer", "muon")?.as_str() {
        "muon" => Optimizer::Muon,
        "adamw" => Optimizer::AdamW,
        other => return Err(format!("optimizer={other}: muon or adamw").into()),
    };
    let mut manifest = tiny_manifest(optimizer);
    (manifest.tokenizer, manifest.dataset) = (dataset.tokenizer, Hash::of(&dataset.to_bytes()));
    manifest.seed = [arguments.take("seed", "1")?; 32];
    manifest.rounds = arguments.take("rounds", "10")?;
    let mix = MixWeight { mix: dataset.mixes.first().ok_or("a data set without mixes")?.name.clone(), weight: 1 };
    manifest.phases = vec![Phase { name: "all".into(), tokens: u64::MAX >> 8, weights: vec![mix] }];
    let model = &mut manifest.model;
    model.vocab_size = dataset.vocab_size;
    model.d_model = arguments.take("d_model", "128")?;
    model.layers = arguments.take("layers", "4")?;
    model.heads = arguments.take("heads", "4")?;
    model.kv_heads = arguments.take("kv_heads", "2")?;
    model.ffn = arguments.take("ffn", "384")?;
    model.context = arguments.take("context", "128")?;
    model.tied = arguments.take("tied", "false")?;
    model.init_std = arguments.bits("init_std", "0.02")?;
    let inner = &mut manifest.inner;
    inner.steps = arguments.take("steps", "30")?;
    inner.batch = arguments.take("batch", "4")?;
    inner.peak_lr = arguments.bits("lr", "2e-3")?;
    inner.final_lr_fraction = arguments.bits("final_lr_fraction", "0.1")?;
    inner.beta2 = arguments.bits("beta2", "0.95")?;
    inner.weight_decay = arguments.bits("weight_decay", "0.1")?;
    manifest.codec = Codec::Q4 { block: arguments.take("block", "64")? };
    manifest.outer.lr = arguments.bits("outer_lr", "0.7")?;
    manifest.outer.momentum = arguments.bits("outer_momentum", "0.9")?;
    manifest.outer.clip_to_median = arguments.take("clip_to_median", "true")?;
    let tokens = manifest.tokens_per_step() * u64::from(manifest.inner.steps) * manifest.rounds * members;
    let warmup: f64 = arguments.take("warmup", "0.05")?;
    manifest.inner.warmup_tokens = (tokens as f64 * warmup) as u64;
    manifest.inner.total_tokens = tokens;
    manifest.heldout_tokens_max = arguments.take("heldout_tokens_max", "40000")?;
    manifest.hash_chain_len = manifest.rounds + 1;
    manifest.check()?;
    Ok(manifest)
}

impl Scene {
    fn new(arguments: &mut Arguments) -> Result<Scene, Failure> {
        let folder: PathBuf = arguments.take::<String>("dataset", "")?.into();
        let read = |name: &str| std::fs::read(folder.join(name)).map_err(|error| format!("dataset={name}: {error}"));
        let dataset = DatasetManifest::from_bytes(&read("dataset.manifest")?)?;
        let members = arguments.take("members", "4")?;
        let manifest = manifest(arguments, &dataset, members)?;
        let languages: String = arguments.take("languages", "")?;
        Ok(Scene {
            exec: Exec::from_env(arguments.take("threads", "2")?)?,
            order: DataOrder::new(&manifest, &dataset)?,
            token_bytes: TokenBytes::from_tokenizer_json(&read("tokenizer.json")?)?,
            members,
            shards: BTreeMap::new(),
            languages: languages.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            eval_every: arguments.take("eval_every", "0")?,
            out: Some(arguments.take::<String>("out", "")?).filter(|out| !out.is_empty()).map(PathBuf::from),
            folder,
            dataset,
            manifest,
        })
    }

    /// The tokens of the inner step at a position of the run.
    fn unit(&mut self, position: u64) -> Result<Vec<u32>, Failure> {
        let unit = self.order.locate(position);
        let (inner, model) = (&self.manifest.inner, &self.manifest.model);
        let reader = match self.shards.entry(unit.shard.hash) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(ShardReader::open(&shard_path(&self.folder, &unit.shard.hash))?)
            }
        };
        Ok(reader.unit_tokens(inner.batch, model.context, unit.unit)?)
    }

    /// The units of every member of a round: `members × steps`.
    fn units(&mut self, first: u64, count: u64) -> Result<Vec<Vec<u32>>, Failure> {
        (first..first + count).map(|position| self.unit(position)).collect()
    }

    /// Bits per byte, and nats per token, by language.
    fn heldout(&self, params: &[f32]) -> Result<serde_json::Value, Failure> {
        let mut evaluator = Evaluator::new(&self.manifest.model);
        let mut result = serde_json::Map::new();
        for heldout in &self.dataset.heldout {
            if !self.languages.is_empty() && !self.languages.contains(&heldout.language) {
                continue;
            }
            let mut shard = ShardReader::open(&heldout_path(&self.folder, heldout))?;
            let tokens_max = self.manifest.heldout_tokens_max;
            let loss = evaluate_shard(&self.exec, &mut evaluator, params, &mut shard, &self.token_bytes, tokens_max)?;
            let value = json!({
                "bits_per_byte": loss.bits_per_byte(), "nats_per_token": loss.nats / loss.tokens as f64,
            });
            result.insert(heldout.language.clone(), value);
        }
        Ok(result.into())
    }

    fn report(&self, method: &str, round: u64, train_loss: f64, seconds: f64, params: &[f32]) -> Result<(), Failure> {
        let last = round == self.manifest.rounds;
        let measure = last || (self.eval_every > 0 && round.is_multiple_of(self.eval_every));
        let heldout = if measure { self.heldout(params)? } else { serde_json::Value::Null };
        let per_round = self.manifest.tokens_per_step() * u64::from(self.manifest.inner.steps) * self.members;
        let line = json!({
            "method": method, "round": round, "tokens": round * per_round, "train_loss": train_loss,
            "seconds": (seconds * 10.0).round() / 10.0, "heldout": heldout,
        });
        println!("{line}");
        match &self.out {
            Some(out) if last => self.write_checkpoint(out, params),
            _ => Ok(()),
        }
    }

    fn write_checkpoint(&self, out: &Path, params: &[f32]) -> Result<(), Failure> {
        std::fs::create_dir_all(out)?;
        write_model_file(&out.join("model.safetensors"), &self.manifest.model, params)?;
        std::fs::copy(self.folder.join("tokenizer.json"), out.join("tokenizer.json"))?;
        for (name, bytes) in checkpoint_files(&self.manifest) {
            std::fs::write(out.join(name), bytes)?;
        }
        Ok(())
    }

    fn swarm(&mut self) -> Result<(), Failure> {
        let run = RunId([0; 32]);
        let manifest = self.manifest.clone();
        let mut base = Base::initial(&self.exec, &manifest);
        let per_member = u64::from(manifest.inner.steps);
        let (mut position, mut tokens_total, mut seconds) = (0, 0, 0.0);
        for round in 1..=manifest.rounds {
            let mut batches = self.units(position, per_member * self.members)?.into_iter();
            position += per_member * self.members;
            let start = Instant::now();
            let context = RoundContext { exec: &self.exec, manifest: &manifest, run, round };
            let (mut contributions, mut updates) = (Vec::new(), BTreeMap::new());
            for index in 0..self.members {
                let mut member = MemberId([0; 32]);
                member.0[..8].copy_from_slice(&index.to_be_bytes());
                let (steps, micro_batch) = (manifest.inner.steps, manifest.inner.batch);
                let work = Work {
                    context,
                    engine: Engine::Cpu,
                    member,
                    base: &base,
                    base_tokens_total: tokens_total,
                    steps,
                    micro_batch,
                };
                let mut next = |_: u32| batches.next().ok_or_else(|| "no more units".into());
                let done = contribute(&work, &mut next, &mut |_| ControlFlow::Continue(()))?;
                contributions.push(Contribution {
                    member,
                    claim: Hash([0; 32]),
                    update: done.update_hash,
                    update_len_bytes: done.update.len() as u64,
                    steps: done.steps,
                    tokens: done.tokens,
                    loss: done.loss,
                });
                updates.insert(member, done.update);
            }
            let mut fetch = |contribution: &Contribution| {
                updates.get(&contribution.member).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
            };
            next_checkpoint(&context, &contributions, &mut fetch, &mut base)?;
            tokens_total += contributions.iter().map(|contribution| contribution.tokens).sum::<u64>();
            seconds += start.elapsed().as_secs_f64();
            let losses = contributions.iter().map(|contribution| f64::from_bits(contribution.loss.0));
            self.report("swarm", round, losses.sum::<f64>() / self.members as f64, seconds, &base.params)?;
        }
        Ok(())
    }

    /// One optimiser for the whole run, whose inner steps are on `together` units at a time.
    fn centralized(&mut self, method: &str, together: u64) -> Result<(), Failure> {
        let mut manifest = self.manifest.clone();
        manifest.inner.batch *= together as u32;
        let base = Base::initial(&self.exec, &manifest);
        let exec = Exec::new(self.exec.path(), self.exec.threads())?;
        let context = RoundContext { exec: &exec, manifest: &manifest, run: RunId([0; 32]), round: 1 };
        let mut inner = InnerLoop::new(context, &base, 0, self.manifest.inner.batch);
        let steps = u64::from(manifest.inner.steps) * self.members / together;
        let (mut position, mut seconds) = (0, 0.0);
        for round in 1..=manifest.rounds {
            let mut losses = 0.0;
            for _ in 0..steps {
                let batch = self.units(position, together)?.concat();
                position += together;
                let start = Instant::now();
                losses += inner.step(&batch)?.loss;
                seconds += start.elapsed().as_secs_f64();
            }
            self.report(method, round, losses / steps as f64, seconds, inner.params())?;
        }
        Ok(())
    }
}

fn shard_path(folder: &Path, hash: &Hash) -> PathBuf {
    folder.join("shards").join(format!("{hash}.shard"))
}

fn heldout_path(folder: &Path, heldout: &essaim_protocol::dataset::HeldoutShard) -> PathBuf {
    shard_path(folder, &heldout.shard.hash)
}

fn main() -> Result<(), Failure> {
    let mut arguments = Arguments::parse()?;
    let methods: String = arguments.take("method", "swarm,parallel,single")?;
    let mut scene = Scene::new(&mut arguments)?;
    arguments.finish()?;
    for method in methods.split(',') {
        match method {
            "swarm" => scene.swarm()?,
            "parallel" => scene.centralized("parallel", scene.members)?,
            "single" => scene.centralized("single", 1)?,
            other => return Err(format!("method={other}: swarm, parallel or single").into()),
        }
    }
    Ok(())
}
