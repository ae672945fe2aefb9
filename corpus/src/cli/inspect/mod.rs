//! `essaim-corpus inspect`

mod describe;

use super::{print, print_json, thousands};
use anyhow::Context;
use clap::Args;
use essaim_corpus::dataset::{Dataset, TOKENIZER, manifest_json};
use essaim_corpus::facts::FACTS;
use essaim_corpus::publish::listing::{self, Listed};
use essaim_corpus::publish::remove::read_facts;
use essaim_corpus::publish::statistics::statistics;
use essaim_corpus::publish::verify::verify;
use essaim_corpus::tokenizer::encode::Encoder;
use essaim_protocol::dataset::ShardInfo;
use essaim_protocol::ids::Hash;
use essaim_train::shard::ShardReader;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Show what a data set or a shard holds, and check every hash.
///
///   essaim-corpus inspect dataset                     its mixes, languages, licences, sources; every file checked
///   essaim-corpus inspect dataset --documents 2       with the first documents of each held-out shard
///   essaim-corpus inspect dataset --shard 8e16ee      the documents of a shard: id, source, language, licence, tokens
///   essaim-corpus inspect dataset --shard 8e16ee --documents 2    and the texts of the first
///   essaim-corpus inspect shards/….shard              a shard alone; its texts where tokenizer.json is near
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Inspect {
    /// A data set's folder, its dataset.manifest, or a .shard file
    path: PathBuf,
    /// List the documents of this shard of the data set: its hash, or how that begins
    #[arg(long, value_name = "HASH")]
    shard: Option<String>,
    /// Show the first N documents of each held-out shard, or of the shard
    #[arg(long, value_name = "N", default_value_t = 0)]
    documents: u64,
}

type Shard = ShardReader<Cursor<Vec<u8>>>;

impl Inspect {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let is_shard = self.path.extension().is_some_and(|extension| extension == "shard");
        match &self.shard {
            Some(_) if is_shard => anyhow::bail!("--shard names a shard of a data set: give the data set's folder"),
            Some(hash) => self.listing(hash, json),
            None if is_shard => self.shard(json),
            None => self.dataset(json),
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
        let verified = verify(&dataset)?;
        let facts = match dataset.root.join(FACTS).is_file() {
            true => Some(read_facts(&dataset.root)?),
            false => None,
        };
        let mut shown = Vec::new();
        for heldout in dataset.manifest.heldout.iter().filter(|_| self.documents > 0) {
            let texts = self.texts(&mut dataset.shard(&heldout.shard)?, &encoder)?;
            shown.push((heldout.language.clone(), texts));
        }
        if json {
            let mut value = manifest_json(&dataset.manifest);
            value["dataset"] = json!(dataset.hash.to_string());
            value["ok"] = json!(true);
            value["verified"] = json!(verified);
            if let Some(facts) = &facts {
                value["statistics"] = statistics(facts);
            }
            if self.documents > 0 {
                let texts = shown.into_iter().map(|(language, texts)| (language, json!(texts)));
                value["heldout_documents"] = Value::Object(texts.collect());
            }
            return print_json(&value);
        }
        let mut text = describe::dataset(&dataset, facts.as_ref(), verified);
        for (language, texts) in shown {
            texts.iter().for_each(|document| text += &format!("\n--- held out, {language} ---\n{document}\n"));
        }
        print(&text)
    }

    fn texts(&self, shard: &mut Shard, encoder: &Encoder) -> anyhow::Result<Vec<String>> {
        let count = shard.documents().min(self.documents);
        (0..count).map(|i| Ok(encoder.decode(&shard.document(i)?)?)).collect()
    }

    /// One shard of a data set, with the names of its documents.
    fn listing(&self, hash: &str, json: bool) -> anyhow::Result<()> {
        let dataset = Dataset::open(&self.path)?;
        let shards: Vec<&ShardInfo> = dataset.manifest.all_shards().collect();
        let hash = hash.trim_end_matches(".shard").to_ascii_lowercase();
        let begins = |info: &ShardInfo| info.hash.to_string().starts_with(&hash);
        let found: Vec<usize> = (0..shards.len()).filter(|&number| begins(shards[number])).collect();
        let number = match found[..] {
            [number] => number,
            [] => {
                anyhow::bail!(
                    "no shard of this data set begins with {hash}; 'essaim-corpus inspect DIR --json' names all"
                )
            }
            _ => anyhow::bail!("{} shards begin with {hash:?}: give more of the hash", found.len()),
        };
        let info = shards[number];
        let listed = listing::list(&dataset, number)?;
        let texts = match self.documents {
            0 => Vec::new(),
            _ => self.texts(&mut dataset.shard(info)?, &dataset.encoder()?)?,
        };
        let mut mixes = dataset.manifest.mixes.iter();
        let mix = mixes.find(|mix| mix.shards.iter().any(|shard| shard.hash == info.hash)).map(|mix| &mix.name);
        if json {
            return print_json(&shard_json(info, mix, &listed, &texts));
        }
        let place = mix.map_or_else(|| "held out of training".to_owned(), |mix| format!("mix {mix}"));
        let mut text = format!("shard       {}\nwhere       {place}\n", info.hash);
        text += &format!("documents   {}\ntokens      {}\n", thousands(info.documents), thousands(info.tokens));
        text += &describe::listing(&listed);
        texts.iter().for_each(|document| text += &format!("\n---\n{document}\n"));
        print(&text)
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

fn shard_json(info: &ShardInfo, mix: Option<&String>, listed: &[Listed], texts: &[String]) -> Value {
    let mut value = json!({
        "hash": info.hash.to_string(),
        "mix": mix,
        "heldout": mix.is_none(),
        "len_bytes": info.len_bytes,
        "tokens": info.tokens,
        "documents": listed,
        "ok": true,
    });
    if !texts.is_empty() {
        value["texts"] = json!(texts);
    }
    value
}

/// The tokenizer beside a shard or one folder up, as a data set has it.
fn near_tokenizer(shard: &Path) -> anyhow::Result<Encoder> {
    let folder = std::fs::canonicalize(shard)?;
    let near = folder.ancestors().skip(1).take(2).map(|folder| folder.join(TOKENIZER));
    let path = near.into_iter().find(|path| path.is_file());
    let path = path.with_context(|| format!("{}: no {TOKENIZER} beside it or one folder up", shard.display()))?;
    Ok(Encoder::new(&essaim_corpus::tokenizer::read(&path)?.0)?)
}
