//! From HTML to its main text, by `dom_smoothie`, a port of Mozilla's Readability.

use super::bounds;
use crate::document::Tdm;
use crate::readers::guard::guarded;
use dom_smoothie::{Config, Readability, ReadabilityError, TextMode};
use serde_json::{Map, Value, json};

/// Elements of the tree at most.
const ELEMENTS_MAX: usize = 100_000;
/// Links to licences that are kept of one page at most.
const LINKS_MAX: usize = 16;
/// One link at most, bytes.
const LINK_MAX: usize = 512;

/// What a page holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The main text, a blank line between paragraphs; empty where none was found.
    pub(super) text: String,
    pub(super) title: Option<String>,
    pub(super) author: Option<String>,
    /// `<meta name="tdm-reservation">` (TDMRep, 4.3).
    pub(super) tdm: Option<Tdm>,
    /// `html_lang`, `published` and `license_links`, where the page has them.
    pub(super) extra: Map<String, Value>,
}

/// Reads a page.
///
/// # Errors
/// Why it cannot be parsed: too deep or large, or the library panics on it.
pub(super) fn page(html: &str) -> Result<Page, String> {
    bounds::check(html)?;
    guarded(|| parse(html)).unwrap_or_else(|panic| Err(format!("HTML that its parser fails on ({panic})")))
}

fn parse(html: &str) -> Result<Page, String> {
    let config = Config {
        max_elements_to_parse: ELEMENTS_MAX,
        text_mode: TextMode::Formatted,
        disable_json_ld: true,
        ..Config::default()
    };
    let mut reader = Readability::new(html, None, Some(config)).map_err(|error| error.to_string())?;
    let mut page = Page { tdm: tdm(&reader), ..Page::default() };
    let links = links(&reader);
    if !links.is_empty() {
        page.extra.insert("license_links".into(), Value::Array(links));
    }
    let article = match reader.parse() {
        Ok(article) => article,
        Err(ReadabilityError::GrabFailed) => return Ok(page),
        Err(error) => return Err(format!("HTML that is not read: {error}")),
    };
    page.text = article.text_content.trim().to_owned();
    page.title = Some(article.title.trim().to_owned()).filter(|title| !title.is_empty());
    page.author = article.byline.map(|byline| byline.trim().to_owned()).filter(|byline| !byline.is_empty());
    for (key, value) in [("html_lang", article.lang), ("published", article.published_time)] {
        if let Some(value) = value.filter(|value| !value.is_empty() && value.len() <= 64) {
            page.extra.insert(key.into(), value.into());
        }
    }
    Ok(page)
}

fn tdm(reader: &Readability) -> Option<Tdm> {
    let meta = |name: &str| {
        let found = reader.doc.select(&format!("meta[name='{name}' i]"));
        found.attr("content").map(|value| value.trim().to_owned())
    };
    let reservation = meta("tdm-reservation")?;
    let policy = meta("tdm-policy").filter(|policy| !policy.is_empty() && policy.len() <= LINK_MAX);
    Some(Tdm { reserved: reservation == "1", policy })
}

/// Links that name a licence, the ones marked as such (`rel="license"`) first.
fn links(reader: &Readability) -> Vec<Value> {
    let mut found = Vec::new();
    for (marked, selector) in [
        (true, "a[rel~='license' i][href], link[rel~='license' i][href], area[rel~='license' i][href]"),
        (false, "a[href*='creativecommons.org/']"),
    ] {
        for node in reader.doc.select(selector).nodes() {
            let Some(href) = node.attr("href") else { continue };
            let href = href.trim();
            let known = |link: &Value| link["href"] == href;
            if found.len() < LINKS_MAX && href.len() <= LINK_MAX && !found.iter().any(known) {
                found.push(json!({"href": href, "marked": marked}));
            }
        }
    }
    found
}
