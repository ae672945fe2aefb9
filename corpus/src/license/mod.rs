//! Which licence a document is under, and whether that is one of those that a run takes.
//!
//! Licences are SPDX expressions (SPDX 3.0, annex B). An expression is taken when it can be met from the allow-list: of `A OR B` one
//! suffices, of `A AND B` both are needed; `WITH` adds permissions and is met by the licence alone.

mod family;
pub mod links;
pub mod spelling;

use crate::config::ConfigError;
use crate::document::Document;
use crate::readers::NO_LICENSE;
use crate::verdict::Rejection;
use family::Family;
use serde::{Deserialize, Serialize};
use spdx::Expression;

/// Where a licence is looked for, and where one was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LicenseFrom {
    /// The document says it: a column, or `license` within its `extra`.
    Column,
    /// The source says it for all its documents.
    Source,
    /// A link to Creative Commons in the document.
    Link,
}

impl LicenseFrom {
    /// Its name in settings and published files.
    pub fn name(self) -> &'static str {
        match self {
            LicenseFrom::Column => "column",
            LicenseFrom::Source => "source",
            LicenseFrom::Link => "link",
        }
    }
}

/// Which links count as a statement about the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Links {
    /// Those marked `rel="license"`.
    Marked,
    /// All in the page or the text. A page often names the licence of one picture.
    Any,
}

/// `[license]`: which licences a run takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LicenseConfig {
    /// Licences that are taken, each one SPDX identifier (no operators) or `LicenseRef-…`. `NOASSERTION` takes documents of which no
    /// licence is known.
    ///
    /// Default: licences that let anybody use, change and share the text for any purpose (the Open Definition 2.1, the OSI's and the
    /// FSF's lists, the Debian guidelines), so that a model and its data set can be given on: public domain and its like,
    /// attribution, share-alike and copyleft. A version that is `-or-later` stands for all later ones, a Creative Commons licence
    /// also for its national ports. Not in it: non-commercial and no-derivatives, which forbid uses of the model or the data set's
    /// changed text; and the GFDL unless it says `no-invariants`, since invariant sections may not be changed.
    pub allow: Vec<String>,
    /// Where a licence is looked for, the first that has one decides. A place left out is not looked at.
    pub order: Vec<LicenseFrom>,
    /// Which links count. Where those that count name several licences, all of them must be allowed.
    pub links: Links,
}

/// The default of [`LicenseConfig::allow`].
pub const OPEN: [&str; 58] = [
    "0BSD",
    "AFL-3.0",
    "AGPL-3.0-or-later",
    "Apache-1.1",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-2-Clause-Patent",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSD-4-Clause",
    "BSD-4-Clause-UC",
    "BSL-1.0",
    "CC-BY-1.0",
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-1.0",
    "CC-BY-SA-2.0",
    "CC-BY-SA-2.1-JP",
    "CC-BY-SA-2.5",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC-PDDC",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "CDLA-Sharing-1.0",
    "CECILL-2.1",
    "CECILL-B",
    "CECILL-C",
    "CC-PDM-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "FSFAP",
    "GFDL-1.1-no-invariants-or-later",
    "GPL-1.0-or-later",
    "ISC",
    "LGPL-2.0-or-later",
    "LicenseRef-Public-Domain",
    "Linux-man-pages-copyleft",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "NLOD-2.0",
    "ODC-By-1.0",
    "ODbL-1.0",
    "OGL-UK-3.0",
    "PDDL-1.0",
    "PSF-2.0",
    "Unlicense",
    "W3C",
    "Zlib",
    "etalab-2.0",
];

impl Default for LicenseConfig {
    fn default() -> Self {
        LicenseConfig {
            allow: OPEN.map(String::from).to_vec(),
            order: vec![LicenseFrom::Column, LicenseFrom::Source, LicenseFrom::Link],
            links: Links::Marked,
        }
    }
}

/// The licences that a run takes, ready to be asked.
#[derive(Debug, Clone)]
pub struct Licenses {
    allowed: Vec<Family>,
    /// Whether documents are taken of which no licence is known.
    unknown: bool,
    order: Vec<LicenseFrom>,
    links: Links,
}

