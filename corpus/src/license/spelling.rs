//! How people write licences, as SPDX.

use super::links;
use spdx::{Expression, ParseMode};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// An expression at most, bytes.
const LEN_MAX: usize = 1024;
/// Names that are neither identifiers nor full names of SPDX, squeezed, with what they mean. A GNU licence of which nothing is said
/// of later versions is that version only.
const ALIASES: [(&str, &str); 44] = [
    ("cc0", "CC0-1.0"),
    ("cc01.0universal", "CC0-1.0"),
    ("cczero", "CC0-1.0"),
    ("publicdomain", "LicenseRef-Public-Domain"),
    ("pd", "LicenseRef-Public-Domain"),
    ("domainepublic", "LicenseRef-Public-Domain"),
    ("publicdomainmark1.0", "CC-PDM-1.0"),
    ("gpl1", "GPL-1.0-only"),
    ("gpl1+", "GPL-1.0-or-later"),
    ("gpl2", "GPL-2.0-only"),
    ("gpl2+", "GPL-2.0-or-later"),
    ("gpl3", "GPL-3.0-only"),
    ("gpl3+", "GPL-3.0-or-later"),
    ("gnugpl2", "GPL-2.0-only"),
    ("gnugpl3", "GPL-3.0-only"),
    ("lgpl2", "LGPL-2.0-only"),
    ("lgpl2+", "LGPL-2.0-or-later"),
    ("lgpl3", "LGPL-3.0-only"),
    ("lgpl3+", "LGPL-3.0-or-later"),
    ("agpl3", "AGPL-3.0-only"),
    ("agpl3+", "AGPL-3.0-or-later"),
    ("apache", "Apache-2.0"),
    ("apache2", "Apache-2.0"),
    ("asl2.0", "Apache-2.0"),
    ("mpl2", "MPL-2.0"),
    ("expat", "MIT"),
    ("bsd2", "BSD-2-Clause"),
    ("bsd3", "BSD-3-Clause"),
    ("newbsd", "BSD-3-Clause"),
    ("simplifiedbsd", "BSD-2-Clause"),
    ("odcby", "ODC-By-1.0"),
    ("odbl", "ODbL-1.0"),
    ("pddl", "PDDL-1.0"),
    ("etalab", "etalab-2.0"),
    ("etalabopen2.0", "etalab-2.0"),
    ("licenceouverte2.0", "etalab-2.0"),
    ("licenceouverteopenlicence2.0", "etalab-2.0"),
    ("ouverte2.0", "etalab-2.0"),
    ("ouverteopen2.0", "etalab-2.0"),
    ("lo2.0", "etalab-2.0"),
    ("gfdl", "GFDL-1.1-or-later"),
    ("artistic2", "Artistic-2.0"),
    ("boost1.0", "BSL-1.0"),
    ("zlib/libpng", "Zlib"),
];
/// Other addresses of licences, without scheme and `www.`, in lower case.
const ADDRESSES: [(&str, &str); 12] = [
    ("apache.org/licenses/license-2.0", "Apache-2.0"),
    ("opensource.org/licenses/mit", "MIT"),
    ("opensource.org/license/mit", "MIT"),
    ("mozilla.org/mpl/2.0", "MPL-2.0"),
    ("mozilla.org/en-us/mpl/2.0", "MPL-2.0"),
    ("gnu.org/licenses/gpl-2.0", "GPL-2.0-only"),
    ("gnu.org/licenses/gpl-3.0", "GPL-3.0-only"),
    ("gnu.org/licenses/agpl-3.0", "AGPL-3.0-only"),
    ("opendatacommons.org/licenses/by/1", "ODC-By-1.0"),
    ("opendatacommons.org/licenses/odbl/1", "ODbL-1.0"),
    ("opendatacommons.org/licenses/pddl/1", "PDDL-1.0"),
    ("etalab.gouv.fr/licence-ouverte-open-licence", "etalab-2.0"),
];

/// Reads an SPDX expression, or the way people write one: `cc-by-4.0`, `CC BY-SA 4.0`, `Apache License, Version 2.0`, `GPL v2 or later`,
/// `https://creativecommons.org/licenses/by/4.0/`. `None` where that is not certain.
pub fn expression(text: &str) -> Option<Expression> {
    let text = text.trim();
    if text.is_empty() || text.len() > LEN_MAX {
        return None;
    }
    let mode = ParseMode { allow_deprecated: true, allow_postfix_plus_on_gpl: true, ..ParseMode::STRICT };
    let parse = |text: &str| Expression::parse_mode(text, mode).ok();
    Expression::parse(text).ok().or_else(|| parse(&spelled(text)?))
}

