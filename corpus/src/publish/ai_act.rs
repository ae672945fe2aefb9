//! `ai-act-summary.md` and `.json`: what a provider of a model trained on this data set needs for the public summary of training
//! content that Article 53(1)(d) of Regulation (EU) 2024/1689 asks for.
//!
//! Sections and their titles follow the Commission's template (explanatory notice and template, C(2025) 8311 of 5 December 2025; first
//! published on 24 July 2025). They were compared with filled-in summaries that follow it, not with the Official Journal: the questions
//! within sections are worded here in our own way, and a provider checks them against the template before publishing.

use super::card::{or_blank, title};
use super::markdown::{escape, thousands};
use super::statistics::{kept_by_language, kept_by_source, largest_first, licenses_of};
use crate::facts::Facts;
use crate::funnel::{Funnel, TokensPerByte};
use crate::plot::percent;
use crate::tally::{Count, KEPT};
use serde::Serialize;

/// A question of the template and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What is asked.
    pub question: String,
    /// What is answered; empty lists are answered with [`super::card::BLANK`] or "none".
    pub answer: String,
    /// Items of a list that belong to the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
}

/// A section of the template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Its number: `2.1`.
    pub number: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Its answers; none for a heading.
    pub answers: Vec<Answer>,
}

fn answer(question: &str, answer: impl Into<String>) -> Answer {
    Answer { question: question.to_owned(), answer: answer.into(), items: Vec::new() }
}

fn list(question: &str, answer: impl Into<String>, items: Vec<String>) -> Answer {
    Answer { question: question.to_owned(), answer: answer.into(), items }
}

/// The template's classes for the size of text.
pub fn size_band(tokens: u64) -> &'static str {
    match tokens {
        0..1_000_000_000 => "less than 1 billion tokens",
        1_000_000_000..=10_000_000_000_000 => "1 billion to 10 trillion tokens",
        _ => "more than 10 trillion tokens",
    }
}

/// The summary.
pub fn summary(facts: &Facts) -> Vec<Section> {
    let config = &facts.publish;
    let section = |number, title, answers| Section { number, title, answers };
    let used = |used: bool| if used { "yes" } else { "no" };
    vec![
        section(
            "0",
            "About this summary",
            vec![
                answer("Version of the summary", or_blank(&config.version)),
                answer("Last update", or_blank(&config.date)),
                answer("Data set that it describes", format!("{}, {}", title(facts), facts.dataset)),
            ],
        ),
        section("1", "General information", Vec::new()),
        section(
            "1.1",
            "Provider identification",
            vec![
                answer(
                    "Provider name and contact details",
                    format!("{}; {}", or_blank(&config.provider), or_blank(&config.contact)),
                ),
                answer("Authorised representative name and contact details", super::card::BLANK),
            ],
        ),
        section(
            "1.2",
            "Model identification",
            vec![
                list(
                    "Versioned model names",
                    if config.models.is_empty() { super::card::BLANK } else { "as listed" },
                    config.models.clone(),
                ),
                answer("Model dependencies", super::card::BLANK),
                answer("Date of placement on the Union market", super::card::BLANK),
            ],
        ),
        section("1.3", "Modalities, overall training data size and other characteristics", size(facts)),
        section("2", "List of data sources", Vec::new()),
        section("2.1", "Publicly available datasets", public(facts)),
        section(
            "2.2",
            "Private non-publicly available datasets obtained from third parties",
            named(
                facts,
                "Were datasets used that are licensed by rights holders, or private ones of third parties?",
                &config.private,
            ),
        ),
        section("2.3", "Data crawled and scraped from online sources", crawled(facts)),
        section(
            "2.4",
            "User data",
            vec![answer("Was data from users of the provider's services or models used?", used(false))],
        ),
        section(
            "2.5",
            "Synthetic data",
            named(facts, "Was data used that models made, by or for the provider?", &config.synthetic),
        ),
        section("2.6", "Other sources of data", vec![answer("Were other sources used?", used(false))]),
        section("3", "Data processing aspects", Vec::new()),
        section(
            "3.1",
            "Respect of reservation of rights from text and data mining exception or limitation",
            rights(facts),
        ),
        section(
            "3.2",
            "Removal of illegal content",
            vec![list(
                "General description of measures taken",
                or_blank(&config.illegal_content),
                dropped(facts, &LISTS),
            )],
        ),
        section("3.3", "Other information (optional)", other(facts)),
    ]
}

