//! Identification without a model's file, by the `whichlang` crate: sixteen languages, from n-grams of letters.
//!
//! It names a language but gives no probability. So the text is also cut into windows, and the share of those that are found to be in the
//! text's language stands for it: texts of several languages have a low one. What decides is sums of float32 in a fixed order and a square
//! root, which IEEE 754 rounds alike everywhere.

use whichlang::Lang;

/// Bytes of a window: about as many as whichlang needs to be sure.
const WINDOW: usize = 256;

/// Short names of the languages that are known.
pub(super) fn languages() -> Vec<String> {
    whichlang::LANGUAGES.iter().map(|&language| code(language)).collect()
}

fn code(language: Lang) -> String {
    super::codes::short(language.three_letter_code())
}

/// The language of the parts together, and the share of their windows in it. Windows without a letter say nothing.
pub(super) fn identify(parts: &[&str]) -> Option<(String, f32)> {
    let has_letter = |text: &&str| text.chars().any(char::is_alphabetic);
    let language = match parts {
        [part] => whichlang::detect_language(part),
        parts => whichlang::detect_language(&parts.join(" ")),
    };
    let (mut votes, mut all) = (0_u32, 0_u32);
    for window in parts.iter().flat_map(|part| windows(part)).filter(has_letter) {
        votes += u32::from(whichlang::detect_language(window) == language);
        all += 1;
    }
    (all > 0).then(|| (code(language), (f64::from(votes) / f64::from(all)) as f32))
}

/// Cuts a text at white space into windows of about as many bytes; the last one may have half as many again.
fn windows(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if rest.len() < WINDOW + WINDOW / 2 {
            return Some(std::mem::take(&mut rest));
        }
        let from = (WINDOW..).find(|&at| rest.is_char_boundary(at)).unwrap_or(rest.len());
        // A text without white space is cut anywhere.
        let space = rest[from..].char_indices().take(WINDOW).find(|(_, c)| c.is_whitespace());
        let (window, tail) = rest.split_at(space.map_or(from, |(at, _)| from + at));
        rest = tail;
        Some(window)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn languages_are_told_apart() {
        let french = "Tous les êtres humains naissent libres et égaux en dignité et en droits.";
        let english = "All human beings are born free and equal in dignity and rights.";
        assert_eq!(identify(&[french]), Some(("fr".to_owned(), 1.0)));
        assert_eq!(identify(&[english]), Some(("en".to_owned(), 1.0)));
        let (mixed, share) = identify(&[french, french, english]).unwrap();
        assert_eq!((mixed.as_str(), share), ("fr", (2.0_f64 / 3.0) as f32));
        assert_eq!(identify(&["12345 !"]), None);
        assert_eq!(identify(&[]), None);
    }

    proptest! {
        #[test]
        fn windows_are_the_text(text in "(\\PC| ){0,2000}") {
            prop_assert_eq!(windows(&text).collect::<String>(), text.clone());
            prop_assert!(windows(&text).all(|window| window.len() <= 6 * WINDOW));
            identify(&[&text]);
        }
    }
}
