//! `essaim-corpus inspect`

use super::{print, print_json, thousands};
use anyhow::Context;
use clap::Args;
use essaim_corpus::dataset::{Dataset, TOKENIZER, manifest_json, shard_name};
use essaim_corpus::tokenizer::encode::Encoder;
use essaim_protocol::dataset::{DatasetManifest, ShardInfo};
use essaim_protocol::ids::Hash;
use essaim_train::shard::ShardReader;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Show what a data set or a shard holds, and check every hash.
///
///   essaim-corpus inspect dataset                     the data set, every file checked
///   essaim-corpus inspect dataset --documents 2       with the first documents of each held-out shard
///   essaim-corpus inspect dataset/shards/….shard      one shard; its texts where tokenizer.json is near
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Inspect {
    /// A data set's folder, its dataset.manifest, or a .shard file
    path: PathBuf,
    /// Show the first N documents of each held-out shard, or of the shard
    #[arg(long, value_name = "N", default_value_t = 0)]
    documents: u64,
}

type Shard = ShardReader<Cursor<Vec<u8>>>;

impl Inspect {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        match self.path.extension().is_some_and(|extension| extension == "shard") {
            true => self.shard(json),
            false => self.dataset(json),
        }
    }

    fn dataset(&self, json: bool) -> anyhow::Result<()> {
        let dataset = Dataset::open(&self.path)?;
        let encoder = dataset.encoder()?;
        let shards: Vec<&ShardInfo> = dataset.manifest.all_shards().collect();
        shards.par_iter().map(|info| dataset.shard(info).map(drop)).collect::<Result<Vec<()>, _>>()?;
        for heldout in &dataset.manifest.heldout {
            dataset.heldout(heldout, &encoder)?;
        }
        let mut shown = Vec::new();
        for heldout in dataset.manifest.heldout.iter().filter(|_| self.documents > 0) {
            let texts = self.texts(&mut dataset.shard(&heldout.shard)?, &encoder)?;
            shown.push((heldout.language.clone(), texts));
        }
        if json {
            let mut value = manifest_json(&dataset.manifest);
            value["dataset"] = json!(dataset.hash.to_string());
            value["ok"] = json!(true);
            if self.documents > 0 {
                let texts = shown.into_iter().map(|(language, texts)| (language, json!(texts)));
                value["heldout_documents"] = Value::Object(texts.collect());
            }
            return print_json(&value);
        }
        let mut text = describe(&dataset.manifest, &dataset.hash);
        for (language, texts) in shown {
            texts.iter().for_each(|document| text += &format!("\n--- held out, {language} ---\n{document}\n"));
        }
        print(&text)
    }

    fn texts(&self, shard: &mut Shard, encoder: &Encoder) -> anyhow::Result<Vec<String>> {
        let count = shard.documents().min(self.documents);
        (0..count).map(|i| Ok(encoder.decode(&shard.document(i)?)?)).collect()
    }

    fn shard(&self, json: bool) -> anyhow::Result<()> {
        let shown = self.path.display();
        let len_bytes = std::fs::metadata(&self.path).with_context(|| shown.to_string())?.len();
        anyhow::ensure!(len_bytes <= essaim_protocol::limits::SHARD_MAX, "{shown}: too long for a shard");
        let bytes = std::fs::read(&self.path).with_context(|| shown.to_string())?;
        let hash = Hash::of(&bytes);
        let mut shard = ShardReader::from_bytes(bytes).with_context(|| shown.to_string())?;
        if let Some(named) = self.path.file_stem().and_then(|stem| stem.to_str()?.parse::<Hash>().ok()) {
            anyhow::ensure!(named == hash, "{shown}: its hash is {hash}, not its name; copy it again");
        }
        let texts = match self.documents {
            0 => Vec::new(),
            _ => self.texts(&mut shard, &near_tokenizer(&self.path)?)?,
        };
        let fields = [
            ("hash", json!(hash.to_string())),
            ("len_bytes", json!(len_bytes)),
            ("vocab_size", json!(shard.vocab_size())),
            ("documents", json!(shard.documents())),
            ("tokens", json!(shard.tokens())),
        ];
        if json {
            let mut value: serde_json::Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            value.insert("ok".into(), json!(true));
            if self.documents > 0 {
                value.insert("texts".into(), json!(texts));
            }
            return print_json(&Value::Object(value));
        }
        let mut text = String::new();
        for (name, value) in fields {
            text += &format!("{name:11} {}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        texts.iter().for_each(|document| text += &format!("\n---\n{document}\n"));
        print(&text)
    }
}

/// The tokenizer beside a shard or one folder up, as a data set has it.
fn near_tokenizer(shard: &Path) -> anyhow::Result<Encoder> {
    let folder = std::fs::canonicalize(shard)?;
    let near = folder.ancestors().skip(1).take(2).map(|folder| folder.join(TOKENIZER));
    let path = near.into_iter().find(|path| path.is_file());
    let path = path.with_context(|| format!("{}: no {TOKENIZER} beside it or one folder up", shard.display()))?;
    Ok(Encoder::new(&essaim_corpus::tokenizer::read(&path)?.0)?)
}

fn describe(manifest: &DatasetManifest, hash: &Hash) -> String {
    let mut text = format!(
        "data set   {hash}\nname       {}\ntokenizer  {}\nvocabulary {}\n",
        manifest.name,
        manifest.tokenizer,
        thousands(manifest.vocab_size.into())
    );
    for mix in &manifest.mixes {
        let sum = |field: fn(&ShardInfo) -> u64| thousands(mix.shards.iter().map(field).sum());
        let (tokens, documents) = (sum(|shard| shard.tokens), sum(|shard| shard.documents));
        text +=
            &format!("mix        {}: {} shards, {documents} documents, {tokens} tokens\n", mix.name, mix.shards.len());
    }
    text +=
        &format!("\n{:24} {:8} {:>10} {:>13} {:>13}  licences\n", "source", "language", "documents", "bytes", "tokens");
    for source in &manifest.sources {
        let [documents, text_bytes, tokens] = [source.documents, source.text_bytes, source.tokens].map(thousands);
        let licenses = source.licenses.join(", ");
        let (name, language) = (&source.name, &source.language);
        text += &format!("{name:24} {language:8} {documents:>10} {text_bytes:>13} {tokens:>13}  {licenses}\n");
    }
    text += &format!("\n{:10} {:>10} {:>13} {:>13}  shard\n", "held out", "documents", "bytes", "tokens");
    for heldout in &manifest.heldout {
        let shard = &heldout.shard;
        let [documents, text_bytes, tokens] = [shard.documents, heldout.text_bytes, shard.tokens].map(thousands);
        let (language, name) = (&heldout.language, shard_name(&shard.hash));
        text += &format!("{language:10} {documents:>10} {text_bytes:>13} {tokens:>13}  {name}\n");
    }
    text + "\nEvery hash, length and count agrees with the manifest.\n"
}
