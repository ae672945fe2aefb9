//! What is known of licences: their names on the Hub, where their texts are, and what they ask for in a line.

use std::collections::BTreeSet;

/// A licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct License {
    /// SPDX identifier.
    pub spdx: &'static str,
    /// Its identifier on the Hub, where it has one (huggingface.co/docs/hub/repositories-licenses).
    pub hub: Option<&'static str>,
    /// Its text.
    pub url: &'static str,
    /// What it asks for, in a line. No legal advice.
    pub conditions: &'static str,
}

const CREDIT: &str = "Credit the authors, link the licence, say what was changed.";
const SHARE: &str = "Credit the authors, link the licence, say what was changed; adaptations under the same licence.";
const NOTICES: &str = "Keep the copyright notices and the licence's text.";
const COPYLEFT: &str =
    "Keep the notices and the licence's text; changed versions under the same licence, with their source.";
const FREE: &str = "No conditions.";

const fn license(
    spdx: &'static str,
    hub: Option<&'static str>,
    url: &'static str,
    conditions: &'static str,
) -> License {
    License { spdx, hub, url, conditions }
}

/// The licences that are known here; others are named by their SPDX expression alone.
pub const KNOWN: [License; 30] = [
    license(
        "Apache-2.0",
        Some("apache-2.0"),
        "https://www.apache.org/licenses/LICENSE-2.0",
        "Keep the notices (NOTICE), the licence's text, and mark changed files.",
    ),
    license("BSD-2-Clause", Some("bsd-2-clause"), "https://spdx.org/licenses/BSD-2-Clause.html", NOTICES),
    license(
        "BSD-3-Clause",
        Some("bsd-3-clause"),
        "https://spdx.org/licenses/BSD-3-Clause.html",
        "Keep the notices and the licence's text; no endorsement in the authors' names.",
    ),
    license(
        "BSD-4-Clause-UC",
        None,
        "https://spdx.org/licenses/BSD-4-Clause-UC.html",
        "Keep the notices and the licence's text; no endorsement in the authors' names.",
    ),
    license("CC-BY-2.0", Some("cc-by-2.0"), "https://creativecommons.org/licenses/by/2.0/", CREDIT),
    license("CC-BY-2.5", Some("cc-by-2.5"), "https://creativecommons.org/licenses/by/2.5/", CREDIT),
    license("CC-BY-3.0", Some("cc-by-3.0"), "https://creativecommons.org/licenses/by/3.0/", CREDIT),
    license("CC-BY-4.0", Some("cc-by-4.0"), "https://creativecommons.org/licenses/by/4.0/", CREDIT),
    license(
        "CC-BY-NC-4.0",
        Some("cc-by-nc-4.0"),
        "https://creativecommons.org/licenses/by-nc/4.0/",
        "Credit the authors; no commercial use.",
    ),
    license(
        "CC-BY-NC-SA-4.0",
        Some("cc-by-nc-sa-4.0"),
        "https://creativecommons.org/licenses/by-nc-sa/4.0/",
        "Credit the authors; no commercial use; adaptations under the same licence.",
    ),
    license("CC-BY-SA-3.0", Some("cc-by-sa-3.0"), "https://creativecommons.org/licenses/by-sa/3.0/", SHARE),
    license("CC-BY-SA-4.0", Some("cc-by-sa-4.0"), "https://creativecommons.org/licenses/by-sa/4.0/", SHARE),
    license("CC0-1.0", Some("cc0-1.0"), "https://creativecommons.org/publicdomain/zero/1.0/", FREE),
    license(
        "GFDL-1.2-no-invariants-or-later",
        None,
        "https://www.gnu.org/licenses/old-licenses/fdl-1.2.html",
        COPYLEFT,
    ),
    license("GFDL-1.2-or-later", None, "https://www.gnu.org/licenses/old-licenses/fdl-1.2.html", COPYLEFT),
    license("GFDL-1.3-or-later", None, "https://www.gnu.org/licenses/fdl-1.3.html", COPYLEFT),
    license("GPL-1.0-or-later", None, "https://www.gnu.org/licenses/old-licenses/gpl-1.0.html", COPYLEFT),
    license("GPL-2.0-only", Some("gpl-2.0"), "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html", COPYLEFT),
    license("GPL-2.0-or-later", Some("gpl-2.0"), "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html", COPYLEFT),
    license("GPL-3.0-only", Some("gpl-3.0"), "https://www.gnu.org/licenses/gpl-3.0.html", COPYLEFT),
    license("GPL-3.0-or-later", Some("gpl-3.0"), "https://www.gnu.org/licenses/gpl-3.0.html", COPYLEFT),
    license(
        "LicenseRef-Public-Domain",
        None,
        "https://creativecommons.org/publicdomain/mark/1.0/",
        "No conditions; authors' moral rights stay where the law knows them.",
    ),
    license(
        "Linux-man-pages-copyleft",
        None,
        "https://spdx.org/licenses/Linux-man-pages-copyleft.html",
        "Keep the notices; changed versions carry the same permission notice.",
    ),
    license("MIT", Some("mit"), "https://spdx.org/licenses/MIT.html", NOTICES),
    license(
        "MPL-2.0",
        Some("mpl-2.0"),
        "https://www.mozilla.org/MPL/2.0/",
        "Say that the source is under this licence and where it is; changed files stay under it.",
    ),
    license(
        "ODC-By-1.0",
        Some("odc-by"),
        "https://opendatacommons.org/licenses/by/1-0/",
        "Credit the database; keep its notices.",
    ),
    license(
        "ODbL-1.0",
        Some("odbl"),
        "https://opendatacommons.org/licenses/odbl/1-0/",
        "Credit the database; databases made from it under the same licence.",
    ),
    license("PDDL-1.0", Some("pddl"), "https://opendatacommons.org/licenses/pddl/1-0/", FREE),
    license(
        "etalab-2.0",
        Some("etalab-2.0"),
        "https://www.etalab.gouv.fr/licence-ouverte-open-licence/",
        "Name the producer and the date of the last update.",
    ),
    license("Unlicense", Some("unlicense"), "https://unlicense.org/", FREE),
];

