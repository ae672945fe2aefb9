//! The plots of a data set.

use super::{BarRow, Bars, COLOURS, Histogram, Panel, percent, short};
use crate::facts::{Facts, MixFacts};
use crate::funnel::Funnel;
use crate::publish::statistics::{kept_by_language, kept_by_source, largest_first};
use crate::tally::KEPT;
use std::collections::BTreeMap;

/// Rows of a plot at most; what is more is summed in a last one.
const ROWS_MAX: usize = 40;

/// All plots, by name without `.svg`.
pub fn plots(facts: &Facts) -> Vec<(&'static str, String)> {
    vec![
        ("funnel", funnel(facts)),
        ("languages", languages(facts)),
        ("licenses", licenses(facts)),
        ("lengths", lengths(facts)),
        ("clusters", clusters(facts)),
        ("mixes", mixes(facts)),
    ]
}

fn funnel(facts: &Facts) -> String {
    let funnel = Funnel::of(facts);
    let read = funnel.read.documents;
    let first = BarRow { name: "read".into(), values: vec![read, 0], note: format!("{} documents", short(read)) };
    let step = |step: &crate::funnel::Step| BarRow {
        name: step.filter.clone(),
        values: vec![step.left().documents, step.dropped.documents],
        note: format!(
            "−{} ({})",
            short(step.dropped.documents),
            percent(step.dropped.documents, step.entered.documents)
        ),
    };
    let kept = funnel.kept.documents;
    let last = BarRow {
        name: "kept".into(),
        values: vec![kept, 0],
        note: format!("{} ({})", short(kept), percent(kept, read)),
    };
    Bars {
        title: "Documents after each filter".into(),
        description: format!(
            "Of {read} documents read, {kept} were kept. {}.",
            funnel
                .steps
                .iter()
                .map(|step| format!("{} dropped {}", step.filter, step.dropped.documents))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        series: vec!["goes on".into(), "dropped".into()],
        last_is_rest: true,
        rows: [first].into_iter().chain(funnel.steps.iter().map(step)).chain([last]).collect(),
        shares: false,
    }
    .draw()
}

/// A row's name, and its value in each series.
type Row = (String, Vec<u64>);

/// Values by row and series: rows and series with the most first, small ones together.
fn stacked(cells: &[(String, String, u64)]) -> (Vec<String>, Vec<Row>, bool) {
    let order = |pick: fn(&(String, String, u64)) -> &String, most: usize| {
        let mut sums = BTreeMap::<&String, u64>::new();
        cells.iter().for_each(|cell| *sums.entry(pick(cell)).or_default() += cell.2);
        let mut sums: Vec<(&String, u64)> = sums.into_iter().collect();
        sums.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
        let shown = if sums.len() > most { most - 1 } else { sums.len() };
        let mut names: Vec<String> = sums[..shown].iter().map(|(name, _)| (*name).clone()).collect();
        if sums.len() > shown {
            names.push(format!("{} others", sums.len() - shown));
        }
        (names, sums.len() > shown)
    };
    let (rows, _) = order(|cell| &cell.0, ROWS_MAX);
    let (series, rest) = order(|cell| &cell.1, COLOURS.len() + 1);
    let find = |names: &[String], name: &String| {
        names.iter().position(|other| other == name).unwrap_or(names.len().saturating_sub(1))
    };
    let mut table: Vec<(String, Vec<u64>)> = rows.iter().map(|name| (name.clone(), vec![0; series.len()])).collect();
    for (row, column, value) in cells {
        table[find(&rows, row)].1[find(&series, column)] += value;
    }
    (series, table, rest)
}

fn bars(title: &str, description: String, cells: &[(String, String, u64)], unit: &str, shares: bool) -> String {
    let (series, table, last_is_rest) = stacked(cells);
    let total: u64 = cells.iter().map(|cell| cell.2).sum();
    let row = |(name, values): (String, Vec<u64>)| {
        let sum: u64 = values.iter().sum();
        let note = match shares {
            true => format!("{}{unit}", short(sum)),
            false => format!("{}{unit} ({})", short(sum), percent(sum, total)),
        };
        BarRow { name, values, note }
    };
    let rows = table.into_iter().map(row).collect();
    Bars { title: title.into(), description, series, last_is_rest, rows, shares }.draw()
}

/// What counts hold, as a sentence: the first ten of them.
fn sentence(rows: &[(&str, u64)]) -> String {
    let total: u64 = rows.iter().map(|(_, value)| value).sum();
    let shown: Vec<String> =
        rows.iter().take(10).map(|(name, value)| format!("{name} {}", percent(*value, total))).collect();
    let more = if rows.len() > 10 { format!(" and {} others", rows.len() - 10) } else { String::new() };
    format!("{}{more}.", shown.join(", "))
}

fn languages(facts: &Facts) -> String {
    let rows = facts.tally.rows().filter(|(key, _)| key.rule == KEPT);
    let cells: Vec<_> = rows.map(|(key, count)| (key.language.clone(), key.source.clone(), count.bytes)).collect();
    let counts = kept_by_language(facts);
    let shares: Vec<(&str, u64)> = largest_first(&counts).iter().map(|(name, count)| (*name, count.bytes)).collect();
    let description = format!("Kept text by language and source. {}", sentence(&shares));
    bars("Kept text by language and source, bytes", description, &cells, "B", false)
}

fn licenses(facts: &Facts) -> String {
    let cells: Vec<_> = facts.licenses.iter().map(|row| (row.license.clone(), row.source.clone(), row.bytes)).collect();
    let counts = kept_by_source(facts);
    let description = format!("Kept text by licence; {} sources.", counts.len());
    bars("Kept text by licence and source, bytes", description, &cells, "B", false)
}

fn mixes(facts: &Facts) -> String {
    let of = |mix: &MixFacts| -> Vec<(String, String, u64)> {
        mix.parts.iter().map(|part| (mix.name.clone(), part.language.clone(), part.tokens)).collect()
    };
    let cells: Vec<_> = facts.mixes.iter().flat_map(of).collect();
    let mut sums = BTreeMap::<&str, u64>::new();
    cells.iter().for_each(|(_, language, tokens)| *sums.entry(language).or_default() += tokens);
    let mut shares: Vec<(&str, u64)> = sums.into_iter().collect();
    shares.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    let description = format!("Shares of languages in the tokens of each mix. {}", sentence(&shares));
    bars("Languages in each mix, shares of tokens", description, &cells, " tokens", true)
}

fn lengths(facts: &Facts) -> String {
    let counts = kept_by_language(facts);
    let mut order: Vec<&str> = largest_first(&counts).into_iter().map(|(name, _)| name).collect();
    order.extend(facts.lengths.keys().map(String::as_str).filter(|name| !counts.contains_key(*name)));
    let panel = |name: &&str| {
        let counts = facts.lengths.get(*name)?.clone();
        Some(Panel { name: (*name).to_owned(), counts })
    };
    let mut panels: Vec<Panel> = order.iter().filter_map(panel).collect();
    if panels.len() > ROWS_MAX + 2 {
        let rest = panels.split_off(ROWS_MAX + 1);
        let mut all = Panel { name: format!("{} others", rest.len()), counts: Vec::new() };
        for panel in rest {
            all.counts.resize(all.counts.len().max(panel.counts.len()), 0);
            all.counts.iter_mut().zip(&panel.counts).for_each(|(sum, count)| *sum += count);
        }
        panels.push(all);
    }
    let description = format!("Histograms of the lengths of kept documents, for {} languages.", panels.len());
    Histogram { title: "Length of kept documents, bytes of text".into(), description, panels }.draw()
}

fn clusters(facts: &Facts) -> String {
    // Sizes by powers of two: 1, 2, 3–4, 5–8, …
    let mut classes = BTreeMap::<u32, (u64, u64)>::new();
    for (&size, &count) in &facts.clusters {
        let class = classes.entry(64 - size.max(1).saturating_sub(1).leading_zeros()).or_default();
        class.0 += count;
        class.1 += count.saturating_mul(size);
    }
    let name = |class: u32| match class {
        0 => "1 (no duplicate)".to_owned(),
        1 => "2".to_owned(),
        class => {
            format!("{}–{}", (1_u64 << (class - 1).min(62)) + 1, 1_u64.checked_shl(class).unwrap_or(u64::MAX))
        }
    };
    let rows = classes.iter().map(|(&class, &(clusters, documents))| BarRow {
        name: name(class),
        values: vec![documents],
        note: format!("{} documents, {} kept", short(documents), short(clusters)),
    });
    let (kept, all) = classes.values().fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
    Bars {
        title: "Near-duplicates: documents by the size of their cluster".into(),
        description: format!("Of {all} documents in clusters of near-duplicates, one of each, {kept}, is kept."),
        series: vec!["documents".into()],
        rows: rows.collect(),
        ..Bars::default()
    }
    .draw()
}
