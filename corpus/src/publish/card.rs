//! `README.md`: the card of the data set, with the YAML front matter that the Hub reads
//! (huggingface.co/docs/hub/datasets-cards), then prose from the facts.

use super::markdown::{escape, paragraphs, table, thousands, yaml};
use super::parts::folder_name;
use super::statistics::{kept_by_language, kept_by_license, kept_by_source, largest_first, licenses_of};
use super::{FileInfo, attributions, licenses};
use crate::facts::Facts;
use crate::funnel::{Funnel, TokensPerByte};
use crate::plot::percent;
use crate::tally::{Count, KEPT};
use std::collections::BTreeSet;

/// What stands where the provider has not said anything.
pub const BLANK: &str = "to be filled in by the provider";

/// A text, or [`BLANK`].
pub fn or_blank(text: &str) -> &str {
    if text.is_empty() { BLANK } else { text }
}

/// The name for people.
pub fn title(facts: &Facts) -> &str {
    if facts.publish.title.is_empty() { &facts.name } else { &facts.publish.title }
}

/// Where the data set is at home: the page that was named, its repository, or a URN of its hash.
pub fn home(facts: &Facts) -> String {
    let config = &facts.publish;
    match (config.homepage.as_str(), config.repository.as_str()) {
        ("", "") => format!("urn:essaim:dataset:{}", facts.dataset),
        ("", repository) => format!("https://huggingface.co/datasets/{repository}"),
        (homepage, _) => homepage.to_owned(),
    }
}

/// One paragraph on what it is: the provider's words, or the counts.
pub fn description(facts: &Facts) -> String {
    if !facts.publish.description.is_empty() {
        return facts.publish.description.clone();
    }
    let languages = kept_by_language(facts);
    let Count { documents, bytes } = facts.tally.sum(|key| key.rule == KEPT);
    let names: Vec<&str> = largest_first(&languages).into_iter().map(|(name, _)| name).take(10).collect();
    format!(
        "Text for training language models: {} documents, {} bytes, in {} languages ({}{}), from {} sources, each document with its licence.",
        thousands(documents),
        thousands(bytes),
        languages.len(),
        names.join(", "),
        if languages.len() > 10 { ", …" } else { "" },
        kept_by_source(facts).len()
    )
}

/// The Hub's class for a number of documents.
pub fn size_category(documents: u64) -> &'static str {
    let bounds = [
        (1_000, "n<1K"),
        (10_000, "1K<n<10K"),
        (100_000, "10K<n<100K"),
        (1_000_000, "100K<n<1M"),
        (10_000_000, "1M<n<10M"),
        (100_000_000, "10M<n<100M"),
        (1_000_000_000, "100M<n<1B"),
        (10_000_000_000, "1B<n<10B"),
        (100_000_000_000, "10B<n<100B"),
        (1_000_000_000_000, "100B<n<1T"),
    ];
    bounds.into_iter().find(|(bound, _)| documents < *bound).map_or("n>1T", |(_, name)| name)
}

/// Codes that the Hub takes: two or three letters; `code` for programs.
fn codes(facts: &Facts) -> Vec<String> {
    let mut codes: Vec<String> = Vec::new();
    let counts = kept_by_language(facts);
    for (name, _) in largest_first(&counts) {
        for code in name.split(',').map(|part| part.split_once(':').map_or(part, |(kind, _)| kind).trim()) {
            let fits = (2..=3).contains(&code.len()) && code.chars().all(|c| c.is_ascii_lowercase());
            if (fits || code == "code") && !codes.iter().any(|other| other == code) {
                codes.push(code.to_owned());
            }
        }
    }
    codes
}

fn list(name: &str, items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("- {item}\n")).collect();
    if items.is_empty() { String::new() } else { format!("{name}:\n{}", items.concat()) }
}

