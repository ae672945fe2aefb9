//! A tiny data set and `run.toml` for tests.

use essaim_protocol::dataset::{DatasetManifest, HeldoutShard, Mix, ShardInfo};
use essaim_protocol::ids::Hash;
use essaim_train::shard::ShardWriter;
use serde_json::json;
use std::path::{Path, PathBuf};

const VOCAB_SIZE: u32 = 300;

fn tokenizer() -> Vec<u8> {
    let mut vocab = serde_json::Map::new();
    for (id, name) in ["<s>", "</s>", "<unk>", "<pad>"].into_iter().enumerate() {
        vocab.insert(name.to_owned(), json!(id));
    }
    for byte in 0..256 {
        vocab.insert(format!("<0x{byte:02X}>"), json!(4 + byte));
    }
    for id in 260..VOCAB_SIZE {
        vocab.insert(format!("w{id}"), json!(id));
    }
    let added =
        ["<s>", "</s>"].iter().enumerate().map(|(id, name)| json!({"id": id, "content": name, "special": true}));
    let file = json!({
        "added_tokens": added.collect::<Vec<_>>(),
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "model": {"type": "BPE", "vocab": vocab},
    });
    serde_json::to_vec(&file).unwrap()
}

fn shard(root: &Path, documents: u32, seed: u32) -> ShardInfo {
    let mut writer = ShardWriter::new(VOCAB_SIZE);
    for document in 0..documents {
        let words = (0..40).map(|i| 4 + (i * 7 + document * 13 + seed * 31) % (VOCAB_SIZE - 4));
        let tokens: Vec<u32> = std::iter::once(0).chain(words).chain([1]).collect();
        writer.push(&tokens).unwrap();
    }
    let (tokens, documents) = (writer.tokens(), writer.documents());
    let bytes = writer.finish();
    let hash = Hash::of(&bytes);
    std::fs::write(root.join(format!("shards/{hash}.shard")), &bytes).unwrap();
    ShardInfo { hash, len_bytes: bytes.len() as u64, tokens, documents }
}

/// Writes a data set of three training shards and two held-out languages.
pub(crate) fn dataset(root: &Path) {
    std::fs::create_dir_all(root.join("shards")).unwrap();
    let tokenizer = tokenizer();
    std::fs::write(root.join("tokenizer.json"), &tokenizer).unwrap();
    let heldout = ["en", "fr"].into_iter().zip(90..).map(|(language, seed)| HeldoutShard {
        language: language.to_owned(),
        shard: shard(root, 2, seed),
        text_bytes: 80,
    });
    let manifest = DatasetManifest {
        version: 1,
        name: "tiny".into(),
        tokenizer: Hash::of(&tokenizer),
        vocab_size: VOCAB_SIZE,
        mixes: vec![Mix { name: "main".into(), shards: (0..3).map(|seed| shard(root, 20, seed)).collect() }],
        heldout: heldout.collect(),
        sources: vec![],
        settings: String::new(),
    };
    std::fs::write(root.join("dataset.manifest"), manifest.to_bytes()).unwrap();
}

/// Writes `dataset/` and a `run.toml` of a tiny run into `dir`; `extra` is appended.
pub(crate) fn run_toml(dir: &Path, extra: &str) -> PathBuf {
    dataset(&dir.join("dataset"));
    let path = dir.join("run.toml");
    let mut text = "name = 'tiny'\ndataset = 'dataset'\nrounds = 6\nseed = 1\nkeyframe_every_rounds = 3\n".to_owned();
    for (section, fields) in [
        ("model", "d_model = 16\nlayers = 1\nheads = 2\nkv_heads = 1\nffn = 32\ncontext = 16\n"),
        ("inner", "steps = 3\nbatch = 2\n"),
        ("timing", "round_min_ms = 1\nround_max_ms = 60000\nfetch_max_ms = 5000\n"),
        ("network", "listen = ['/ip4/127.0.0.1/udp/0/quic-v1']\nhttp = '127.0.0.1:0'\n"),
    ] {
        if !extra.contains(&format!("[{section}]")) {
            text.push_str(&format!("[{section}]\n{fields}"));
        }
    }
    text.push_str(extra);
    std::fs::write(&path, text).unwrap();
    path
}
