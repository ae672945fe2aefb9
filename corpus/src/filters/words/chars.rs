//! Classes of characters, as the references of the filters draw them.

use std::cmp::Ordering;

/// Sentence terminals (the `Sentence_Terminal` property of Unicode's `PropList.txt` with the full-width forms): what a line or a
/// sentence may end with in FineWeb's rules.
const TERMINALS: &[(u32, u32)] = &[
    (0x21, 0x21),
    (0x2E, 0x2E),
    (0x3F, 0x3F),
    (0x589, 0x589),
    (0x61D, 0x61F),
    (0x6D4, 0x6D4),
    (0x700, 0x702),
    (0x7F9, 0x7F9),
    (0x837, 0x837),
    (0x839, 0x839),
    (0x83D, 0x83E),
    (0x964, 0x965),
    (0x104A, 0x104B),
    (0x1362, 0x1362),
    (0x1367, 0x1368),
    (0x166E, 0x166E),
    (0x1735, 0x1736),
    (0x17D4, 0x17D6),
    (0x17D9, 0x17DA),
    (0x1803, 0x1803),
    (0x1809, 0x1809),
    (0x1944, 0x1945),
    (0x1AA8, 0x1AAB),
    (0x1B5A, 0x1B5B),
    (0x1B5E, 0x1B5F),
    (0x1B7D, 0x1B7E),
    (0x1C3B, 0x1C3C),
    (0x1C7E, 0x1C7F),
    (0x203C, 0x203D),
    (0x2047, 0x2049),
    (0x2E2E, 0x2E2E),
    (0x2E3C, 0x2E3C),
    (0x2E53, 0x2E54),
    (0x3002, 0x3002),
    (0xA4FF, 0xA4FF),
    (0xA60E, 0xA60F),
    (0xA6F3, 0xA6F3),
    (0xA6F7, 0xA6F7),
    (0xA876, 0xA877),
    (0xA8CE, 0xA8CF),
    (0xA92F, 0xA92F),
    (0xA9C8, 0xA9C9),
    (0xAA5D, 0xAA5F),
    (0xAAF0, 0xAAF1),
    (0xABEB, 0xABEB),
    (0xFE52, 0xFE52),
    (0xFE56, 0xFE57),
    (0xFF01, 0xFF01),
    (0xFF0E, 0xFF0E),
    (0xFF1F, 0xFF1F),
    (0xFF61, 0xFF61),
    (0x10A56, 0x10A57),
    (0x10F55, 0x10F59),
    (0x10F86, 0x10F89),
    (0x11047, 0x11048),
    (0x110BE, 0x110C1),
    (0x11141, 0x11143),
    (0x111C5, 0x111C6),
    (0x111CD, 0x111CD),
    (0x111DE, 0x111DF),
    (0x11238, 0x11239),
    (0x1123B, 0x1123C),
    (0x112A9, 0x112A9),
    (0x1144B, 0x1144C),
    (0x115C2, 0x115C3),
    (0x115C9, 0x115D7),
    (0x11641, 0x11642),
    (0x1173C, 0x1173E),
    (0x11944, 0x11944),
    (0x11946, 0x11946),
    (0x11A42, 0x11A43),
    (0x11A9B, 0x11A9C),
    (0x11C41, 0x11C42),
    (0x11EF7, 0x11EF8),
    (0x11F43, 0x11F44),
    (0x16A6E, 0x16A6F),
    (0x16AF5, 0x16AF5),
    (0x16B37, 0x16B38),
    (0x16B44, 0x16B44),
    (0x16E98, 0x16E98),
    (0x1BC9F, 0x1BC9F),
    (0x1DA88, 0x1DA88),
];

/// Punctuation and controls that do not make a word: a word of nothing but these and [`TERMINALS`] is a symbol.
const SYMBOLS: &[(u32, u32)] = &[
    (0x0, 0x8),
    (0xB, 0x1F),
    (0x21, 0x2F),
    (0x3A, 0x40),
    (0x5B, 0x60),
    (0x7B, 0x9F),
    (0xAB, 0xAB),
    (0xB4, 0xB4),
    (0xBB, 0xBB),
    (0x2013, 0x2014),
    (0x2019, 0x2019),
    (0x201C, 0x201E),
    (0x2026, 0x2026),
    (0x2236, 0x2236),
    (0x2501, 0x2501),
    (0x25BA, 0x25BA),
    (0x3001, 0x3002),
    (0x3008, 0x300D),
    (0x3010, 0x3011),
    (0xFF01, 0xFF01),
    (0xFF05, 0xFF05),
    (0xFF08, 0xFF09),
    (0xFF0C, 0xFF0C),
    (0xFF0E, 0xFF0E),
    (0xFF11, 0xFF11),
    (0xFF1A, 0xFF1B),
    (0xFF1F, 0xFF1F),
    (0xFF5E, 0xFF5E),
];

