//! Personal data: finds addresses and numbers that lead to a person, and puts a token in their place.
//!
//! Each finder is linear in the text. What is on by default, and why: all four. E-mail and public IP addresses are what FineWeb and Lucie
//! replace; telephone numbers are what Luciole adds; an IBAN is sure to be one by its check digits. Numbers that only may be one
//! (versions, dates, ISBNs, columns of figures) stay: a telephone number needs its country's form, and mostly a word before it that says so.
//!
//! FineWeb puts `email@example.com`, `firstname.lastname@example.org` and unused IP addresses in their place, Luciole `<EMAIL>`-like tokens
//! and `<PHONE_NUMBER>`. A token says that something was there and cannot be taken for data; so tokens are the default here.

mod email;
mod iban;
mod ip;
mod phone;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// `[pii]`: what is masked, and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PiiConfig {
    /// E-mail addresses, but for those at names that are reserved for examples (RFC 2606).
    pub email: bool,
    /// Telephone numbers.
    pub phone: bool,
    /// IPv4 and IPv6 addresses that the whole Internet may reach: not private, not reserved.
    pub ip: bool,
    /// International bank account numbers (ISO 13616) whose check digits are right.
    pub iban: bool,
    /// What stands for an e-mail address.
    pub email_token: String,
    /// What stands for a telephone number.
    pub phone_token: String,
    /// What stands for an IP address.
    pub ip_token: String,
    /// What stands for an IBAN.
    pub iban_token: String,
    /// Countries (ISO 3166, small letters) whose national forms of telephone numbers are known: be, ch, de, es, fr, gb, it, lu, nl, pt.
    /// International numbers (`+33 …`) need none.
    pub phone_countries: Vec<String>,
}

impl Default for PiiConfig {
    fn default() -> Self {
        PiiConfig {
            email: true,
            phone: true,
            ip: true,
            iban: true,
            email_token: "<EMAIL>".into(),
            phone_token: "<PHONE_NUMBER>".into(),
            ip_token: "<IP_ADDRESS>".into(),
            iban_token: "<IBAN>".into(),
            phone_countries: phone::COUNTRIES.iter().map(|&country| country.into()).collect(),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PiiError {
    /// No rules for a country.
    #[error("pii.phone_countries: nothing is known of \"{country}\"; there are {known}", known = phone::COUNTRIES.join(", "))]
    Country {
        /// What the settings name.
        country: String,
    },
}

/// How much was masked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiiCounts {
    /// E-mail addresses.
    pub email: u64,
    /// Telephone numbers.
    pub phone: u64,
    /// IP addresses.
    pub ip: u64,
    /// Bank accounts.
    pub iban: u64,
}

impl PiiCounts {
    /// Nothing was masked.
    pub fn is_zero(&self) -> bool {
        *self == PiiCounts::default()
    }
}

impl std::ops::AddAssign for PiiCounts {
    fn add_assign(&mut self, other: PiiCounts) {
        self.email += other.email;
        self.phone += other.phone;
        self.ip += other.ip;
        self.iban += other.iban;
    }
}

/// What was found. Where two overlap, the first wins, then the longer one, then the earlier kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Iban,
    Email,
    Ip,
    Phone,
}

/// A place in the text, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    start: usize,
    end: usize,
    kind: Kind,
}

/// Masks personal data. Shared by all threads.
#[derive(Debug)]
pub struct Masker {
    config: PiiConfig,
    countries: Vec<phone::National>,
    /// Tokens hold nothing that is masked, so masking goes on until there is nothing left.
    again: bool,
}

impl Masker {
    /// A masker with these settings.
    ///
    /// # Errors
    /// [`PiiError`] where a country is not known.
    pub fn new(config: &PiiConfig) -> Result<Masker, PiiError> {
        let national = |country: &String| {
            phone::National::of(country).ok_or_else(|| PiiError::Country { country: country.clone() })
        };
        let countries = config.phone_countries.iter().map(national).collect::<Result<_, _>>()?;
        let mut masker = Masker { config: config.clone(), countries, again: false };
        let tokens = [&config.email_token, &config.phone_token, &config.ip_token, &config.iban_token];
        masker.again = tokens.iter().all(|token| masker.find(token).is_empty());
        Ok(masker)
    }

    /// The text without personal data, and how much there was. A text without any is given back as it is. Masking what was masked
    /// changes nothing, unless a token looks like personal data itself.
    pub fn mask<'t>(&self, text: &'t str) -> (Cow<'t, str>, PiiCounts) {
        let mut counts = PiiCounts::default();
        let mut masked = Cow::Borrowed(text);
        loop {
            let found = self.find(&masked);
            if found.is_empty() {
                return (masked, counts);
            }
            masked = Cow::Owned(self.replace(&masked, &found, &mut counts));
            if !self.again {
                return (masked, counts);
            }
        }
    }

    fn find(&self, text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        let mut add = |kind, start, end| found.push(Found { start, end, kind });
        if self.config.email {
            email::find(text, |start, end| add(Kind::Email, start, end));
        }
        // The rest has digits, or at least colons.
        if !text.bytes().any(|byte| byte.is_ascii_digit() || byte == b':') {
            return found;
        }
        if self.config.iban {
            iban::find(text, |start, end| add(Kind::Iban, start, end));
        }
        if self.config.ip {
            ip::find(text, |start, end| add(Kind::Ip, start, end));
        }
        if self.config.phone {
            phone::find(text, &self.countries, |start, end| add(Kind::Phone, start, end));
        }
        found.sort_by_key(|found| (found.start, std::cmp::Reverse(found.end), found.kind as u8));
        let mut end = 0;
        found.retain(|found| {
            let apart = found.start >= end;
            end = if apart { found.end } else { end };
            apart
        });
        found
    }

    fn replace(&self, text: &str, found: &[Found], counts: &mut PiiCounts) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        for found in found {
            let (token, count) = match found.kind {
                Kind::Email => (&self.config.email_token, &mut counts.email),
                Kind::Phone => (&self.config.phone_token, &mut counts.phone),
                Kind::Ip => (&self.config.ip_token, &mut counts.ip),
                Kind::Iban => (&self.config.iban_token, &mut counts.iban),
            };
            *count += 1;
            masked.push_str(&text[at..found.start]);
            masked.push_str(token);
            at = found.end;
        }
        masked.push_str(&text[at..]);
        masked
    }
}

#[cfg(test)]
mod tests;
