//! Facts made by hand, and what is drawn from them.

use super::*;
use crate::facts::*;
use crate::tally::{KEPT, READ};

/// Names that break careless writers.
pub(crate) const AWKWARD: &str = "a<b>&\"|'`*_[x](y)\n# {{: é";

/// Facts with `languages` languages and a source that is hard to write down.
pub(crate) fn facts(languages: usize) -> Facts {
    let sources =
        ["wikipedia", "gallica-monographs", "a-source-with-a-name-that-is-far-too-long-for-any-plot", AWKWARD];
    let mut facts =
        Facts { version: 1, name: "Corpus <d'essai> & co.".into(), dataset: "ab".repeat(32), ..Facts::default() };
    facts.settings = "name = \"corpus\"\n[filters.gopher-quality]\nwords_min = 50\n".into();
    let names = ["fr", "en", "de", "es", "it", "code:python", "oc"];
    for l in 0..languages {
        let language = names.get(l).map_or_else(|| format!("l{l}"), |name| (*name).to_owned());
        for (s, source) in sources.iter().enumerate() {
            let rows = [
                ("license/not-allowed", 3),
                ("rights/robots", 2),
                ("gopher-quality/too-few-words", 5),
                ("gopher-quality/stop-words", 1),
                ("dedup/near", 4),
                ("somebody's/new", 1),
                (KEPT, 40),
            ];
            for (rule, count) in rows {
                for i in 0..count * (1 + (languages - l) as u64) {
                    let bytes = 100 * (1 + s as u64) + i;
                    facts.tally.document(source, &language, rule, bytes);
                    facts.tally.document(source, &language, READ, bytes);
                }
            }
        }
        let kept: Vec<_> = facts.tally.rows().filter(|(k, _)| k.rule == KEPT && k.language == language).collect();
        let mut parts = Vec::new();
        for (s, (key, count)) in kept.into_iter().enumerate() {
            let license = ["CC-BY-SA-4.0", "GPL-2.0-or-later OR CC-BY-SA-3.0", "etalab-2.0", "NOASSERTION"][s % 4];
            facts.licenses.push(LicenseFacts {
                license: license.into(),
                source: key.source.clone(),
                language: language.clone(),
                documents: count.documents,
                bytes: count.bytes,
            });
            let (source, language) = (key.source.clone(), language.clone());
            let (documents, bytes) = (count.documents, count.bytes);
            parts.push(MixPart {
                source,
                language,
                documents,
                copies: documents,
                bytes,
                tokens: bytes / 4,
                weight: 1.0,
            });
        }
        if facts.mixes.is_empty() {
            facts.mixes =
                ["main", "annealing"].map(|name| MixFacts { name: name.into(), shards: 3, parts: Vec::new() }).into();
        }
        facts.mixes[0].parts.extend(parts.iter().cloned());
        facts.mixes[1].parts.extend(parts.into_iter().take(1 + l % 4));
        facts.heldout.insert(language.clone(), HeldoutFacts { documents: 2, bytes: 800, tokens: 210 });
        facts.lengths.insert(
            language.clone(),
            (0..17).map(|k: u64| if k < 5 { 0 } else { (k * 37 + l as u64 * 11) % 97 }).collect(),
        );
        facts.masked.entry("email".into()).or_default().insert(language, 7);
    }
    facts.clusters = [(1, 900), (2, 60), (3, 20), (4, 5), (117, 1), (3000, 1)].into();
    facts.hosts =
        (0..30).map(|i| HostFacts { host: format!("host{i}.example"), documents: 40 - i, bytes: 9000 - i }).collect();
    facts.lines = LineFacts { documents: 4, lines: 9, bytes: 300 };
    facts.years.insert("wikipedia".into(), (1998, 2026));
    facts
}

#[test]
#[ignore = "writes files to look at: ESSAIM_PLOTS names the folder"]
fn plots_to_look_at() {
    let folder = std::path::PathBuf::from(std::env::var("ESSAIM_PLOTS").unwrap());
    for languages in [0, 1, 7, 40, 60] {
        for (name, svg) in crate::plot::plots(&facts(languages)) {
            std::fs::write(folder.join(format!("{languages:02}-{name}.svg")), svg).unwrap();
        }
    }
}