/// A licence by its SPDX identifier, whatever its case.
pub fn find(spdx: &str) -> Option<&'static License> {
    KNOWN.iter().find(|license| license.spdx.eq_ignore_ascii_case(spdx))
}

/// The identifiers in an SPDX expression, in order, each once: those joined by AND and OR, those after WITH left out.
pub fn identifiers(expression: &str) -> Vec<&str> {
    let (mut found, mut skip) = (Vec::new(), false);
    for word in expression.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')')).filter(|word| !word.is_empty())
    {
        match word {
            "AND" | "OR" => {}
            "WITH" => skip = true,
            _ if skip => skip = false,
            word if !found.contains(&word) => found.push(word),
            _ => {}
        }
    }
    found
}

/// What the Hub's card says of the licences of a data set: `license`, and for others `license_name`.
pub fn hub(expressions: &BTreeSet<&str>) -> (String, Option<String>) {
    match expressions.iter().copied().collect::<Vec<_>>().as_slice() {
        [] => ("unknown".into(), None),
        [one] => match find(one).and_then(|license| license.hub) {
            Some(hub) => (hub.into(), None),
            // The Hub takes names of lower case, digits, dots and dashes.
            None => ("other".into(), Some(name(one))),
        },
        _ => ("other".into(), Some("mixed-per-document".into())),
    }
}

fn name(expression: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = expression.chars().take(80).map(safe).collect();
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => "unnamed".into(),
        false => parts.join("-"),
    }
}

/// The address of an expression's text: of its only licence. Croissant wants a URL.
pub fn url(expression: &str) -> String {
    match identifiers(expression).as_slice() {
        [one] => match find(one) {
            Some(license) => license.url.to_owned(),
            None if one.starts_with("LicenseRef-") || *one == "NOASSERTION" => (*one).to_owned(),
            None => format!("https://spdx.org/licenses/{one}.html"),
        },
        _ => expression.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_taken_apart() {
        assert_eq!(identifiers("(MIT OR GPL-2.0-only WITH Classpath-exception-2.0) AND MIT"), ["MIT", "GPL-2.0-only"]);
        assert_eq!(hub(&["CC-BY-SA-4.0"].into()), ("cc-by-sa-4.0".into(), None));
        assert_eq!(hub(&["A OR (B)"].into()), ("other".into(), Some("a-or-b".into())));
        assert_eq!(hub(&["MIT", "CC0-1.0"].into()), ("other".into(), Some("mixed-per-document".into())));
        assert_eq!(url("cc0-1.0"), "https://creativecommons.org/publicdomain/zero/1.0/");
        assert_eq!(url("ISC"), "https://spdx.org/licenses/ISC.html");
        assert!(KNOWN.iter().all(|license| license.url.starts_with("https://")));
    }
}
