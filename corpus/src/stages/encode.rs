//! Documents to tokens, without those that held-out or benchmark texts occur in.

use super::clean;
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use super::select::Cuts;
use crate::build::BuildError;
use crate::bundle::{self, BundleInfo, Fate, Key, Keyed};
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
    /// Which of the bundle's parts it belongs to.
    pub part: u16,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// `<s>`, its tokens, `</s>`.
    pub tokens: Vec<u32>,
}

/// Tokens of a bundle: its parts are its languages and sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedBundle {
    /// Language and source of each part.
    pub parts: Vec<(String, String)>,
    /// Its training documents, in the order of keys.
    pub documents: Vec<Encoded>,
}

/// What became of a bundle.
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

/// Encodes all bundles.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    cuts: &Cuts,
    encoder: &Encoder,
    ngrams: &NgramSet,
    before: Fingerprint,
) -> Result<Vec<EncodedFacts>, BuildError> {
    let item = |bundle: &BundleInfo| Item {
        name: bundle.id.to_string(),
        weight: bundle.text_bytes.max(1),
        fingerprint: fingerprint(STAGE, &(before, bundle)),
    };
    let items: Vec<Item> = bundles.iter().map(item).collect();
    runner.run(STAGE, "encoding", &items, |i, advance| encode(runner, &bundles[i], cuts, encoder, ngrams, advance))
}

fn encode(
    runner: &Runner<'_>,
    bundle: &BundleInfo,
    cuts: &Cuts,
    encoder: &Encoder,
    ngrams: &NgramSet,
    advance: &dyn Fn(u64),
) -> Result<EncodedFacts, BuildError> {
    let store = &runner.store;
    let mut documents = bundle::read(store, &bundle::docs_name(clean::STAGE, bundle.id), 0..=u64::MAX)?;
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
    bundle::put(store, &bundle::fates_name(STAGE, bundle.id), &refused)?;
    let texts: Vec<&str> = kept.iter().map(|keyed| keyed.document.text.as_str()).collect();
    let tokens = encoder.encode_all(&texts, |_| {})?;
    advance(bundle.text_bytes / 2);
    let mut encoded = EncodedBundle::default();
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
    bundle::put(store, &tokens_name(bundle), &encoded)?;
    Ok(facts)
}

/// Where the tokens of a bundle lie.
pub fn tokens_name(bundle: &BundleInfo) -> String {
    format!("{STAGE}/{}.tokens", bundle.id)
}