/// Filters that heed reservations and licences.
const RIGHTS: [&str; 8] = ["license", "rights", "robots", "tdm", "tdmrep", "opt-out", "removals", "removed"];
/// Filters by lists of words and addresses.
const LISTS: [&str; 2] = ["url-lists", "block-words"];

/// What filters dropped, a line each.
fn dropped(facts: &Facts, filters: &[&str]) -> Vec<String> {
    let funnel = Funnel::of(facts);
    let steps = funnel.steps.iter().filter(|step| filters.contains(&step.filter.as_str()));
    let rules = steps.flat_map(|step| step.rules.iter().map(move |(rule, flow)| (step, rule, flow)));
    rules
        .map(|(step, rule, flow)| {
            format!(
                "{}/{rule}: {} documents, {} bytes dropped",
                step.filter,
                thousands(flow.documents),
                thousands(flow.bytes)
            )
        })
        .collect()
}

fn size(facts: &Facts) -> Vec<Answer> {
    let (languages, per_byte) = (kept_by_language(facts), TokensPerByte::of(facts));
    let Count { documents, bytes } = facts.tally.sum(|key| key.rule == KEPT);
    let tokens: u64 = languages.iter().map(|(name, count)| per_byte.tokens(name, count.bytes)).sum();
    let shares = largest_first(&languages);
    let shares = shares.iter().map(|(name, count)| format!("{name}: {}", percent(count.bytes, bytes))).collect();
    let latest = facts.years.values().map(|(_, last)| *last).max();
    vec![
        answer("Modalities", "text"),
        answer(
            "Training data size",
            format!(
                "{} (about {} tokens, {} bytes of text, {} documents)",
                size_band(tokens),
                thousands(tokens),
                thousands(bytes),
                thousands(documents)
            ),
        ),
        list("Types of content", "the sources, which sections 2.1 to 2.5 name", Vec::new()),
        answer(
            "Latest date of data acquisition",
            latest.map_or(super::card::BLANK.into(), |year| format!("documents are dated up to {year}")),
        ),
        list(
            "Linguistic characteristics: languages by share of bytes",
            format!("{} languages", languages.len()),
            shares,
        ),
    ]
}

/// A source as the template asks for it: name, share, licences.
fn source(facts: &Facts, name: &str, count: Count, all: u64) -> String {
    let licenses = licenses_of(facts, name, None).into_iter().collect::<Vec<_>>().join(", ");
    let years = facts.years.get(name).map_or(String::new(), |(first, last)| format!(", dated {first} to {last}"));
    format!(
        "{name}: {} of the text, {} documents, {licenses}{years}",
        percent(count.bytes, all),
        thousands(count.documents)
    )
}

fn public(facts: &Facts) -> Vec<Answer> {
    let config = &facts.publish;
    let all = facts.tally.sum(|key| key.rule == KEPT).bytes;
    let counts = kept_by_source(facts);
    let elsewhere = [&config.private, &config.crawled, &config.synthetic];
    let public = largest_first(&counts)
        .into_iter()
        .filter(|(name, _)| !elsewhere.iter().any(|list| list.iter().any(|other| other == name)));
    // More than 3 % of the text, in whole numbers.
    let (large, small): (Vec<_>, Vec<_>) =
        public.partition(|(_, count)| u128::from(count.bytes) * 100 > u128::from(all) * 3);
    let lines =
        |rows: &[(&str, Count)]| rows.iter().map(|(name, count)| source(facts, name, *count, all)).collect::<Vec<_>>();
    vec![
        answer(
            "Were publicly available datasets used?",
            if large.is_empty() && small.is_empty() { "no" } else { "yes" },
        ),
        answer("Modalities", "text"),
        list("Large datasets: more than 3 % of the text", format!("{}", large.len()), lines(&large)),
        list("Other publicly available datasets", format!("{}", small.len()), lines(&small)),
    ]
}

