//! Every bound of the protocol in one place. A length that comes from outside is compared with one of these before it is
//! used. Bytes, unless the name says otherwise.

/// Members of one run at a time.
pub const MEMBERS_MAX: u32 = 65_536;
/// A signed manifest.
pub const MANIFEST_MAX: usize = 256 << 10;
/// A dataset manifest: about 150,000 shards.
pub const DATASET_MANIFEST_MAX: usize = 16 << 20;
/// A join, claim, receipt or head: nothing in them grows.
pub const STATEMENT_MAX: usize = 4 << 10;
/// A list of claims: 72 bytes a member.
pub const CLAIM_LIST_MAX: usize = 8 << 20;
/// A record: up to 300 bytes a member.
pub const RECORD_MAX: usize = 16 << 20;
/// A ledger.
pub const LEDGER_MAX: usize = 16 << 20;
/// A control message, either way.
pub const CONTROL_MAX: usize = 4 << 20;
/// A gossiped signed head.
pub const GOSSIP_MAX: usize = 64 << 10;
/// Signatures on one statement.
pub const SIGNATURES_MAX: usize = 64;
/// Inner steps of one member in one round.
pub const INNER_STEPS_MAX: u32 = 100_000;
/// Sequences in a batch.
pub const BATCH_MAX: u32 = 65_536;
/// Shards in a data set.
pub const SHARDS_MAX: usize = 1 << 20;
/// One shard file.
pub const SHARD_MAX: u64 = 1 << 30;
/// A tokenizer.json.
pub const TOKENIZER_MAX: u64 = 256 << 20;
/// A text field: a name, a licence, a language.
pub const NAME_MAX: usize = 256;
/// A join link.
pub const LINK_MAX: usize = 4 << 10;
/// Addresses in a join link.
pub const LINK_PEERS_MAX: usize = 16;
/// Languages whose held-out loss a record carries.
pub const LANGUAGES_MAX: usize = 256;
/// Rounds of one run; also the longest hash chain.
pub const ROUNDS_MAX: u64 = 1 << 24;

const _: () = assert!(CLAIM_LIST_MAX >= MEMBERS_MAX as usize * 72 + STATEMENT_MAX);
const _: () = assert!(GOSSIP_MAX > STATEMENT_MAX && CONTROL_MAX > STATEMENT_MAX);
