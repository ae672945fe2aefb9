//! What is trained on, and how often: a pure function of the settings and of what there is.

use crate::bundle::Key;
use crate::config::{MixConfig, PhaseConfig};
use crate::facts::MixPart;
use std::collections::BTreeMap;

/// Name of the mix of a corpus without phases.
pub const MAIN_MIX: &str = "main";

/// Why a mix is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MixError {
    /// Nothing is left to train on.
    #[error(
        "nothing is left to train on in mix {mix}: of {documents} documents that came through, {heldout} are held out and weights drop the others; `essaim-corpus build` shows which filter dropped what"
    )]
    Empty {
        /// The mix.
        mix: String,
        /// Documents that came through all filters.
        documents: u64,
        /// Documents held out.
        heldout: u64,
    },
    /// The language that should be the largest is not.
    #[error(
        "{wanted} is not the largest language of mix {mix}: {wanted} has {wanted_bytes} bytes of text, {largest} {largest_bytes}; \
         add text, set [mix.weights], or say --largest any"
    )]
    NotLargest {
        /// The mix.
        mix: String,
        /// The language asked for.
        wanted: String,
        /// Its bytes, weighted.
        wanted_bytes: u64,
        /// The largest language.
        largest: String,
        /// Its bytes, weighted.
        largest_bytes: u64,
    },
    /// A language has less than its minimum.
    #[error(
        "{language} is {got:.1} % of the tokens of mix {mix}, at least {minimum:.1} % are asked for; add text, set [mix.weights], or \
         lower [mix.minimum]"
    )]
    BelowMinimum {
        /// The mix.
        mix: String,
        /// The language.
        language: String,
        /// Its share, percent.
        got: f64,
        /// The share asked for, percent.
        minimum: f64,
    },
    /// A weight or share for something that no document has.
    #[error("{key} names '{name}', which no document has; there are: {known}")]
    Unknown {
        /// Where.
        key: String,
        /// The name.
        name: String,
        /// Languages and sources that there are.
        known: String,
    },
}

/// What there is of one language and source, training documents only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Available {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens.
    pub tokens: u64,
}

/// Languages and sources of a corpus with what there is of each.
pub type Parts = BTreeMap<(String, String), Available>;

/// A mix: how often each document of a language and source occurs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// By language and source.
    pub weights: BTreeMap<(String, String), f64>,
}

/// The mixes of a corpus: one for each phase, or one.
///
/// # Errors
/// [`MixError::Unknown`].
pub fn plans(mix: &MixConfig, phases: &[PhaseConfig], parts: &Parts) -> Result<Vec<Plan>, MixError> {
    check_names("mix.weights", mix.weights.keys(), parts)?;
    let base = |part: &(String, String)| weight(&mix.weights, part);
    if phases.is_empty() {
        let weights = parts.keys().map(|part| (part.clone(), base(part))).collect();
        return Ok(vec![Plan { name: MAIN_MIX.into(), weights }]);
    }
    phases.iter().map(|phase| plan(phase, &base, parts)).collect()
}

fn plan(phase: &PhaseConfig, base: &impl Fn(&(String, String)) -> f64, parts: &Parts) -> Result<Plan, MixError> {
    let key = |table: &str| format!("phase {}: {table}", phase.name);
    check_names(&key("weights"), phase.weights.keys(), parts)?;
    check_names(&key("shares"), phase.shares.keys(), parts)?;
    let mut weights: BTreeMap<_, _> =
        parts.keys().map(|part| (part.clone(), base(part) * weight(&phase.weights, part))).collect();
    if !phase.shares.is_empty() {
        weights = by_shares(phase, &weights, parts);
    }
    if let Some(budget) = phase.tokens {
        let total: f64 = parts.iter().map(|(part, there)| weights[part] * there.tokens as f64).sum();
        if total > 0.0 {
            weights.values_mut().for_each(|weight| *weight *= budget as f64 / total);
        }
    }
    Ok(Plan { name: phase.name.clone(), weights })
}

/// Weights that give each named language or source its share of the tokens; what no share names is left out.
fn by_shares(
    phase: &PhaseConfig,
    base: &BTreeMap<(String, String), f64>,
    parts: &Parts,
) -> BTreeMap<(String, String), f64> {
    let named = |name: &str, part: &(String, String)| names(part).iter().any(|known| known == name);
    let tokens = |name: &str| -> f64 {
        parts.iter().filter(|(part, _)| named(name, part)).map(|(part, there)| base[part] * there.tokens as f64).sum()
    };
    let sum: f64 = phase.shares.values().sum();
    let all: f64 = parts.iter().map(|(part, there)| base[part] * there.tokens as f64).sum();
    // Without a budget, nothing is asked for more often than its base weight says: the scarcest share decides.
    let mut scale = f64::INFINITY;
    for (name, share) in &phase.shares {
        if *share > 0.0 {
            scale = scale.min(tokens(name) / (share / sum));
        }
    }
    let total = if scale.is_finite() { scale } else { all };
    let mut weights: BTreeMap<(String, String), f64> = parts.keys().map(|part| (part.clone(), 0.0)).collect();
    for (name, share) in &phase.shares {
        let there = tokens(name);
        if there > 0.0 {
            for (part, weight) in weights.iter_mut().filter(|(part, _)| named(name, part)) {
                *weight += base[part] * (share / sum) * total / there;
            }
        }
    }
    weights
}