fn named(facts: &Facts, question: &str, names: &[String]) -> Vec<Answer> {
    let all = facts.tally.sum(|key| key.rule == KEPT).bytes;
    let counts = kept_by_source(facts);
    let used = counts.iter().filter(|(name, _)| names.contains(name));
    let items: Vec<String> = used.map(|(name, count)| source(facts, name, *count, all)).collect();
    vec![list(question, if items.is_empty() { "no" } else { "yes" }, items)]
}

/// The hosts that the template asks for: the top tenth by size; for small enterprises the top twentieth, or 1,000.
pub fn top_hosts(facts: &Facts) -> Vec<String> {
    let share = if facts.publish.small_enterprise { 20 } else { 10 };
    let count = facts.hosts.len().div_ceil(share).min(1000);
    let host = |host: &crate::facts::HostFacts| {
        format!("{}: {} documents, {} bytes", host.host, thousands(host.documents), thousands(host.bytes))
    };
    facts.hosts.iter().take(count).map(host).collect()
}

fn crawled(facts: &Facts) -> Vec<Answer> {
    let mut answers = named(facts, "Were crawlers used by the provider or on their behalf?", &facts.publish.crawled);
    if facts.publish.crawled.is_empty() && facts.hosts.is_empty() {
        return answers;
    }
    answers.push(answer("Crawlers, their behaviour, and period of collection", super::card::BLANK));
    let share = if facts.publish.small_enterprise { "5 % (small enterprise)" } else { "10 %" };
    let question =
        format!("Most relevant host names: the top {share} of the {} largest, by bytes of text", facts.hosts.len());
    let hosts = top_hosts(facts);
    answers.push(list(&question, format!("{}", hosts.len()), hosts));
    answers
}

fn rights(facts: &Facts) -> Vec<Answer> {
    vec![
        answer("Signatory to the Code of Practice with its commitments on reservations of rights?", super::card::BLANK),
        list(
            "Measures: licences are checked document by document against a list of allowed ones; robots.txt, TDM reservations and opt-out \
             lists are heeded as the settings say. Dropped by them",
            if dropped(facts, &RIGHTS).is_empty() { "none" } else { "as listed" },
            dropped(facts, &RIGHTS),
        ),
    ]
}

fn other(facts: &Facts) -> Vec<Answer> {
    let masked: Vec<String> = facts
        .masked
        .iter()
        .map(|(kind, languages)| format!("{kind}: {} masked in kept documents", thousands(languages.values().sum())))
        .collect();
    vec![
        list("Personal data", if masked.is_empty() { "none masked" } else { "masked" }, masked),
        answer(
            "Requests for removal",
            format!(
                "{}; documents are taken out by id (essaim-corpus remove), which gives a new data set and names the shards and runs that held them",
                or_blank(&facts.publish.contact)
            ),
        ),
        answer("All settings and every rejected document's id", "README.md and rejected.parquet of the data set"),
    ]
}

/// The summary as Markdown.
pub fn markdown(facts: &Facts) -> String {
    let mut text = format!(
        "# Public summary of training content: {}\n\nDrawn from the data set's counts, in the sections of the template of Article 53(1)(d) \
         of Regulation (EU) 2024/1689. It covers this data set alone; a model's provider adds what else the model was trained on, and \
         checks the wording against the Commission's template.\n",
        escape(title(facts))
    );
    for section in summary(facts) {
        let level = if section.number.contains('.') { "###" } else { "##" };
        text += &format!("\n{level} {}. {}\n", section.number, section.title);
        for Answer { question, answer, items } in section.answers {
            text += &format!("\n**{question}:** {}\n", escape(&answer));
            if !items.is_empty() {
                text += "\n";
            }
            items.iter().for_each(|item| text += &format!("- {}\n", escape(item)));
        }
    }
    text
}