#[test]
fn every_file_tells_the_same_figures_and_is_harmless() {
    let facts = facts(7);
    let part = FileInfo::of("data/fr/00000.parquet", Some("fr"), 3, b"x");
    let written = write(&facts, std::slice::from_ref(&part));
    assert_eq!(written, write(&facts.clone(), std::slice::from_ref(&part)));
    let get = |name: &str| {
        let (_, bytes) = written.iter().find(|(other, _)| other == name).unwrap();
        String::from_utf8(bytes.clone()).unwrap()
    };
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&get(name)).unwrap();
    let kept = facts.tally.sum(|key| key.rule == KEPT);
    let statistics = json("statistics.json");
    assert_eq!(statistics["kept"]["documents"], kept.documents);
    for by in ["languages", "sources", "licenses"] {
        let sum: u64 = statistics[by].as_object().unwrap().values().map(|count| count["bytes"].as_u64().unwrap()).sum();
        assert_eq!(sum, kept.bytes, "{by}");
    }
    let parts = statistics["parts"].as_array().unwrap();
    let tokens: u64 = parts.iter().map(|part| part["tokens_estimate"].as_u64().unwrap()).sum();
    // Sums of rounded estimates, by language and by language and source.
    assert!(tokens.abs_diff(statistics["kept_tokens_estimate"].as_u64().unwrap()) <= parts.len() as u64);
    let shown = markdown::thousands(kept.documents);
    assert!(get("README.md").contains(&format!("| **all** | {shown} |")));
    assert!(get("ai-act-summary.md").contains(&format!("{shown} documents)")));
    let croissant = json("croissant.json");
    let files = croissant["distribution"].as_array().unwrap();
    let described: Vec<&str> = files.iter().filter_map(|file| file["contentUrl"].as_str()).collect();
    let others = written.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "croissant.json");
    assert_eq!(described, ["data/fr/00000.parquet"].into_iter().chain(others).collect::<Vec<_>>());
    for (name, bytes) in &written {
        let text = String::from_utf8(bytes.clone()).unwrap();
        match name.rsplit_once('.').unwrap().1 {
            "svg" => {
                assert!(!text.contains("a<b>") && !text.contains("<script") && text.starts_with("<svg "), "{name}")
            }
            "md" => assert!(!text.contains("a<b>") && !text.contains("[x](y)\n#"), "{name}"),
            _ => {}
        }
        // One row a document of a table: no cell breaks its line or column.
        let rows =
            text.lines().filter(|line| name.ends_with(".md") && line.contains("a&lt;b&gt;") && line.starts_with('|'));
        assert!(rows.into_iter().all(|line| line.ends_with(" |")), "{name}");
    }
}

#[test]
fn the_summary_names_large_sources_and_the_top_tenth_of_hosts() {
    let mut facts = facts(2);
    facts.publish.crawled = vec!["wikipedia".into()];
    let sections = ai_act::summary(&facts);
    let numbers: Vec<&str> = sections.iter().map(|section| section.number).collect();
    let template =
        ["0", "1", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "3", "3.1", "3.2", "3.3"];
    assert_eq!(numbers, template);
    let answers = |number: &str| &sections.iter().find(|section| section.number == number).unwrap().answers;
    assert!(answers("2.3")[0].items[0].starts_with("wikipedia: "));
    assert_eq!(answers("2.3")[2].items.len(), 3);
    assert!(answers("2.1").iter().flat_map(|answer| &answer.items).all(|item| !item.starts_with("wikipedia")));
    assert_eq!(answers("1.1")[0].answer, "to be filled in by the provider; to be filled in by the provider");
    facts.publish.small_enterprise = true;
    assert_eq!(ai_act::top_hosts(&facts).len(), 2);
    let bands = [0, 999_999_999, 1_000_000_000, 10_000_000_000_001].map(ai_act::size_band);
    assert_eq!((bands[0], bands[1]), (bands[1], bands[0]));
    assert!(bands[1] != bands[2] && bands[2] != bands[3]);
}