/// The expression with each name in it as SPDX has it.
fn spelled(text: &str) -> Option<String> {
    if let Some(id) = name(text) {
        return Some(id);
    }
    let mut out: Vec<String> = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut left = spaced.split_whitespace().peekable();
    let flush = |words: &mut Vec<&str>, out: &mut Vec<String>| -> Option<()> {
        if !words.is_empty() {
            out.push(name(&words.join(" "))?);
            words.clear();
        }
        Some(())
    };
    while let Some(word) = left.next() {
        let later = |next: &&str| ["later", "newer", "later)", "above"].contains(&next.to_ascii_lowercase().as_str());
        match word.to_ascii_uppercase().as_str() {
            "OR" if left.peek().is_some_and(later) => {
                words.push("+");
                left.next();
            }
            operator @ ("AND" | "OR" | "WITH" | "(" | ")") => {
                flush(&mut words, &mut out)?;
                out.push(operator.to_owned());
            }
            _ if out.last().is_some_and(|last| last == "WITH") => out.push(word.to_owned()),
            _ => words.push(word),
        }
    }
    flush(&mut words, &mut out)?;
    Some(out.join(" "))
}

/// The identifier of one licence.
fn name(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['<', '>', '"', '\'']);
    if text.starts_with("LicenseRef-") || text.starts_with("DocumentRef-") {
        return Some(text.to_owned());
    }
    if text.contains("://") || text.starts_with("www.") || text.starts_with("creativecommons.org") {
        return address(text);
    }
    let squeezed = squeeze(text);
    ALIASES.iter().find(|(alias, _)| *alias == squeezed).map(|(_, id)| (*id).to_owned()).or_else(|| {
        let id = table().get(&squeezed).copied();
        id.or_else(|| table().get(&squeezed.strip_prefix("gnu")?.to_owned()).copied()).map(modern)
    })
}

/// The names that GNU licences have had since SPDX 3.0 of the list: `GPL-2.0+` is `GPL-2.0-or-later`, `GPL-2.0` is `GPL-2.0-only`.
fn modern(id: &str) -> String {
    let only = format!("{id}-only");
    match id.strip_suffix('+') {
        Some(id) => format!("{id}-or-later"),
        None if spdx::license_id(&only).is_some() => only,
        None => id.to_owned(),
    }
}

fn address(text: &str) -> Option<String> {
    if let Some(id) = links::spdx_of(text) {
        return Some(id);
    }
    let lower = text.to_ascii_lowercase();
    let bare = lower.split_once("://").map_or(lower.as_str(), |(_, bare)| bare);
    let bare = bare.strip_prefix("www.").unwrap_or(bare);
    if let Some(id) = bare.strip_prefix("spdx.org/licenses/") {
        return table().get(&squeeze(id.trim_end_matches('/').trim_end_matches(".html"))).map(|id| (*id).to_owned());
    }
    ADDRESSES.iter().find(|(start, _)| bare.starts_with(start)).map(|(_, id)| (*id).to_owned())
}

/// Identifiers and full names of SPDX, squeezed. Identifiers win over names.
fn table() -> &'static BTreeMap<String, &'static str> {
    static TABLE: OnceLock<BTreeMap<String, &'static str>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = BTreeMap::new();
        let is_old = |name: &str| spdx::license_id(name).is_some_and(|id| id.is_deprecated());
        for old in [false, true] {
            for license in spdx::identifiers::LICENSES.iter().filter(|license| is_old(license.name) == old) {
                table.entry(squeeze(license.full_name)).or_insert(license.name);
            }
        }
        for license in spdx::identifiers::LICENSES {
            table.insert(squeeze(license.name), license.name);
        }
        table
    })
}

/// A name without case, spaces, dashes, the words that say nothing, and the `v` of versions. Dots between digits stay.
fn squeeze(name: &str) -> String {
    let mut out = String::new();
    let lower = name.to_lowercase();
    for word in lower.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '+' | '/'))) {
        if !["the", "license", "licence", "version", "international", "unported", "v"].contains(&word) {
            out.push_str(word.trim_matches('.'));
        }
    }
    let chars: Vec<char> = out.chars().collect();
    let is_version_mark = |at: usize| chars[at] == 'v' && chars.get(at + 1).is_some_and(char::is_ascii_digit);
    (0..chars.len()).filter(|&at| !is_version_mark(at)).map(|at| chars[at]).collect()
}
