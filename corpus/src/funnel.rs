//! The funnel: how many documents, bytes and tokens go into each filter, and how many come out.

use crate::facts::Facts;
use crate::tally::{Count, KEPT, READ};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Filters in the order in which documents meet them. A rule's filter is what stands before its slash; filters that are not listed
/// come before deduplication, by name.
pub const ORDER: [&str; 22] = [
    "empty",
    "removals",
    "removal",
    "license",
    "rights",
    "robots",
    "tdm",
    "tdmrep",
    "opt-out",
    "url-lists",
    "language",
    "filters",
    "gopher-repetition",
    "gopher-quality",
    "c4",
    "fineweb",
    "ocr",
    "block-words",
    "pii",
    "dedup",
    "lines",
    "decontamination",
];

/// Where in [`ORDER`] filters stand that it does not name.
const OTHERS_BEFORE: &str = "dedup";

/// Tokens for each byte of text, by language. Every token count before encoding is an estimate from these.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TokensPerByte {
    /// By language, as measured.
    pub by_language: BTreeMap<String, f64>,
    /// Of all languages together; 0 where nothing was measured.
    pub overall: f64,
}

impl TokensPerByte {
    /// As measured on the training documents in the mixes, else on those held out.
    pub fn of(facts: &Facts) -> TokensPerByte {
        let mut sums = BTreeMap::<&str, [u64; 2]>::new();
        for part in facts.mixes.iter().flat_map(|mix| &mix.parts) {
            let [bytes, tokens] = sums.entry(&part.language).or_default();
            *bytes += part.bytes;
            *tokens += part.tokens;
        }
        for (language, held) in &facts.heldout {
            let sum = sums.entry(language).or_default();
            if sum[0] == 0 {
                *sum = [held.bytes, held.tokens];
            }
        }
        sums.retain(|_, [bytes, _]| *bytes > 0);
        let ratio = |[bytes, tokens]: [u64; 2]| tokens as f64 / bytes as f64;
        let all = sums.values().fold([0, 0], |all, sum| [all[0] + sum[0], all[1] + sum[1]]);
        TokensPerByte {
            overall: if all[0] == 0 { 0.0 } else { ratio(all) },
            by_language: sums.into_iter().map(|(language, sum)| (language.to_owned(), ratio(sum))).collect(),
        }
    }

    /// An estimate of the tokens of a text, rounded.
    pub fn tokens(&self, language: &str, bytes: u64) -> u64 {
        (bytes as f64 * self.by_language.get(language).unwrap_or(&self.overall)).round() as u64
    }
}

/// Documents, bytes, and an estimate of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, estimated from bytes.
    pub tokens_estimate: u64,
}

impl Flow {
    fn add(&mut self, other: Flow) {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.tokens_estimate += other.tokens_estimate;
    }

    fn minus(self, other: Flow) -> Flow {
        Flow {
            documents: self.documents.saturating_sub(other.documents),
            bytes: self.bytes.saturating_sub(other.bytes),
            tokens_estimate: self.tokens_estimate.saturating_sub(other.tokens_estimate),
        }
    }
}

/// A filter, and what it did to all documents or to those of a language.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The filter: rules up to their slash.
    pub filter: String,
    /// What came in.
    pub entered: Flow,
    /// What it dropped.
    pub dropped: Flow,
    /// What its rules dropped: the part after the slash.
    pub rules: BTreeMap<String, Flow>,
}

impl Step {
    /// What it let through.
    pub fn left(&self) -> Flow {
        self.entered.minus(self.dropped)
    }
}

/// The filters that dropped something, in the pipeline's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Funnel {
    /// All that was read.
    pub read: Flow,
    /// All that was kept, as counted.
    pub kept: Flow,
    /// Filters, for all languages.
    pub steps: Vec<Step>,
    /// The same for each language. A document counts for the language that it had when it was dropped or kept; what was `read` is the
    /// sum of these, as the language may be identified on the way.
    pub languages: BTreeMap<String, (Flow, Flow, Vec<Step>)>,
}

fn place(filter: &str) -> (usize, &str) {
    let others = ORDER.iter().position(|name| *name == OTHERS_BEFORE).unwrap_or(ORDER.len());
    match ORDER.iter().position(|name| *name == filter) {
        Some(place) => (2 * place, filter),
        // Removal from a finished data set comes after all.
        None if filter == "removed" => (2 * ORDER.len(), filter),
        None => (2 * others - 1, filter),
    }
}

/// The filters' names, in the pipeline's order.
pub fn sorted<'a>(filters: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut filters: Vec<&str> = filters.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    filters.sort_by_key(|filter| place(filter));
    filters
}

fn split(rule: &str) -> (&str, &str) {
    rule.split_once('/').unwrap_or((rule, ""))
}

impl Funnel {
    /// The funnel of a data set.
    pub fn of(facts: &Facts) -> Funnel {
        let tokens = TokensPerByte::of(facts);
        let mut rules = BTreeMap::<(&str, &str), Flow>::new();
        let mut read = Flow::default();
        for (key, Count { documents, bytes }) in facts.tally.rows() {
            let flow = Flow { documents, bytes, tokens_estimate: tokens.tokens(&key.language, bytes) };
            match key.rule == READ {
                true => read.add(flow),
                false => rules.entry((&key.language, &key.rule)).or_default().add(flow),
            }
        }
        let languages: BTreeSet<&str> = rules.keys().map(|(language, _)| *language).collect();
        let of = |language: Option<&str>| {
            let mine = rules.iter().filter(|((name, _), _)| language.is_none_or(|language| *name == language));
            steps(mine.map(|((_, rule), flow)| (*rule, *flow)))
        };
        let (all, kept, steps) = of(None);
        // What was read is counted by itself; rows that were never counted as read would hide otherwise.
        let read = if read.documents == 0 { all } else { Flow { tokens_estimate: all.tokens_estimate, ..read } };
        let languages = languages.into_iter().map(|language| (language.to_owned(), of(Some(language)))).collect();
        Funnel { read, kept, steps, languages }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let steps = |steps: &[Step]| -> Value {
            let step = |step: &Step| json!({"filter": step.filter, "in": step.entered, "dropped": step.dropped, "out": step.left(), "rules": step.rules});
            steps.iter().map(step).collect()
        };
        let languages = self.languages.iter().map(|(language, (read, kept, parts))| {
            (language.clone(), json!({"in": read, "kept": kept, "steps": steps(parts)}))
        });
        json!({
            "read": self.read, "kept": self.kept, "steps": steps(&self.steps),
            "languages": languages.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// What came in, what was kept, and the steps between.
fn steps<'a>(rules: impl Iterator<Item = (&'a str, Flow)>) -> (Flow, Flow, Vec<Step>) {
    let (mut all, mut kept) = (Flow::default(), Flow::default());
    let mut filters = BTreeMap::<&str, Step>::new();
    for (rule, flow) in rules {
        all.add(flow);
        if rule == KEPT {
            kept.add(flow);
            continue;
        }
        let (filter, reason) = split(rule);
        let step = filters.entry(filter).or_insert_with(|| Step { filter: filter.to_owned(), ..Step::default() });
        step.dropped.add(flow);
        step.rules.entry(reason.to_owned()).or_default().add(flow);
    }
    let mut entered = all;
    let mut steps = Vec::new();
    for filter in sorted(filters.keys().copied().collect::<Vec<_>>()) {
        let mut step = filters.remove(filter).unwrap_or_default();
        step.entered = entered;
        entered = step.left();
        steps.push(step);
    }
    (all, kept, steps)
}
