//! `[publish]`: what only people can say of a data set.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};

/// `[publish]`: who publishes, and what the counts do not tell. All of it is optional; what is empty is marked in the files as to be
/// filled in by the provider. Nothing of it changes a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// Name that people see. Default: the data set's name.
    pub title: String,
    /// One paragraph on what the data set is.
    pub description: String,
    /// Who publishes it: name and country.
    pub provider: String,
    /// Where they are reached: an address or a mailbox.
    pub contact: String,
    /// Home page, `https://…`.
    pub homepage: String,
    /// Version, as `1.0.0`.
    pub version: String,
    /// Day of publication, `YYYY-MM-DD`. Never taken from the clock: the same settings give the same bytes.
    pub date: String,
    /// Repository on the Hub, `owner/name`.
    pub repository: String,
    /// How to cite it.
    pub citation: String,
    /// Models trained on it, by versioned name, for the summary of training content.
    pub models: Vec<String>,
    /// Sources (by name) that were crawled by the provider or for them, for the summary's section 2.3; others count as public data sets.
    pub crawled: Vec<String>,
    /// Sources that are not publicly available (section 2.2).
    pub private: Vec<String>,
    /// Sources written by models (section 2.5).
    pub synthetic: Vec<String>,
    /// Measures against illegal content beyond the filters that the settings name (section 3.2).
    pub illegal_content: String,
    /// Whether the provider is a small or medium-sized enterprise, for which section 2.3 asks for fewer hosts.
    pub small_enterprise: bool,
    /// Whether the texts are published as parquet in `data/`.
    pub texts: bool,
}

impl Default for PublishConfig {
    fn default() -> Self {
        let empty = String::new;
        PublishConfig {
            title: empty(),
            description: empty(),
            provider: empty(),
            contact: empty(),
            homepage: empty(),
            version: empty(),
            date: empty(),
            repository: empty(),
            citation: empty(),
            models: Vec::new(),
            crawled: Vec::new(),
            private: Vec::new(),
            synthetic: Vec::new(),
            illegal_content: empty(),
            small_enterprise: false,
            texts: true,
        }
    }
}

impl PublishConfig {
    /// Checks forms and lengths.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, got: &str, expected| Err(ConfigError::Value { key, got: format!("'{got}'"), expected });
        let date = self.date.as_bytes();
        let is_date = date.len() == 10
            && date.iter().enumerate().all(|(i, b)| if matches!(i, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() });
        if !self.date.is_empty() && !is_date {
            return value("publish.date", &self.date, "YYYY-MM-DD");
        }
        let is_address = self.homepage.starts_with("https://") || self.homepage.starts_with("http://");
        if !self.homepage.is_empty() && !is_address {
            return value("publish.homepage", &self.homepage, "https://…");
        }
        let parts: Vec<&str> = self.repository.split('/').collect();
        let safe = |part: &&str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        if !self.repository.is_empty() && (parts.len() != 2 || !parts.iter().all(safe)) {
            return value("publish.repository", &self.repository, "owner/name");
        }
        let long = [&self.title, &self.description, &self.provider, &self.contact, &self.version, &self.citation];
        match long.iter().find(|text| text.len() > 16 << 10) {
            Some(text) => value("publish", &format!("{} bytes long", text.len()), "at most 16384 bytes a value"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_give_back_what_was_said() {
        let text = "provider = 'Essaim'\ndate = '2026-11-24'\n";
        let config: PublishConfig = toml::from_str(text).unwrap();
        assert_eq!((config.provider.as_str(), config.date.as_str(), config.texts), ("Essaim", "2026-11-24", true));
        config.check().unwrap();
        assert!(toml::from_str::<PublishConfig>("publisher = 'x'").is_err());
        let wrong = |edit: fn(&mut PublishConfig)| {
            let mut config = PublishConfig::default();
            edit(&mut config);
            config.check().unwrap_err().to_string()
        };
        let date = "corpus settings: publish.date is '24/11/2026', expected YYYY-MM-DD";
        assert_eq!(wrong(|config| config.date = "24/11/2026".into()), date);
        assert!(wrong(|config| config.homepage = "javascript:x".into()).contains("https://"));
        assert!(wrong(|config| config.repository = "a/b/c".into()).contains("owner/name"));
    }
}
