//! What the filters say of documents, one by one: the half of `benches/corpus_verdicts.py` that is ours.
//!
//! `verdicts settings.toml < documents.jsonl > verdicts.jsonl`: the settings hold `[filters.NAME]` tables, and may hold `[language]` and
//! `[pii]`. A document is `{"language": "fr", "text": "…", "url": "…"}`. Its line of output has an entry for each set of filters (the rule
//! that rejected it, or null; and the text where C4 changed it), `language` (what was identified, and its probability) and `pii` (how
//! much was masked). The seconds that each took, on one core, go to stderr as one JSON object.

use anyhow::{Context, Result};
use essaim_corpus::document::{Document, Meta};
use essaim_corpus::filters::{FilterSet, FiltersConfig, Scratch};
use essaim_corpus::language::{Identifier, LanguageConfig};
use essaim_corpus::pii::{Masker, PiiConfig};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Instant;

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    filters: FiltersConfig,
    language: Option<LanguageConfig>,
    pii: Option<PiiConfig>,
}

#[derive(Deserialize)]
struct Line {
    language: String,
    text: String,
    #[serde(default)]
    url: Option<String>,
}

impl Line {
    fn document(&self) -> Document {
        let meta = Meta { url: self.url.clone(), ..Meta::default() };
        let [id, source, license] = [const { String::new() }; 3];
        Document { id, source, language: self.language.clone(), license, text: self.text.clone(), meta }
    }
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: verdicts settings.toml < documents.jsonl")?;
    let settings: Settings = toml::from_str(&std::fs::read_to_string(path)?)?;
    let names = settings.filters.keys();
    let sets: Vec<(&String, FilterSet)> =
        names.map(|name| Ok((name, FilterSet::new(name, &settings.filters)?))).collect::<Result<_>>()?;
    let identifier = settings.language.as_ref().map(Identifier::load).transpose()?;
    let masker = settings.pii.as_ref().map(Masker::new).transpose()?;
    let lines = std::io::stdin().lock().lines();
    let lines: Vec<Line> = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;

    let mut out: Vec<Map<String, Value>> = lines.iter().map(|_| Map::new()).collect();
    let mut seconds = BTreeMap::new();
    for (name, set) in &sets {
        let mut documents: Vec<Document> = lines.iter().map(Line::document).collect();
        let mut scratch = Scratch::default();
        let start = Instant::now();
        let verdicts: Vec<_> = documents.iter_mut().map(|document| set.apply(document, &mut scratch)).collect();
        seconds.insert(name.to_string(), start.elapsed().as_secs_f64());
        for (((out, line), document), verdict) in out.iter_mut().zip(&lines).zip(documents).zip(verdicts) {
            let rule = verdict.err().map(|rejection| rejection.to_string());
            let changed = (document.text != line.text).then_some(document.text);
            out.insert(name.to_string(), json!({ "rule": rule, "text": changed }));
        }
    }
    if let Some(identifier) = &identifier {
        let start = Instant::now();
        let guesses: Vec<_> = lines.iter().map(|line| identifier.identify(&line.text)).collect();
        seconds.insert("language".into(), start.elapsed().as_secs_f64());
        for (out, guess) in out.iter_mut().zip(guesses) {
            out.insert("language".into(), json!([guess.language, guess.probability]));
        }
    }
    if let Some(masker) = &masker {
        let start = Instant::now();
        let masked: Vec<_> = lines.iter().map(|line| masker.mask(&line.text)).collect();
        seconds.insert("pii".into(), start.elapsed().as_secs_f64());
        for (out, (text, counts)) in out.iter_mut().zip(masked) {
            out.insert("pii".into(), json!({ "counts": counts, "text": (!counts.is_zero()).then_some(text) }));
        }
    }
    let mut stdout = std::io::stdout().lock();
    for line in out {
        writeln!(stdout, "{}", Value::Object(line))?;
    }
    eprintln!("{}", json!(seconds));
    Ok(())
}