/// The front matter, without its rules.
pub fn front_matter(facts: &Facts, files: &[FileInfo]) -> String {
    let expressions: BTreeSet<&str> = facts.licenses.iter().map(|row| row.license.as_str()).collect();
    let (license, name) = licenses::hub(&expressions);
    let mut text = format!("pretty_name: {}\nlicense: {license}\n", yaml(title(facts)));
    if let Some(name) = name {
        text += &format!("license_name: {name}\nlicense_link: ATTRIBUTIONS.md\n");
    }
    let languages = kept_by_language(facts);
    // "no" and the like are no booleans in quotes.
    text += &list("language", codes(facts).iter().map(|code| yaml(code)));
    text += &list("multilinguality", [String::from(if languages.len() > 1 { "multilingual" } else { "monolingual" })]);
    let documents = facts.tally.sum(|key| key.rule == KEPT).documents;
    text += &list("size_categories", [size_category(documents).to_owned()]);
    text += &list("task_categories", ["text-generation", "fill-mask"].map(String::from));
    text += &list("task_ids", ["language-modeling", "masked-language-modeling"].map(String::from));
    text += &list("tags", ["open-data", "per-document-licenses", "essaim"].map(String::from));
    let with_parts: BTreeSet<&str> = files.iter().filter_map(|file| file.language.as_deref()).collect();
    if !with_parts.is_empty() {
        text += "configs:\n";
        let order =
            largest_first(&languages).into_iter().map(|(name, _)| name).filter(|name| with_parts.contains(name));
        for (i, language) in order.enumerate() {
            let folder = folder_name(language);
            let default = if i == 0 { "  default: true\n" } else { "" };
            let path = yaml(&format!("data/{folder}/*.parquet"));
            text += &format!(
                "- config_name: {}\n{default}  data_files:\n  - split: train\n    path: {path}\n",
                yaml(&folder)
            );
        }
    }
    text
}

/// The card.
pub fn card(facts: &Facts, files: &[FileInfo]) -> String {
    let mut text = format!("---\n{}---\n\n# {}\n\n", front_matter(facts, files), escape(title(facts)));
    text += &format!("{}\n\n", paragraphs(&description(facts)));
    text += &identity(facts);
    text += "\n## What is in it\n\n";
    text += &contents(facts);
    text += "\n![Kept text by language and source](plots/languages.svg)\n\n![Length of documents](plots/lengths.svg)\n";
    text += "\n## Sources and licences\n\n";
    text += &sources(facts);
    text += "\nEvery document keeps its licence: `extra.license` of its row, and where that was found: `extra.license_from` (`column`: the \
             document says it; `source`: its source says it for all; `link`: a Creative Commons link in it). [ATTRIBUTIONS.md](ATTRIBUTIONS.md) names authors and what \
             each licence asks for.\n\n![Kept text by licence and source](plots/licenses.svg)\n";
    text += "\n## How it was made\n\n";
    text += &funnel(facts);
    text += &mixes(facts);
    text += &rebuild(facts);
    text + &folder(files)
}

fn identity(facts: &Facts) -> String {
    let config = &facts.publish;
    let rows = [
        ("provider", config.provider.as_str()),
        ("contact", &config.contact),
        ("version", &config.version),
        ("published", &config.date),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), escape(or_blank(value))]);
    let hash = vec!["data set (BLAKE3 of `dataset.manifest`)".to_owned(), format!("`{}`", facts.dataset)];
    table(&["", ""], rows.into_iter().chain([hash]))
}

fn contents(facts: &Facts) -> String {
    let (counts, tokens) = (kept_by_language(facts), TokensPerByte::of(facts));
    let all = facts.tally.sum(|key| key.rule == KEPT);
    let estimate: u64 = counts.iter().map(|(name, count)| tokens.tokens(name, count.bytes)).sum();
    let row = |name: String, count: Count, tokens: u64| {
        vec![
            name,
            thousands(count.documents),
            thousands(count.bytes),
            thousands(tokens),
            percent(count.bytes, all.bytes),
        ]
    };
    let languages = largest_first(&counts);
    let rows = languages.iter().map(|(name, count)| row(escape(name), *count, tokens.tokens(name, count.bytes)));
    let sum = row("**all**".into(), all, estimate);
    let head = ["language", "#documents", "#bytes of text", "#tokens (estimate)", "#share"];
    let heldout: u64 = facts.heldout.values().map(|held| held.documents).sum();
    format!(
        "{}\nTokens are estimated from bytes, by the tokens for each byte that the data set's tokenizer ({} tokens) needs in the language. \
         {} documents in {} languages are held out of training: `heldout/` names them.\n",
        table(&head, rows.chain([sum])),
        thousands(facts.tokenizer.vocab_size.into()),
        thousands(heldout),
        facts.heldout.values().filter(|held| held.documents > 0).count()
    )
}

fn sources(facts: &Facts) -> String {
    let counts = kept_by_source(facts);
    let rows = largest_first(&counts).into_iter().map(|(source, count)| {
        let licenses = licenses_of(facts, source, None).into_iter().map(escape).collect::<Vec<_>>().join(", ");
        vec![escape(source), thousands(count.documents), thousands(count.bytes), licenses]
    });
    let mut text = table(&["source", "#documents", "#bytes of text", "licences (SPDX)"], rows);
    let counts = kept_by_license(facts);
    let rows = largest_first(&counts).into_iter().map(|(license, count)| {
        vec![escape(license), thousands(count.documents), thousands(count.bytes), attributions::conditions(license)]
    });
    text += "\n";
    text + &table(&["licence", "#documents", "#bytes of text", "asks for"], rows)
}

