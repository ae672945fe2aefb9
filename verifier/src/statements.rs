//! First pass: every statement, from the anchor to the head, and the data they name. No arithmetic.

use crate::files::{Files, NOT_THERE};
use crate::finding::Finding;
use essaim_protocol::chain::{ChainState, Evidence};
use essaim_protocol::data_order::DataOrder;
use essaim_protocol::dataset::{DatasetManifest, ShardInfo};
use essaim_protocol::ids::RunId;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::signing::{Signed, Strict};
use essaim_protocol::statements::Head;
use essaim_protocol::{layout, limits};
use essaim_train::eval::TokenBytes;
use essaim_train::shard::ShardReader;

/// What the statements of a run say, all of them checked.
#[derive(Debug)]
pub struct Statements {
    /// The state before record 0.
    pub genesis: ChainState,
    /// The data set.
    pub dataset: DatasetManifest,
    /// Which text a position is.
    pub order: DataOrder,
    /// UTF-8 bytes of each token.
    pub token_bytes: TokenBytes,
    /// `tokenizer.json`, which each checkpoint folder repeats.
    pub tokenizer: Vec<u8>,
    /// The last round.
    pub last_round: u64,
    /// Contributions of each round from record 0 on.
    pub contributions: Vec<u32>,
}

/// The manifest, compared with the anchor.
///
/// # Errors
/// A finding when it is missing, malformed, unsigned, or of another run.
pub fn manifest(files: &Files, anchor: Option<RunId>) -> Result<ChainState, Finding> {
    let found: Option<Signed<Manifest>> = files.statement(layout::MANIFEST)?;
    let manifest = found.ok_or_else(|| {
        Finding::missing(layout::MANIFEST, "the source does not have it: is it a run's public folder?")
    })?;
    let run = RunId(manifest.id().0);
    if let Some(expected) = anchor.filter(|expected| *expected != run) {
        let reason = format!("the source has run {run}, not {expected}: another run, or a damaged manifest");
        return Err(Finding::contradiction(layout::MANIFEST, reason));
    }
    Ok(ChainState::genesis(&manifest, &Strict)?)
}

/// The data set: manifest, tokenizer, and every shard by hash and form.
///
/// # Errors
/// A finding about the first that fails.
pub fn data(
    files: &Files,
    manifest: &Manifest,
    each: &mut dyn FnMut(u64, u64),
) -> Result<(DatasetManifest, DataOrder, TokenBytes, Vec<u8>), Finding> {
    let bytes = files.blob(layout::DATASET, limits::DATASET_MANIFEST_MAX as u64, manifest.dataset)?;
    let wrong = |error: &dyn std::fmt::Display| Finding::contradiction(layout::DATASET, error);
    let dataset = DatasetManifest::from_bytes(&bytes).map_err(|error| wrong(&error))?;
    let tokenizer = files.blob(layout::TOKENIZER, limits::TOKENIZER_MAX, manifest.tokenizer)?;
    let token_bytes = TokenBytes::from_tokenizer_json(&tokenizer)
        .map_err(|error| Finding::contradiction(layout::TOKENIZER, error))?;
    let order = DataOrder::new(manifest, &dataset).map_err(|error| wrong(&error))?;
    let total = dataset.all_shards().count() as u64;
    for (index, shard) in dataset.all_shards().enumerate() {
        each(index as u64, total);
        open_shard(files, shard, dataset.vocab_size)?;
    }
    Ok((dataset, order, token_bytes, tokenizer))
}

/// A shard, checked against its entry in the dataset manifest.
///
/// # Errors
/// A finding when it is missing or differs.
pub fn open_shard(
    files: &Files,
    shard: &ShardInfo,
    vocab_size: u32,
) -> Result<ShardReader<std::io::Cursor<Vec<u8>>>, Finding> {
    let path = layout::shard(&shard.hash);
    let bytes = files.blob(&path, shard.len_bytes.min(limits::SHARD_MAX), shard.hash)?;
    let wrong = |reason: String| Finding::contradiction(&path, reason);
    let reader = ShardReader::from_bytes(bytes).map_err(|error| wrong(error.to_string()))?;
    let says = [(reader.tokens(), shard.tokens, "tokens"), (reader.documents(), shard.documents, "documents")];
    if let Some((got, said, what)) = says.iter().find(|(got, said, _)| got != said) {
        return Err(wrong(format!("it has {got} {what}, the dataset manifest says {said}")));
    }
    if reader.vocab_size() > vocab_size {
        return Err(wrong(format!("made for {} token ids, the data set has {vocab_size}", reader.vocab_size())));
    }
    Ok(reader)
}