impl Licenses {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for an entry that is not one licence.
    pub fn new(config: &LicenseConfig) -> Result<Licenses, ConfigError> {
        let mut allowed = Vec::new();
        for entry in &config.allow {
            if entry == NO_LICENSE {
                continue;
            }
            let expression = spelling::expression(entry);
            let one = expression.as_ref().and_then(|expression| {
                let mut requirements = expression.requirements();
                requirements.next().filter(|first| requirements.next().is_none() && first.req.addition.is_none())
            });
            let Some(one) = one else {
                let expected = "SPDX identifiers such as CC-BY-4.0 or LicenseRef-Mine, one an entry";
                return Err(ConfigError::Value { key: "license.allow", got: format!("{entry:?}"), expected });
            };
            allowed.push(Family::of(&one.req.license));
        }
        let unknown = config.allow.iter().any(|entry| entry == NO_LICENSE);
        Ok(Licenses { allowed, unknown, order: config.order.clone(), links: config.links })
    }

    /// Finds the document's licence, writes it into the document as SPDX, and says where it was, nowhere if none is known and that is
    /// taken; or refuses the document. `source` is what its source's settings say.
    ///
    /// # Errors
    /// `license/unknown`, `license/unparsable`, `license/non-commercial`, `license/no-derivatives` or `license/not-allowed`.
    pub fn decide(&self, document: &mut Document, source: Option<&str>) -> Result<Option<LicenseFrom>, Rejection> {
        for &from in &self.order {
            let found = match from {
                // Readers give a document its source's licence where it has none itself.
                LicenseFrom::Column => {
                    said(&document.license).filter(|license| Some(*license) != source.and_then(said))
                }
                LicenseFrom::Source => source.and_then(said),
                LicenseFrom::Link => None,
            };
            let found = match from {
                LicenseFrom::Link => links::of_document(document, self.links),
                _ => found.map(str::to_owned),
            };
            if let Some(found) = found {
                return self.judge(&found, document).map(|()| Some(from));
            }
        }
        document.license = NO_LICENSE.into();
        match self.unknown {
            true => Ok(None),
            false => Err(Rejection::new("license/unknown", "no column, source or link names one")),
        }
    }

    fn judge(&self, found: &str, document: &mut Document) -> Result<(), Rejection> {
        let Some(expression) = spelling::expression(found) else {
            let found: String = found.chars().take(100).collect();
            return Err(Rejection::new("license/unparsable", format!("{found:?} is not an SPDX expression")));
        };
        document.license = expression.to_string();
        let allowed = |item: &spdx::LicenseItem| {
            let wanted = Family::of(item);
            self.allowed.iter().any(|allowed| allowed.covers(&wanted))
        };
        if expression.evaluate(|requirement| allowed(&requirement.license)) {
            return Ok(());
        }
        Err(refusal(&expression, allowed))
    }

    /// Whether an expression can be met from the allow-list.
    pub fn allows(&self, expression: &str) -> bool {
        let mut document = Document {
            id: String::new(),
            source: String::new(),
            language: String::new(),
            license: String::new(),
            text: String::new(),
            meta: Default::default(),
        };
        self.judge(expression, &mut document).is_ok()
    }
}

fn refusal(expression: &Expression, allowed: impl Fn(&spdx::LicenseItem) -> bool) -> Rejection {
    let refused: Vec<String> = expression
        .requirements()
        .filter(|requirement| !allowed(&requirement.req.license))
        .map(|requirement| requirement.req.license.to_string())
        .collect();
    let any = |part: &str| refused.iter().any(|name| name.split('-').any(|piece| piece == part));
    let rule = match (any("NC"), any("ND")) {
        (true, _) => "license/non-commercial",
        (false, true) => "license/no-derivatives",
        (false, false) => "license/not-allowed",
    };
    Rejection::new(rule, format!("{expression}: {} not allowed", refused.join(", ")))
}

/// A licence that says something.
fn said(license: &str) -> Option<&str> {
    let license = license.trim();
    let nothing = ["", "NOASSERTION", "NONE", "UNKNOWN", "OTHER", "N/A", "NULL"];
    (!nothing.iter().any(|nothing| license.eq_ignore_ascii_case(nothing))).then_some(license)
}

#[cfg(test)]
mod tests;
