//! Words: the segmentation that all filters share.
//!
//! The filters of the references count words that spaCy's rule tokenizers of each language make (datatrove 0.10,
//! `utils/word_tokenizers.py`). Their shares (letters, repeated characters, stop words such as `l'`) only mean the same on the same
//! words; UAX #29 gives others: it keeps `l'eau` whole and drops punctuation. So this is a segmentation of our own after spaCy's
//! documented procedure (<https://spacy.io/usage/linguistic-features#tokenization>): split at white space; take punctuation off both
//! ends, again and again; then split inside at hyphens, elisions, ellipses and the like. [`rules`] says per language which.
//!
//! Linear in the text, whatever it is.

pub(crate) mod chars;
mod cut;
mod rules;
mod special;

pub(crate) use rules::Rules;

/// A word: a piece of the text without white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// Where it begins in the text, bytes.
    pub(crate) start: u32,
    /// Where it ends.
    pub(crate) end: u32,
    /// Its length in characters.
    pub(crate) chars: u32,
    /// It has a letter.
    pub(crate) alphabetic: bool,
    /// It has nothing but punctuation.
    pub(crate) symbol: bool,
}

impl Word {
    /// Its text.
    pub(crate) fn of<'t>(&self, text: &'t str) -> &'t str {
        &text[self.start as usize..self.end as usize]
    }
}

/// A character of a piece and where it is in the text.
#[derive(Debug, Clone, Copy)]
struct At {
    c: char,
    start: u32,
}

/// Cuts texts into words. Holds buffers only.
#[derive(Debug, Default)]
pub(crate) struct Segmenter {
    piece: Vec<At>,
    /// Suffixes of a piece, last first.
    tail: Vec<(usize, usize)>,
}

/// The longest text that is cut, bytes: positions are 32 bits wide.
pub(crate) const TEXT_MAX: usize = u32::MAX as usize;

