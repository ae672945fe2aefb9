//! Links to Creative Commons in documents.

use super::Links;
use crate::document::Document;
use serde_json::Value;

/// Links of one document that are looked at, at most.
const LINKS_MAX: usize = 16;
const SITE: &str = "creativecommons.org/";

/// The SPDX identifier of a link to a Creative Commons licence: `https://creativecommons.org/licenses/by-sa/4.0/deed.fr` is
/// `CC-BY-SA-4.0`. `None` for other links, and for licences that SPDX does not know.
pub fn spdx_of(link: &str) -> Option<String> {
    let lower = link.to_ascii_lowercase();
    let mut parts = lower[lower.find(SITE)? + SITE.len()..].split(['/', '?', '#', ' ']);
    let (area, kind, version) = (parts.next()?, parts.next()?, parts.next()?);
    let port = parts.next().unwrap_or_default();
    let version = version.trim_end_matches(|c: char| !c.is_ascii_digit());
    let id = match (area, kind) {
        ("publicdomain", "zero") => format!("CC0-{version}"),
        ("publicdomain", "mark") => format!("CC-PDM-{version}"),
        ("licenses", "publicdomain") => "CC-PDDC".to_owned(),
        ("licenses", kind) => format!("CC-{}-{version}", kind.to_ascii_uppercase()),
        _ => return None,
    };
    // A national port where SPDX lists it, and what it is a port of where not.
    let ported = format!("{id}-{}", port.to_ascii_uppercase());
    [ported, id].into_iter().find(|id| spdx::license_id(id).is_some())
}

/// What the links of a document say, as an SPDX expression in which all must be met.
pub(super) fn of_document(document: &Document, links: Links) -> Option<String> {
    let mut found = Vec::new();
    let extra = document.meta.extra.as_deref().filter(|extra| extra.contains("\"license_links\""));
    let extra: Option<Value> = extra.and_then(|extra| serde_json::from_str(extra).ok());
    for link in extra.as_ref().and_then(|extra| extra["license_links"].as_array()).into_iter().flatten().take(LINKS_MAX)
    {
        if links == Links::Any || link["marked"] == true {
            found.extend(link["href"].as_str().and_then(spdx_of));
        }
    }
    if links == Links::Any {
        found.extend(of_text(&document.text));
    }
    found.sort();
    found.dedup();
    (!found.is_empty()).then(|| found.join(" AND "))
}

/// The licences that links in a text lead to.
fn of_text(text: &str) -> Vec<String> {
    let places = memchr::memmem::find_iter(text.as_bytes(), SITE.as_bytes()).take(LINKS_MAX);
    let link = |at: usize| {
        let end = text[at..].find(|c: char| c.is_whitespace() || "\"'<>)],".contains(c)).unwrap_or(text.len() - at);
        spdx_of(&text[at..at + end])
    };
    places.filter_map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_licences() {
        for (link, id) in [
            ("https://creativecommons.org/licenses/by/4.0/", Some("CC-BY-4.0")),
            ("http://creativecommons.org/licenses/by-sa/3.0/deed.fr", Some("CC-BY-SA-3.0")),
            ("//creativecommons.org/licenses/by-nc-nd/2.0", Some("CC-BY-NC-ND-2.0")),
            ("https://creativecommons.org/licenses/by/3.0/at/", Some("CC-BY-3.0-AT")),
            ("https://creativecommons.org/licenses/by-sa/2.0/fr/", Some("CC-BY-SA-2.0")),
            ("https://CreativeCommons.org/publicdomain/zero/1.0/legalcode", Some("CC0-1.0")),
            ("https://creativecommons.org/licenses/by/4.0.", Some("CC-BY-4.0")),
            ("https://creativecommons.org/licenses/by/9.9/", None),
            ("https://creativecommons.org/licenses/", None),
            ("https://creativecommons.org/about", None),
            ("https://example.org/licenses/by/4.0", None),
        ] {
            assert_eq!(spdx_of(link).as_deref(), id, "{link}");
        }
        let text =
            "Sous (https://creativecommons.org/licenses/by/4.0/), et <creativecommons.org/licenses/by-nc/2.0> ici.";
        assert_eq!(of_text(text), ["CC-BY-4.0", "CC-BY-NC-2.0"]);
    }
}
