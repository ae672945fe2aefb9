//! `ATTRIBUTIONS.md`: sources, licences, authors, and what each licence asks for.

use super::licenses::{find, identifiers, url};
use super::markdown::{escape, table, thousands};
use super::statistics::{kept_by_license, largest_first, licenses_of};
use crate::facts::Facts;
use crate::tally::{Count, KEPT};
use std::collections::BTreeMap;

/// Authors named for a source and licence; the rest are in the column `author` of the parts.
const SHOWN: usize = 100;

/// The file.
pub fn attributions(facts: &Facts) -> String {
    let mut text = format!(
        "# Attributions of {}\n\nThis data set is made of documents by others. Each keeps its licence, named in `extra.license` of its row; \
         the collection claims no rights of its own. What follows are hints, not legal advice.\n\n## Licences\n\n",
        escape(&facts.name)
    );
    let counts = kept_by_license(facts);
    text += &table(
        &["licence", "#documents", "#bytes", "conditions", "text"],
        largest_first(&counts).into_iter().map(|(expression, count)| {
            vec![
                escape(expression),
                thousands(count.documents),
                thousands(count.bytes),
                conditions(expression),
                links(expression),
            ]
        }),
    );
    text += "\n## Sources\n";
    let mut sources = BTreeMap::<&str, Count>::new();
    for (key, count) in facts.tally.rows().filter(|(key, _)| key.rule == KEPT) {
        sources.entry(&key.source).or_default().add(count);
    }
    for (source, count) in sources {
        let Count { documents, bytes } = count;
        text += &format!(
            "\n### {}\n\n{} documents, {} bytes of text",
            escape(source),
            thousands(documents),
            thousands(bytes)
        );
        if let Some((first, last)) = facts.years.get(source) {
            text += &match first == last {
                true => format!(", of {first}"),
                false => format!(", of {first} to {last}"),
            };
        }
        text += ".\n";
        for license in licenses_of(facts, source, None) {
            text += &format!("\n- **{}**: {}\n", escape(license), authors(facts, source, license));
        }
    }
    text
}

/// What the licences of an expression ask for.
pub fn conditions(expression: &str) -> String {
    let known = |id: &str| match find(id) {
        Some(license) => license.conditions.to_owned(),
        None if id == "NOASSERTION" => "Not known: ask the source.".into(),
        None => "See its text.".into(),
    };
    match identifiers(expression).as_slice() {
        [one] => known(one),
        ids => ids.iter().map(|id| format!("{}: {}", escape(id), known(id))).collect::<Vec<_>>().join(" "),
    }
}

fn links(expression: &str) -> String {
    let link = |id: &&str| {
        let url = url(id);
        url.starts_with("https://")
            .then(|| format!("[{}]({})", escape(id), url.replace(['(', ')', ' ', '|', '<', '>'], "")))
    };
    identifiers(expression).iter().filter_map(link).collect::<Vec<_>>().join(", ")
}

fn authors(facts: &Facts, source: &str, license: &str) -> String {
    let credit = facts.credits.rows().find(|credit| credit.source == source && credit.license == license);
    let Some(credit) = credit.filter(|credit| !credit.authors.is_empty()) else {
        return "authors are not named by the source".into();
    };
    let names: Vec<String> = credit.authors.iter().take(SHOWN).map(|name| escape(name)).collect();
    let more = credit.more || credit.authors.len() > SHOWN;
    let more = if more { ", and others, named in the column `author`" } else { "" };
    let anonymous = match credit.anonymous {
        0 => String::new(),
        count => format!("; {} of {} documents name no author", thousands(count), thousands(credit.documents)),
    };
    format!("{}{more}{anonymous}", names.join(" · "))
}
