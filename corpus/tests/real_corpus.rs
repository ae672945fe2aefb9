//! On the real corpus, where it lies beside the repository: balance, held-out counts, losslessness.
#![allow(clippy::unwrap_used)]

mod common;

use common::{succeed, text};
use essaim_corpus::dataset::Dataset;
use std::path::Path;

#[test]
fn the_real_corpus_builds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if !corpus.is_dir() {
        println!("skipped: no ../shared/corpus beside the repository");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let report =
        succeed(&["build", text(&corpus), "--out", text(&out), "--vocab-size", "4096", "--weight", "fr=2", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["lossless"], true);
    let tokens = |language: &str| report["languages"][language]["tokens"].as_u64().unwrap();
    for language in ["fr", "de", "es", "en", "it", "nl", "pt"] {
        assert!(tokens(language) > 1_000_000, "{language}");
    }
    // Manuals of LilyPond are under a licence that the list does not have; pages that nobody translated are in another language.
    let dropped = |filter: &str| -> u64 {
        let steps = report["funnel"]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["filter"] == filter);
        step.map_or(0, |step| step["dropped"]["documents"].as_u64().unwrap())
    };
    assert_eq!(dropped("license"), 436);
    assert!(dropped("language") > 1000 && dropped("dedup") > 500 && dropped("decontamination") > 100);
    let dataset = Dataset::open(&out).unwrap();
    let encoder = dataset.encoder().unwrap();
    let languages: Vec<&str> = dataset.manifest.heldout.iter().map(|heldout| heldout.language.as_str()).collect();
    assert_eq!(languages, ["de", "en", "es", "fr", "it", "nl", "pt"]);
    // The build compared both ways to encode on every held-out document; here, training documents of each third shard.
    for info in dataset.manifest.mixes[0].shards.iter().step_by(3) {
        let mut shard = dataset.shard(info).unwrap();
        for i in (0..shard.documents()).step_by(10) {
            let tokens = shard.document(i).unwrap();
            let text = encoder.decode(&tokens).unwrap();
            assert!(encoder.check(&text, &tokens).unwrap());
        }
    }
}
