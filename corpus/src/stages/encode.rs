//! Documents to tokens, without those that held-out or benchmark texts occur in.

use super::clean;
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use super::select::Cuts;
use crate::build::BuildError;
use crate::chunk::{self, ChunkInfo, Fate, Key, Keyed};
use crate::decontaminate::NgramSet;
use crate::tally::Tally;
use crate::tokenizer::encode::Encoder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the stage.
pub const STAGE: &str = "encode";

/// A document as tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoded {
    /// Its key.
    pub key: Key,
    /// Which of the chunk's parts it belongs to.
    pub part: u16,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// `<s>`, its tokens, `</s>`.
    pub tokens: Vec<u32>,
}

/// Tokens of a chunk: its parts are its languages and sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedChunk {
    /// Language and source of each part.
    pub parts: Vec<(String, String)>,
    /// Its training documents, in the order of keys.
    pub documents: Vec<Encoded>,
}

/// What became of a chunk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EncodedFacts {
    /// Training documents, bytes and tokens by language and source.
    pub parts: BTreeMap<(String, String), [u64; 3]>,
    /// Training documents and bytes by language, source and licence.
    pub licenses: BTreeMap<(String, String, String), (u64, u64)>,
    /// Documents refused here.
    pub tally: Tally,
    /// Keys of documents refused here, sorted.
    pub refused: Vec<Key>,
}

/// Encodes all chunks.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    chunks: &[ChunkInfo],
    cuts: &Cuts,
    encoder: &Encoder,
    before: Fingerprint,
) -> Result<Vec<EncodedFacts>, BuildError> {
    let ngrams = NgramSet::load(&runner.store, super::select::NGRAMS)?;
    let item = |chunk: &ChunkInfo| Item {
        name: chunk.id.to_string(),
        weight: chunk.text_bytes.max(1),
        fingerprint: fingerprint(STAGE, &(before, chunk)),
    };
    let items: Vec<Item> = chunks.iter().map(item).collect();
    runner.run(STAGE, "encoding", &items, |i, advance| encode(runner, &chunks[i], cuts, encoder, &ngrams, advance))
}

fn encode(
    runner: &Runner<'_>,
    chunk: &ChunkInfo,
    cuts: &Cuts,
    encoder: &Encoder,
    ngrams: &NgramSet,
    advance: &dyn Fn(u64),
) -> Result<EncodedFacts, BuildError> {
    let store = &runner.store;
    let mut documents = chunk::read(store, &chunk::docs_name(clean::STAGE, chunk.id), 0..=u64::MAX)?;
    documents.retain(|keyed| !cuts.heldout(&keyed.document.language, &keyed.key));
    let mut facts = EncodedFacts::default();
    let mut refused = Vec::new();
    let checked: Vec<_> = documents.par_iter().map(|keyed| ngrams.check(&keyed.document.text)).collect();
    let mut kept: Vec<Keyed> = Vec::with_capacity(documents.len());
    for (keyed, checked) in documents.into_iter().zip(checked) {
        match checked {
            Ok(()) => kept.push(keyed),
            Err(rejection) => {
                let fate = Fate::new(&keyed.document, rejection);
                facts.tally.document(&fate.source, &fate.language, &fate.rule, fate.bytes);
                facts.refused.push(keyed.key);
                refused.push(fate);
            }
        }
    }
    chunk::put(store, &chunk::fates_name(STAGE, chunk.id), &refused)?;
    let texts: Vec<&str> = kept.iter().map(|keyed| keyed.document.text.as_str()).collect();
    let tokens = encoder.encode_all(&texts, |_| {})?;
    advance(chunk.text_bytes / 2);
    let mut encoded = EncodedChunk::default();
    for (keyed, tokens) in kept.iter().zip(tokens) {
        let document = &keyed.document;
        let part = (document.language.clone(), document.source.clone());
        let text_bytes = document.text.len() as u64;
        let counts = facts.parts.entry(part.clone()).or_default();
        for (sum, n) in counts.iter_mut().zip([1, text_bytes, tokens.len() as u64]) {
            *sum += n;
        }
        let license = (part.0.clone(), part.1.clone(), document.license.clone());
        let (documents, bytes) = facts.licenses.entry(license).or_default();
        *documents += 1;
        *bytes += text_bytes;
        let known = encoded.parts.iter().position(|known| *known == part);
        let number = known.unwrap_or_else(|| {
            encoded.parts.push(part);
            encoded.parts.len() - 1
        });
        encoded.documents.push(Encoded { key: keyed.key, part: number as u16, text_bytes, tokens });
    }
    chunk::put(store, &tokens_name(chunk), &encoded)?;
    Ok(facts)
}

/// Where the tokens of a chunk lie.
pub fn tokens_name(chunk: &ChunkInfo) -> String {
    format!("{STAGE}/{}.tokens", chunk.id)
}