/// Every record, list, claim, join and ledger up to the head. Returns the last state and the contributions of each round.
///
/// # Errors
/// A finding about the first that fails.
pub fn chain(
    files: &Files,
    genesis: &ChainState,
    each: &mut dyn FnMut(u64, u64),
) -> Result<(ChainState, Vec<u32>), Finding> {
    let head = files
        .head()?
        .ok_or_else(|| Finding::missing(layout::HEAD, "the source does not have it: perhaps the run has not begun"))?;
    check_head_signature(genesis, &head)?;
    let mut state = genesis.clone();
    let mut contributions = Vec::new();
    while state.round() != Some(head.value.round) {
        let round = state.open_round();
        each(round, head.value.round);
        let record = files.record(round)?.ok_or_else(|| Finding::missing(layout::record(round), NOT_THERE))?;
        let list = if round > 0 { files.claim_list(round)? } else { None };
        if let Some(list) = &list {
            // A damaged list contradicts the record as well; the signature tells which of the two is to blame.
            list.require(&Strict, &genesis.manifest().operators, genesis.manifest().threshold)
                .map_err(|error| Finding::contradiction(layout::claim_list(round), error))?;
        }
        let next = state.apply(&record, list.as_ref(), &Strict)?;
        let sources = state.check_sources(&record, list.as_ref(), files, &Strict);
        files.take_fault()?;
        sources?;
        let ledger = files.blob(&layout::ledger(round), limits::LEDGER_MAX as u64, record.value.ledger)?;
        if ledger != next.ledger().to_bytes() {
            return Err(Finding::contradiction(layout::ledger(round), "it does not follow from the records"));
        }
        contributions.push(u32::try_from(record.value.contributions.len()).unwrap_or(u32::MAX));
        state = next;
    }
    if state.head_id() != head.value.record {
        let evidence = state.record().and_then(|record| Evidence::of_head(&head, record));
        let why = evidence.map_or("it names another record".to_owned(), |evidence| evidence.describe());
        return Err(Finding::contradiction(layout::HEAD, why));
    }
    open_round(files, &state, &head)?;
    Ok((state, contributions))
}

fn check_head_signature(genesis: &ChainState, head: &Signed<Head>) -> Result<(), Finding> {
    let manifest = genesis.manifest();
    if head.value.run != genesis.run() {
        return Err(Finding::contradiction(layout::HEAD, format!("it is of run {}", head.value.run)));
    }
    if head.value.round > manifest.rounds {
        let reason = format!("it says round {}, the run has {}", head.value.round, manifest.rounds);
        return Err(Finding::contradiction(layout::HEAD, reason));
    }
    head.require(&Strict, &manifest.operators, manifest.threshold)
        .map_err(|error| Finding::contradiction(layout::HEAD, error))
}

/// What is public already of the round after the head: the list of claims and the claims.
fn open_round(files: &Files, state: &ChainState, head: &Signed<Head>) -> Result<(), Finding> {
    if state.is_finished() {
        return Ok(());
    }
    let path = layout::claim_list(state.open_round());
    let Some(list) = files.claim_list(state.open_round())? else { return Ok(()) };
    state.check_list(&list, &Strict)?;
    if head.value.claims.is_some_and(|id| id != list.id()) {
        return Err(Finding::contradiction(path, "the head names another list of claims for this round"));
    }
    for listed in &list.value.claims {
        let path = layout::claim(list.value.round, &listed.member);
        let Some(claim) = files.statement::<essaim_protocol::statements::Claim>(&path)? else { continue };
        if claim.id() != listed.claim {
            return Err(Finding::contradiction(path, "it is not the listed claim"));
        }
        state.judge_claim(&claim, &Strict).map_err(|refused| Finding::contradiction(&path, format!("{refused:?}")))?;
        let update = layout::update(list.value.round, &listed.member);
        if let Some(bytes) = files.optional(&update, claim.value.update_len_bytes)?
            && essaim_protocol::ids::Hash::of(&bytes) != claim.value.update
        {
            return Err(Finding::contradiction(update, "it is not the update that its claim names"));
        }
    }
    Ok(())
}
