//! What differs between languages.

/// Where a hyphen between letters splits a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hyphen {
    /// Between any letters.
    Letters,
    /// After a letter or digit, before a letter.
    LettersAndDigits,
    /// Between a letter and a small letter.
    Small,
    /// Nowhere, but for a double one between letters.
    Double,
    /// Nowhere.
    Never,
}

/// The rules of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Short name of the language, or `xx`.
    pub(super) language: Language,
    pub(super) hyphen: Hyphen,
}

/// The languages with rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    French,
    English,
    German,
    Spanish,
    Italian,
    Dutch,
    Portuguese,
    Other,
}

impl Rules {
    /// The rules for a document's language: of `fr,en` the first counts, and what has no rules of its own gets general ones.
    pub(crate) fn of(language: &str) -> Rules {
        let (language, hyphen) = match language.split(',').next().unwrap_or_default().trim() {
            "fr" => (Language::French, Hyphen::Letters),
            "en" => (Language::English, Hyphen::LettersAndDigits),
            "de" => (Language::German, Hyphen::Double),
            "es" => (Language::Spanish, Hyphen::Never),
            "it" => (Language::Italian, Hyphen::Small),
            "nl" => (Language::Dutch, Hyphen::Double),
            "pt" => (Language::Portuguese, Hyphen::Never),
            _ => (Language::Other, Hyphen::Letters),
        };
        Rules { language, hyphen }
    }

    /// A word of ASCII letters and digits that still has to be looked at: a number with a unit, or an English contraction.
    pub(super) fn splits_plain(&self, word: &str) -> bool {
        let bytes = word.as_bytes();
        let unit = bytes.first().is_some_and(u8::is_ascii_digit) && bytes.last().is_some_and(u8::is_ascii_alphabetic);
        unit || (self.language == Language::English && (word == "cannot" || word == "Cannot"))
    }

    /// `'s` is a word of its own: `cat's`, but `pagina's`.
    pub(super) fn splits_genitive(&self) -> bool {
        !matches!(self.language, Language::French | Language::German | Language::Spanish | Language::Dutch)
    }

    /// German and Dutch split at `!` and `?` between letters, and at quotes and brackets.
    pub(super) fn splits_at_marks(&self) -> bool {
        matches!(self.language, Language::German | Language::Dutch)
    }
}