fn funnel(facts: &Facts) -> String {
    let funnel = Funnel::of(facts);
    let rows = funnel.steps.iter().map(|step| {
        let rules = step.rules.iter().map(|(rule, flow)| match rule.as_str() {
            "" => thousands(flow.documents),
            rule => format!("{} {}", escape(rule), thousands(flow.documents)),
        });
        let (entered, dropped) = (step.entered.documents, step.dropped.documents);
        let numbers = [entered, dropped, step.left().documents].map(thousands);
        let [entered_shown, dropped_shown, left] = numbers;
        let share = percent(dropped, entered);
        vec![escape(&step.filter), entered_shown, dropped_shown, share, left, rules.collect::<Vec<_>>().join(", ")]
    });
    let head = ["filter", "#in", "#dropped", "#share", "#out", "rules"];
    let read = thousands(funnel.read.documents);
    let kept = thousands(funnel.kept.documents);
    let mut text = format!(
        "{read} documents were read and {kept} kept. Filters in their order, with the documents that each dropped:\n\n{}\n\
         ![Documents after each filter](plots/funnel.svg)\n\n`rejected.parquet` names every dropped document with its rule and the values \
         that decided.\n",
        table(&head, rows)
    );
    if !facts.masked.is_empty() {
        let kinds = facts
            .masked
            .iter()
            .map(|(kind, languages)| format!("{} {}", thousands(languages.values().sum()), escape(kind)));
        text += &format!("\nPersonal data masked in kept documents: {}.\n", kinds.collect::<Vec<_>>().join(", "));
    }
    if facts.lines.lines > 0 {
        let lines = [facts.lines.lines, facts.lines.bytes, facts.lines.documents].map(thousands);
        text += &format!(
            "\nLines that recur across documents were removed: {} lines, {} bytes, in {} documents.\n",
            lines[0], lines[1], lines[2]
        );
    }
    let copies: u64 = facts.clusters.iter().filter(|(size, _)| **size > 1).map(|(_, count)| *count).sum();
    if copies > 0 {
        text += &format!(
            "\n{} kept documents stand for a cluster of duplicates: `extra.cluster_size` of a row counts it.\n\n![Clusters](plots/clusters.svg)\n",
            thousands(copies)
        );
    }
    text
}

fn mixes(facts: &Facts) -> String {
    let rows = facts.mixes.iter().flat_map(|mix| {
        let all: u64 = mix.parts.iter().map(|part| part.tokens).sum();
        mix.parts.iter().map(move |part| {
            let (name, language, source) = (escape(&mix.name), escape(&part.language), escape(&part.source));
            let [documents, tokens] = [part.documents, part.tokens].map(thousands);
            let epochs = format!("{:.2}", part.copies as f64 / part.documents.max(1) as f64);
            vec![name, language, source, documents, tokens, percent(part.tokens, all), epochs]
        })
    });
    let head = ["mix", "language", "source", "#documents", "#tokens", "#share", "#epochs"];
    format!("\n### Mixes\n\n{}\n![Languages in each mix](plots/mixes.svg)\n", table(&head, rows))
}

fn rebuild(facts: &Facts) -> String {
    // A fence longer than any run of backticks in the settings.
    let longest = facts.settings.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!(
        "\n## Settings\n\nAll thresholds, as the manifest keeps them:\n\n{fence}toml\n{}\n{fence}\n\n## Rebuild and verify\n\nThe same documents \
         and settings give the same bytes, on any machine:\n\n```sh\nessaim-corpus build corpus.toml --out dataset\nessaim-corpus inspect \
         dataset            # checks every hash; prints the data set's: {}\nessaim-corpus explain dataset ID       # what happened to one \
         document\n```\n",
        facts.settings.trim_end(),
        facts.dataset
    )
}

fn folder(files: &[FileInfo]) -> String {
    let mut text = "\n## Files\n\n`statistics.json` has all figures, `croissant.json` every file with its SHA-256, `ai-act-summary.md` the public \
                    summary of training content. Load a language with `datasets`:\n\n"
        .to_owned();
    let first = files.iter().find_map(|file| file.language.as_deref()).map_or("fr".into(), folder_name);
    text += &format!(
        "```python\nfrom datasets import load_dataset\n\ndataset = load_dataset(\"FOLDER\", \"{first}\")\n```\n"
    );
    text
}
