//! Why a document is not kept.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A refusal of a document, by the rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// `filter/reason`, as in `gopher-quality/too-few-words`. What is counted.
    pub rule: Cow<'static, str>,
    /// The values that decided, for people: `12 words, at least 50`.
    pub detail: String,
}

impl Rejection {
    /// A refusal.
    pub fn new(rule: &'static str, detail: impl Into<String>) -> Rejection {
        Rejection { rule: Cow::Borrowed(rule), detail: detail.into() }
    }

    /// The filter: the rule up to its slash.
    pub fn filter(&self) -> &str {
        self.rule.split_once('/').map_or(&self.rule, |(filter, _)| filter)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.is_empty() {
            true => f.write_str(&self.rule),
            false => write!(f, "{}: {}", self.rule, self.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rejection;

    #[test]
    fn a_rejection_names_its_filter() {
        let rejection = Rejection::new("gopher-quality/too-few-words", "12 words, at least 50");
        assert_eq!(rejection.filter(), "gopher-quality");
        assert_eq!(rejection.to_string(), "gopher-quality/too-few-words: 12 words, at least 50");
        assert_eq!(Rejection::new("empty", "").to_string(), "empty");
    }
}