impl Segmenter {
    /// Appends the words of `text`, which is at most [`TEXT_MAX`] bytes long and begins at byte `offset` of what is counted in.
    pub(crate) fn cut(&mut self, text: &str, offset: u32, rules: &Rules, words: &mut Vec<Word>) {
        let bytes = text.as_bytes();
        let mut start = 0;
        while start < bytes.len() {
            // Most pieces are plain: letters and digits of ASCII up to a space.
            let run = bytes[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let end = start + run;
            let plain_end = end == bytes.len() || matches!(bytes[end], b' ' | b'\n' | b'\t');
            if plain_end && !rules.splits_plain(&text[start..end]) {
                if run > 0 {
                    let alphabetic = bytes[start..end].iter().any(u8::is_ascii_alphabetic);
                    let [start, end] = [start, end].map(|at| offset + at as u32);
                    words.push(Word { start, end, chars: run as u32, alphabetic, symbol: false });
                }
                start = end + 1;
                continue;
            }
            self.piece.clear();
            let mut end = bytes.len();
            for (at, c) in text[start..].char_indices() {
                if chars::is_space(c) {
                    end = start + at;
                    break;
                }
                self.piece.push(At { c, start: offset + (start + at) as u32 });
            }
            let first = words.len();
            self.cut_piece(offset + end as u32, rules, words);
            self.join_faces(first, words);
            start = end + text[end..].chars().next().map_or(0, char::len_utf8);
        }
    }

    /// Cuts one piece without white space that ends at byte `end`.
    fn cut_piece(&mut self, end: u32, rules: &Rules, words: &mut Vec<Word>) {
        let Segmenter { piece, tail } = self;
        let mut push = |from: usize, to: usize| {
            if from < to {
                words.push(word(piece, from, to, end));
            }
        };
        let (mut from, mut to) = (0, piece.len());
        tail.clear();
        while from < to {
            let rest = &piece[from..to];
            if special::is_whole(rest, rules) {
                break;
            }
            let (head, last) = (cut::prefix(rest, rules), cut::suffix(rest, rules));
            if head + last == 0 {
                break;
            }
            if head > 0 {
                push(from, from + head);
                from += head;
                if from < to && special::is_whole(&piece[from..to], rules) {
                    break;
                }
            }
            // The same characters are not taken twice.
            if last > 0 && from + last <= to {
                tail.push((to - last, to));
                to -= last;
            }
        }
        if from < to {
            match special::is_whole(&piece[from..to], rules) || special::is_address(&piece[from..to]) {
                true => push(from, to),
                false => cut::inside(&piece[from..to], rules, |a, b| push(from + a, from + b)),
            }
        }
        tail.iter().rev().for_each(|&(a, b)| push(a, b));
    }

    /// Joins neighbours of a piece, from word `first` on, that are a face together: `[:` and `:]` around a class of characters.
    fn join_faces(&self, first: usize, words: &mut Vec<Word>) {
        if words.len() < first + 2 {
            return;
        }
        let place = |start: u32| self.piece.partition_point(|at| at.start < start);
        let mut at = first;
        while at + 1 < words.len() {
            let from = place(words[at].start);
            let joined = [3, 2].into_iter().find(|&count| {
                let some = words.get(at..at + count);
                some.is_some_and(|some| {
                    let chars: u32 = some.iter().map(|word| word.chars).sum();
                    chars <= 3 && special::is_face(&self.piece[from..from + chars as usize])
                })
            });
            if let Some(count) = joined {
                let some = &words[at..at + count];
                let whole = Word {
                    end: some[count - 1].end,
                    chars: some.iter().map(|word| word.chars).sum(),
                    alphabetic: some.iter().any(|word| word.alphabetic),
                    symbol: some.iter().all(|word| word.symbol),
                    ..some[0]
                };
                words.splice(at..at + count, [whole]);
            }
            at += 1;
        }
    }
}

fn word(piece: &[At], from: usize, to: usize, end: u32) -> Word {
    let part = &piece[from..to];
    Word {
        start: part[0].start,
        end: piece.get(to).map_or(end, |next| next.start),
        chars: (to - from) as u32,
        alphabetic: part.iter().any(|at| chars::is_alpha(at.c)),
        symbol: part.iter().all(|at| chars::is_symbol(at.c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(language: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        Segmenter::default().cut(text, 0, &Rules::of(language), &mut words);
        words.iter().map(|word| word.of(text).to_owned()).collect()
    }

    fn check(language: &str, text: &str, expected: &str) {
        assert_eq!(cut(language, text).join(" "), expected, "{language}: {text}");
    }

    #[test]
    fn french() {
        check("fr", "L'eau de l’île, qu'il boit aujourd'hui.", "L' eau de l’ île , qu' il boit aujourd'hui .");
        check("fr", "Vient-il là ? Où va-t-on, dit-elle...", "Vient -il là ? Où va -t -on , dit -elle ...");
        check(
            "fr",
            "« peut-être » : un arc-en-ciel, le porte-monnaie",
            "« peut-être » : un arc-en-ciel , le porte - monnaie",
        );
        check("fr", "M. Dupont, etc. (5 €, 12% et 3kg).", "M. Dupont , etc. ( 5 € , 12 % et 3 kg ) .");
        check("fr", "d'accord ; n'est-ce pas ?", "d' accord ; n' est -ce pas ?");
    }

    #[test]
    fn faces_are_one_word_wherever_they_occur() {
        check("en", "def main(self): pass ;) [:digit:] ''x''", "def main(self ): pass ;) [: digit :] '' x ''");
        check("fr", "do c'' (8) (;;) Jean-Luc", "do c '' ( 8) (; ;) Jean-Luc");
        check("es", "a) b: c", "a ) b : c");
        let mut words = Vec::new();
        Segmenter::default().cut("f():", 7, &Rules::of("en"), &mut words);
        let shown: Vec<_> =
            words.iter().map(|word| (word.start, word.end, word.chars, word.alphabetic, word.symbol)).collect();
        assert_eq!(shown, [(7, 8, 1, true, false), (8, 9, 1, false, true), (9, 11, 2, false, true)]);
    }

    #[test]
    fn english() {
        check("en", "It's the cat's, don't you think?", "It 's the cat 's , do n't you think ?");
        check("en", "He said: \"I'll go--now!\"", "He said : \" I 'll go -- now ! \"");
        check("en", "see www.example.org/a-b or file.txt.", "see www.example.org/a-b or file.txt .");
        check("en", "e.g. the state-of-the-art U.S. law", "e.g. the state - of - the - art U.S. law");
        check("en", "a cannot-do", "a can not - do".replace("can not", "cannot").as_str());
        check("en", "I cannot.", "I can not .");
    }

    #[test]
    fn others() {
        check("de", "Der E-Mail-Server (z.B. hier) kostet 5 Euro.", "Der E-Mail-Server ( z.B. hier ) kostet 5 Euro .");
        check("it", "L'acqua dell'Italia, nord-est", "L' acqua dell' Italia , nord-est");
        check("pt", "disse-lhe: não", "disse-lhe : não");
        check("es", "¿Qué? ¡Sí! ex-presidente", "¿ Qué ? ¡ Sí ! ex-presidente");
        check("xx", "a/b c=d x+y", "a / b c = d x+y");
    }

    #[test]
    fn odd_pieces() {
        check("fr", "", "");
        check("fr", " \n\t ", "");
        check("fr", "- * ... …", "- * ... …");
        check("fr", "((()))", "( ( ( ) ) )");
        check("en", "++", "+ +");
        let long = "a".repeat(100_000) + &")".repeat(100_000);
        assert_eq!(cut("fr", &long).len(), 100_001);
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_is_lost(text in any::<String>(), language in "fr|en|de|it|es|pt|nl|xx") {
            let joined: String = cut(&language, &text).concat();
            let expected: String = text.chars().filter(|&c| !chars::is_space(c)).collect();
            prop_assert_eq!(joined, expected);
        }

        #[test]
        fn a_text_is_cut_as_its_lines_are(lines in proptest::collection::vec("[ -~éà«»’—…]{0,30}", 0..5)) {
            let apart: Vec<String> = lines.iter().flat_map(|line| cut("fr", line)).collect();
            prop_assert_eq!(cut("fr", &lines.join("\n")), apart);
        }
    }
}