/// Names that settings may call a part by, the least specific first.
fn names((language, source): &(String, String)) -> [String; 3] {
    [language.clone(), source.clone(), format!("{source}/{language}")]
}

/// The product of the weights of a part's language and source, unless `SOURCE/LANGUAGE` has a weight of its own.
fn weight(weights: &BTreeMap<String, f64>, part: &(String, String)) -> f64 {
    let [language, source, both] = names(part);
    let of = |name: &String| weights.get(name).copied();
    of(&both).unwrap_or_else(|| of(&language).unwrap_or(1.0) * of(&source).unwrap_or(1.0))
}

fn check_names<'a>(key: &str, given: impl Iterator<Item = &'a String>, parts: &Parts) -> Result<(), MixError> {
    let known: std::collections::BTreeSet<String> = parts.keys().flat_map(names).collect();
    for name in given {
        if !known.contains(name) {
            let mut shown: Vec<&str> = known.iter().map(String::as_str).filter(|name| !name.contains('/')).collect();
            shown.truncate(40);
            return Err(MixError::Unknown { key: key.to_owned(), name: name.clone(), known: shown.join(", ") });
        }
    }
    Ok(())
}

/// How many copies a mix has of a document: the whole part of its weight, and one more for the fraction of documents that a hash
/// of the key picks.
pub fn copies(weight: f64, mix: &str, key: &Key) -> u64 {
    let whole = weight.floor();
    let fraction = ((weight - whole) * 4_294_967_296.0) as u64;
    whole as u64 + u64::from(u64::from(draw(mix, key)) < fraction)
}

/// 32 bits that follow from a mix and a document.
fn draw(mix: &str, key: &Key) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key("essaim corpus 1: fraction of documents of a mix");
    hasher.update(&(mix.len() as u64).to_le_bytes()).update(mix.as_bytes()).update(&key.0);
    let bytes = hasher.finalize();
    u32::from_le_bytes([bytes.as_bytes()[0], bytes.as_bytes()[1], bytes.as_bytes()[2], bytes.as_bytes()[3]])
}

/// A copy's place in the shuffled order of a mix: sorting by hashes shuffles, the same way everywhere.
pub fn place(seed: u64, mix: &str, copy: u64, key: &Key) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("essaim corpus 2: order of training documents");
    hasher.update(&seed.to_le_bytes()).update(&copy.to_le_bytes());
    hasher.update(&(mix.len() as u64).to_le_bytes()).update(mix.as_bytes()).update(&key.0);
    *hasher.finalize().as_bytes()
}

/// Checks what a mix came to.
///
/// # Errors
/// [`MixError`] when it is empty, its largest language is another than demanded, or a language has less than its minimum.
pub fn check(config: &MixConfig, name: &str, parts: &[MixPart], documents: u64, heldout: u64) -> Result<(), MixError> {
    let mut languages = BTreeMap::<&str, (u64, u64)>::new();
    for part in parts {
        let sums = languages.entry(&part.language).or_default();
        sums.0 += part.bytes;
        sums.1 += part.tokens;
    }
    let tokens: u64 = languages.values().map(|(_, tokens)| tokens).sum();
    if tokens == 0 {
        return Err(MixError::Empty { mix: name.to_owned(), documents, heldout });
    }
    for (language, minimum) in config.minimum() {
        let got = languages.get(language.as_str()).map_or(0, |(_, tokens)| *tokens) as f64 / tokens as f64;
        if got < minimum {
            let (got, minimum) = (got * 100.0, minimum * 100.0);
            return Err(MixError::BelowMinimum { mix: name.to_owned(), language, got, minimum });
        }
    }
    if config.largest == "any" {
        return Ok(());
    }
    let wanted_bytes = languages.get(config.largest.as_str()).map_or(0, |(bytes, _)| *bytes);
    let others = languages.iter().filter(|(language, _)| **language != config.largest);
    match others.max_by_key(|(_, (bytes, _))| *bytes) {
        Some((largest, &(largest_bytes, _))) if largest_bytes >= wanted_bytes => Err(MixError::NotLargest {
            mix: name.to_owned(),
            wanted: config.largest.clone(),
            wanted_bytes,
            largest: (*largest).to_owned(),
            largest_bytes,
        }),
        _ => Ok(()),
    }
}
