//! The layout of a coordinator's `public/` folder: what anybody may have, as plain files. Any static web server or copy
//! of the folder is a mirror, and a verifier takes either. Paths are relative, with `/`.

use crate::ids::{Hash, MemberId};

/// The signed manifest.
pub const MANIFEST: &str = "run.manifest";
/// The signed head: where the chain ends.
pub const HEAD: &str = "head";
/// The dataset manifest.
pub const DATASET: &str = "dataset/dataset.manifest";
/// The tokenizer.
pub const TOKENIZER: &str = "dataset/tokenizer.json";
/// The model file inside a checkpoint folder; `b3sum` of it is in the record.
pub const MODEL_FILE: &str = "model.safetensors";
/// Files of a checkpoint folder beside the model: they follow from the manifest and the tokenizer.
pub const CHECKPOINT_FILES: [&str; 4] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// A shard, training or held-out.
pub fn shard(hash: &Hash) -> String {
    format!("dataset/shards/{hash}.shard")
}

/// The signed record that ended a round.
pub fn record(round: u64) -> String {
    format!("rounds/{round:08}/record")
}

/// The signed list of claims of a round.
pub fn claim_list(round: u64) -> String {
    format!("rounds/{round:08}/claims.list")
}

/// A signed claim that the list of a round names.
pub fn claim(round: u64, member: &MemberId) -> String {
    format!("rounds/{round:08}/{member}.claim")
}

/// An update that a record includes.
pub fn update(round: u64, member: &MemberId) -> String {
    format!("rounds/{round:08}/{member}.update")
}

/// A signed join that the record of a round admits.
pub fn join(round: u64, member: &MemberId) -> String {
    format!("rounds/{round:08}/{member}.join")
}

/// The ledger after a round. Every round has one.
pub fn ledger(round: u64) -> String {
    format!("rounds/{round:08}/ledger")
}

/// The outer state after a round: kept for the last round and for keyframes.
pub fn outer_state(round: u64) -> String {
    format!("checkpoints/{round:08}/outer.state")
}

/// The folder of the checkpoint after a round: kept for the last round and for keyframes.
pub fn checkpoint(round: u64) -> String {
    format!("checkpoints/{round:08}")
}

/// The model file of the checkpoint after a round.
pub fn model_file(round: u64) -> String {
    format!("checkpoints/{round:08}/{MODEL_FILE}")
}