/// Pictures and marks that stand for themselves: about the general category So.
const ICONS: &[(u32, u32)] = &[
    (0xA6, 0xA6),
    (0xA9, 0xA9),
    (0xAE, 0xAE),
    (0xB0, 0xB0),
    (0x482, 0x482),
    (0x2100, 0x2101),
    (0x2103, 0x2106),
    (0x2108, 0x2109),
    (0x2114, 0x2114),
    (0x2116, 0x2117),
    (0x211E, 0x2123),
    (0x214A, 0x214A),
    (0x2195, 0x2199),
    (0x219C, 0x219F),
    (0x21A1, 0x21A2),
    (0x21A4, 0x21A5),
    (0x21A7, 0x21AD),
    (0x21AF, 0x21CD),
    (0x21D5, 0x21F3),
    (0x2300, 0x2307),
    (0x230C, 0x231F),
    (0x2322, 0x2328),
    (0x232B, 0x237B),
    (0x237D, 0x239A),
    (0x23B4, 0x23DB),
    (0x23E2, 0x2426),
    (0x2440, 0x244A),
    (0x249C, 0x24E9),
    (0x2500, 0x25B6),
    (0x25B8, 0x25C0),
    (0x25C2, 0x25F7),
    (0x2600, 0x266E),
    (0x2670, 0x2767),
    (0x2794, 0x27BF),
    (0x2800, 0x28FF),
    (0x2B00, 0x2B2F),
    (0x2B45, 0x2B46),
    (0x2B4D, 0x2BFE),
    (0x2E80, 0x2FFB),
    (0x3004, 0x3004),
    (0x3012, 0x3013),
    (0x3020, 0x3020),
    (0x3036, 0x3037),
    (0x3200, 0x321E),
    (0x3300, 0x33FF),
    (0x4DC0, 0x4DFF),
    (0xFFE4, 0xFFE4),
    (0xFFFC, 0xFFFD),
    (0x1F000, 0x1FA6D),
];

fn within(table: &[(u32, u32)], c: char) -> bool {
    let code = u32::from(c);
    let order = |&(first, last): &(u32, u32)| match () {
        () if last < code => Ordering::Less,
        () if first > code => Ordering::Greater,
        () => Ordering::Equal,
    };
    table.binary_search_by(order).is_ok()
}

/// Ends a sentence.
pub(crate) fn is_terminal(c: char) -> bool {
    match c.is_ascii() {
        true => matches!(c, '.' | '!' | '?'),
        false => within(TERMINALS, c),
    }
}

/// Does not make a word of what consists of it.
pub(crate) fn is_symbol(c: char) -> bool {
    match c.is_ascii() {
        true => !matches!(c, '0'..='9' | 'a'..='z' | 'A'..='Z' | ' ' | '\t' | '\n'),
        false => within(SYMBOLS, c) || within(TERMINALS, c),
    }
}

/// A mark of the general category So, about.
pub(super) fn is_icon(c: char) -> bool {
    !c.is_ascii() && within(ICONS, c)
}

/// White space as Python's `str.isspace` has it: Unicode's, and the four separators of ASCII.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, '\u{1c}'..='\u{1f}') || c.is_whitespace()
}

/// Without white space (as [`is_space`]) at both ends.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// A letter, of any alphabet.
pub(crate) fn is_alpha(c: char) -> bool {
    c.is_alphabetic()
}

/// A letter that is not a capital.
pub(super) fn is_lower(c: char) -> bool {
    c.is_alphabetic() && !c.is_uppercase()
}

/// A letter that is not a small one.
pub(super) fn is_upper(c: char) -> bool {
    c.is_alphabetic() && !c.is_lowercase()
}

/// Punctuation that is cut off a word on either side.
pub(super) fn is_punctuation(c: char) -> bool {
    const ASCII: &str = ",:;!?()[]{}<>_#*&";
    const OTHER: &str = "…¿؟¡。？！，、；：～·।،۔؛٪";
    match c.is_ascii() {
        true => ASCII.contains(c),
        false => OTHER.contains(c),
    }
}

/// Quotation marks and the brackets of East Asia.
pub(super) fn is_quote(c: char) -> bool {
    match c.is_ascii() {
        true => matches!(c, '\'' | '"' | '`'),
        false => "”“‘´’‚„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧".contains(c),
    }
}

/// A sign of money.
pub(super) fn is_currency(c: char) -> bool {
    matches!(c, '$' | '£' | '¥' | '฿' | '₽' | '﷼' | '\u{20a0}'..='\u{20bf}')
}

/// An apostrophe that elides.
pub(super) fn is_elision(c: char) -> bool {
    matches!(c, '\'' | '’')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [TERMINALS, SYMBOLS, ICONS] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn short_cuts_agree_with_the_tables() {
        for c in (0..=0x7f).map(char::from) {
            assert_eq!(is_terminal(c), within(TERMINALS, c), "{c:?}");
            assert_eq!(is_symbol(c), within(SYMBOLS, c) || within(TERMINALS, c), "{c:?}");
        }
        assert!(is_terminal('。') && is_terminal('‽') && !is_terminal('…') && !is_terminal(':'));
        assert!(is_symbol('«') && is_symbol('…') && !is_symbol('é') && !is_symbol('€'));
        assert!(is_icon('©') && !is_icon('→') && !is_icon('|'));
    }
}
