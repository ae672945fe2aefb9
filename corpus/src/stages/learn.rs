//! The tokenizer, learnt from a sample or taken from a file, and the held-out documents encoded with it.

use super::clean::Kept;
use super::heldout;
use super::runner::{Fingerprint, Runner, fingerprint};
use super::select::{self, Cuts};
use crate::build::{BuildError, single};
use crate::bundle::{BundleInfo, Key};
use crate::config::Config;
use crate::facts::{Fertility, HeldoutFacts};
use crate::shards;
use crate::tokenizer::encode::Encoder;
use crate::tokenizer::{self, TokenizerError, train};
use essaim_protocol::dataset::{HeldoutShard, ShardInfo};
use essaim_train::shard::ShardWriter;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the stage.
pub const STAGE: &str = "learn";

/// The tokenizer and what it makes of the held-out documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    /// The bytes of tokenizer.json.
    pub tokenizer: Vec<u8>,
    /// Whether decoding gave every held-out document back.
    pub lossless: bool,
    /// Held-out shards, which lie in the store, and the bytes of their text, by language.
    pub shards: Vec<HeldoutShard>,
    /// Held-out documents in the order of each shard: keys and bytes of text.
    pub keys: Vec<Vec<(Key, u32)>>,
    /// Held-out documents by language.
    pub heldout: BTreeMap<String, HeldoutFacts>,
    /// How finely held-out text is cut, by language.
    pub fertility: BTreeMap<String, Fertility>,
}

/// Makes the tokenizer and the held-out shards.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    config: &Config,
    bundles: &[BundleInfo],
    cuts: &Cuts,
    kept: &Kept,
    before: Fingerprint,
) -> Result<Learnt, BuildError> {
    let given = config.tokenizer.path.as_deref().map(tokenizer::read).transpose()?.map(|(bytes, _)| bytes);
    let items = single("tokenizer", fingerprint(STAGE, &(before, &given)));
    let mut learnt = runner.run(STAGE, "learning the tokenizer", &items, |_, _| {
        let tokenizer = match &given {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes_max = config.tokenizer.sample_bytes_max;
                let sample = select::sample(runner, bundles, cuts, kept, &config.mix.largest, bytes_max)?;
                train::train(sample, config.tokenizer.vocab_size)?
            }
        };
        encode_heldout(runner, config, cuts, tokenizer)
    })?;
    Ok(learnt.pop().unwrap_or_default())
}

fn encode_heldout(runner: &Runner<'_>, config: &Config, cuts: &Cuts, tokenizer: Vec<u8>) -> Result<Learnt, BuildError> {
    let encoder = Encoder::new(&tokenizer)?;
    let others = super::fertility::others(config)?;
    let mut learnt = Learnt { tokenizer, lossless: true, ..Learnt::default() };
    for found in heldout::languages(runner, cuts) {
        let (language, documents) = found?;
        let texts: Vec<&str> = documents.iter().map(|keyed| keyed.document.text.as_str()).collect();
        let tokens = encoder.encode_all(&texts, |_| {})?;
        let checks: Vec<Result<bool, TokenizerError>> =
            texts.par_iter().zip(&tokens).map(|(text, tokens)| encoder.check(text, tokens)).collect();
        for check in checks {
            learnt.lossless &= check?;
        }
        let mut writer = ShardWriter::new(encoder.vocab_size());
        tokens.iter().try_for_each(|tokens| writer.push(tokens))?;
        let shard = shards::finish(writer);
        let info: ShardInfo = shard.info;
        runner.store.put(&super::pack::shard_name(&info), shard.bytes)?;
        let text_bytes = texts.iter().map(|text| text.len() as u64).sum();
        let facts = HeldoutFacts { documents: info.documents, bytes: text_bytes, tokens: info.tokens };
        learnt.fertility.insert(language.to_owned(), super::fertility::measure(&texts, &tokens, &others)?);
        learnt.heldout.insert(language.to_owned(), facts);
        let bytes = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        learnt.keys.push(documents.iter().map(|keyed| (keyed.key, bytes(keyed.document.text.len()))).collect());
        learnt.shards.push(HeldoutShard { language: language.to_owned(), shard: info, text_bytes });
    }
    Ok(learnt)
}
