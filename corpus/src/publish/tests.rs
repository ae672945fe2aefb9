//! Facts made by hand, and what is drawn from them.

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
                ("robots/disallowed", 2),
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
