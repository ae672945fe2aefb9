//! How text is cut into the words that BPE merges within.
//!
//! A word is one of: letters with the space before and the apostrophe after them (`▁l'`, `arbre`), one digit, a run of punctuation
//! with the space before it, a run of spaces (its last one left to what follows), of newlines, of tabs.
//!
//! The classes are ranges of code points written out here, not Unicode's properties, whose tables differ between versions of
//! libraries: [`pattern`] means the same in every regular expression engine, for good, and [`split`], written by
//! hand, is the same as the pattern and many times faster.

use super::BLOCK;

/// Code points that are neither letters nor digits, spaces, tabs or newlines. Everything outside, marks, emoji and unassigned code
/// points included, counts as a letter.
const PUNCTUATION: [(char, char); 12] = [
    ('\0', '\u{8}'),
    ('\u{b}', '/'),
    (':', '@'),
    ('[', '`'),
    ('{', '\u{bf}'),
    ('×', '×'),
    ('÷', '÷'),
    ('\u{2000}', '\u{2580}'),
    ('\u{2582}', '\u{2bff}'),
    ('\u{3000}', '\u{303f}'),
    ('\u{fe10}', '\u{fe1f}'),
    ('\u{ff01}', '\u{ff0f}'),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Punctuation,
    Space,
    Newline,
    Tab,
}

fn class(c: char) -> Class {
    match c {
        BLOCK => Class::Space,
        '\n' => Class::Newline,
        '\t' => Class::Tab,
        '0'..='9' => Class::Digit,
        'a'..='z' | 'A'..='Z' => Class::Letter,
        _ if PUNCTUATION.iter().any(|&(first, last)| (first..=last).contains(&c)) => Class::Punctuation,
        _ => Class::Letter,
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’')
}

/// The same rule as a regular expression, for the `Split` pre-tokenizer of a tokenizer.json.
pub fn pattern() -> String {
    let escape = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_string(),
        c if c.is_ascii() => format!("\\x{:02x}", c as u32),
        c => c.to_string(),
    };
    let range = |&(first, last): &(char, char)| match first == last {
        true => escape(first),
        false => format!("{}-{}", escape(first), escape(last)),
    };
    let punctuation: String = PUNCTUATION.iter().map(range).collect();
    let b = BLOCK;
    format!(r"{b}?[^{punctuation}{b}0-9\x0a\x09]+['’]?|[0-9]|{b}?[{punctuation}]+|{b}+(?={b})|{b}|\x0a+|\x09+")
}

/// Cuts a text, in which spaces are `▁` already, into words. Joined, they are the text.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (word, after) = rest.split_at(word_len(rest));
        rest = after;
        Some(word)
    })
}

/// Length of the run of one class that a text begins with, bytes.
fn run_len(text: &str, wanted: Class) -> usize {
    text.char_indices().find(|&(_, c)| class(c) != wanted).map_or(text.len(), |(at, _)| at)
}

/// Length of the word that a text begins with, bytes; 0 for the empty text.
fn word_len(text: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    let space = if first == BLOCK { BLOCK.len_utf8() } else { 0 };
    let body = &text[space..];
    match body.chars().next().map(class) {
        Some(Class::Letter) => {
            let len = run_len(body, Class::Letter);
            let apostrophe = body[len..].chars().next().filter(|&c| is_apostrophe(c)).map_or(0, char::len_utf8);
            space + len + apostrophe
        }
        Some(Class::Punctuation) => space + run_len(body, Class::Punctuation),
        // More spaces: all of them but the last.
        Some(Class::Space) => run_len(body, Class::Space),
        // A space before a digit, a newline or the end stands alone.
        _ if space > 0 => space,
        Some(Class::Digit) => first.len_utf8(),
        Some(Class::Newline) => run_len(body, Class::Newline),
        Some(Class::Tab) => run_len(body, Class::Tab),
        None => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let text = text.replace(' ', "▁");
        let words: Vec<String> = split(&text).map(|word| word.replace('▁', " ")).collect();
        assert_eq!(words.concat(), text.replace('▁', " "));
        words
    }

    #[test]
    fn text_is_cut_into_words() {
        assert_eq!(words("L'arbre qu’il a vu."), ["L'", "arbre", " qu’", "il", " a", " vu", "."]);
        assert_eq!(words("en 1789 !"), ["en", " ", "1", "7", "8", "9", " !"]);
        assert_eq!(words("« Oui\u{a0}»"), ["«", " Oui", "\u{a0}»"]);
        assert_eq!(words("a\n\n    b\t\tc  \n"), ["a", "\n\n", "   ", " b", "\t\t", "c", " ", " ", "\n"]);
        assert_eq!(words("été naïf Ψυχή 漢字🙂"), ["été", " naïf", " Ψυχή", " 漢字🙂"]);
        assert_eq!(words(""), [""; 0]);
        // What could spell a special or byte token never stays in one word.
        assert_eq!(words("</s><unk><0xFF>"), ["</", "s", "><", "unk", "><", "0", "xFF", ">"]);
    }
}
