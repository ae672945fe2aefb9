//! The funnel: how many documents, bytes and tokens go into each filter, and how many come out.

use crate::facts::Facts;
use crate::plot::percent;
use crate::publish::markdown::thousands;
use crate::tally::{Count, KEPT, READ};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Filters in the order in which documents meet them. A rule's filter is what stands before its slash; filters that are not listed
/// come before deduplication, by name.
pub const ORDER: [&str; 16] = [
    "empty",
    "removed",
    "license",
    "rights",
    "language",
    "filters",
    "url-lists",
    "gopher-repetition",
    "gopher-quality",
    "c4",
    "fineweb",
    "ocr",
    "block-words",
    "pii",
    "dedup",
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

/// Characters of a bar.
const BAR: usize = 22;

/// A bar of `value` out of `whole`, in eighths of a character.
fn bar(value: u64, whole: u64) -> String {
    let eighths = (u128::from(value) * BAR as u128 * 8).div_ceil(u128::from(whole.max(1))) as usize;
    let eighths = eighths.min(BAR * 8);
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{part}", "█".repeat(eighths / 8))
}

impl Funnel {
    /// As a table of at most 100 columns: a line for each filter, then one for each language. `bars` draws what is left after
    /// each filter; without a terminal that is left out.
    pub fn table(&self, bars: bool) -> String {
        let whole = self.read.documents;
        let head = format!(
            "{:20} {:>13} {:>11} {:>8} {:>9} {:>9}",
            "filter", "documents in", "dropped", "", "MB out", "M tokens"
        );
        let mut text = format!("{head}\n");
        let mega = |number: u64| format!("{:.2}", number as f64 / 1e6);
        let mut line = |name: &str, entered: Flow, dropped: Flow, left: Flow| {
            let share = match dropped.documents {
                0 => String::new(),
                documents => percent(documents, entered.documents),
            };
            let (bytes, tokens) = (mega(left.bytes), mega(left.tokens_estimate));
            let shown = format!(
                "{:20} {:>13} {:>11} {share:>8} {bytes:>9} {tokens:>9}",
                fit(name, 20),
                thousands(entered.documents),
                thousands(dropped.documents)
            );
            let bar = if bars { format!("  {}", bar(left.documents, whole)) } else { String::new() };
            text += &format!("{shown}{bar}\n");
        };
        line("read", self.read, Flow::default(), self.read);
        self.steps.iter().for_each(|step| line(&step.filter, step.entered, step.dropped, step.left()));
        line("kept", self.kept, Flow::default(), self.kept);
        text += &format!(
            "\n{:20} {:>13} {:>11} {:>8} {:>9} {:>9}  most by\n",
            "language", "documents in", "kept", "", "MB kept", "M tokens"
        );
        let mut order: Vec<_> = self.languages.iter().collect();
        order.sort_by(|(a, (_, x, _)), (b, (_, y, _))| (y.bytes, *a).cmp(&(x.bytes, *b)));
        for (language, (read, kept, steps)) in order {
            let most = steps.iter().max_by(|a, b| a.dropped.documents.cmp(&b.dropped.documents));
            let most = most.map_or("", |step| step.filter.as_str());
            text += &format!(
                "{:20} {:>13} {:>11} {:>8} {:>9} {:>9}  {}\n",
                fit(language, 20),
                thousands(read.documents),
                thousands(kept.documents),
                percent(kept.documents, read.documents),
                mega(kept.bytes),
                mega(kept.tokens_estimate),
                fit(most, 22)
            );
        }
        text + "Tokens are estimated from bytes. \"most by\": the filter that dropped the most documents.\n"
    }
}

/// A name cut to so many characters, harmless on a terminal.
fn fit(name: &str, most: usize) -> String {
    let clean = || name.chars().map(|c| if c.is_control() { ' ' } else { c });
    match clean().count() > most {
        true => clean().take(most - 1).chain(['…']).collect(),
        false => clean().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::facts;

    #[test]
    fn what_goes_in_comes_out_or_is_dropped() {
        let facts = facts(7);
        let funnel = Funnel::of(&facts);
        let names: Vec<&str> = funnel.steps.iter().map(|step| step.filter.as_str()).collect();
        assert_eq!(names, ["license", "rights", "gopher-quality", "somebody's", "dedup"]);
        assert_eq!(funnel.read.documents, facts.tally.sum(|key| key.rule == READ).documents);
        let mut entered = funnel.read;
        for step in &funnel.steps {
            assert_eq!(step.entered, entered);
            let rules = step.rules.values().fold(Flow::default(), |mut sum, flow| {
                sum.add(*flow);
                sum
            });
            assert_eq!(rules, step.dropped);
            entered = step.left();
        }
        assert_eq!(entered, funnel.kept);
        let mut sums = [Flow::default(); 2];
        for (read, kept, steps) in funnel.languages.values() {
            sums[0].add(*read);
            sums[1].add(*kept);
            assert_eq!(steps.last().unwrap().left(), *kept);
        }
        assert_eq!((sums[0].documents, sums[1]), (funnel.read.documents, funnel.kept));
        assert_eq!(Funnel::of(&Facts::default()).steps, []);
    }

    #[test]
    fn the_table_fits_a_terminal() {
        for languages in [0, 1, 40] {
            let table = Funnel::of(&facts(languages)).table(true);
            assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
            assert!(!Funnel::of(&facts(languages)).table(false).contains('█'));
        }
        assert_eq!((bar(0, 9), bar(9, 9), bar(1, 1_000_000)), (String::new(), "█".repeat(BAR), "▏".to_owned()));
        assert_eq!(bar(9, 0), "█".repeat(BAR));
    }
}
