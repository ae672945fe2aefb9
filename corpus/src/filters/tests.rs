//! Each threshold on both sides of its limit, in French where it matters.

use super::*;
use crate::document::Meta;
use proptest::prelude::*;

fn document(language: &str, text: &str) -> Document {
    let meta = Meta::default();
    let [id, source, license] = ["1", "test", "MIT"].map(String::from);
    Document { id, source, language: language.into(), license, text: text.into(), meta }
}

/// The rule that rejects a text under a set of settings in TOML.
fn rule_in(language: &str, settings: &str, text: &str) -> Option<String> {
    let config: FiltersConfig = toml::from_str(&format!("[test]\n{settings}")).unwrap();
    let set = FilterSet::new("test", &config).unwrap();
    set.apply(&mut document(language, text), &mut Scratch::default()).err().map(|rejection| rejection.rule.into_owned())
}

fn rule(settings: &str, text: &str) -> Option<String> {
    rule_in("fr", settings, text)
}

/// `n` different words of a few letters.
fn distinct(n: usize) -> Vec<String> {
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    (0..n).map(|i| format!("m{}{}{}", letter(i), letter(i / 26), letter(i / 676))).collect()
}

const QUALITY: &str = "use = ['gopher-quality']\n[test.gopher-quality]\nstop_words_min = 0\nwords_min = 0\n";
const REPETITION: &str = "use = ['gopher-repetition']\n";

#[test]
fn words_are_counted_without_punctuation() {
    let settings = "use = ['gopher-quality']\n[test.gopher-quality]\nstop_words_min = 0\nalphabetic_words_min = 0\n";
    let text = |n: usize| distinct(n).join(" , ");
    assert_eq!(rule(settings, &text(49)).as_deref(), Some("gopher-quality/too-few-words"));
    assert_eq!(rule(settings, &text(50)), None);
    let settings = format!("{settings}words_max = 60");
    assert_eq!(rule(&settings, &text(60)), None);
    assert_eq!(rule(&settings, &text(61)).as_deref(), Some("gopher-quality/too-many-words"));
}

#[test]
fn word_lengths_have_two_limits() {
    assert_eq!(rule(QUALITY, "eau été mer").as_deref(), None);
    assert_eq!(rule(QUALITY, "eau été le").as_deref(), Some("gopher-quality/words-too-short"));
    // Ten characters each, of which some are two bytes.
    assert_eq!(rule(QUALITY, "éééééééééé aaaaaaaaaa"), None);
    assert_eq!(rule(QUALITY, "éééééééééé aaaaaaaaaaa").as_deref(), Some("gopher-quality/words-too-long"));
}

#[test]
fn symbols_for_each_word() {
    // Ten words with one hash among them.
    let words = |n: usize| distinct(n).join(" ");
    assert_eq!(rule(QUALITY, &format!("{} #", words(9))), None);
    assert_eq!(rule(QUALITY, &format!("{} #", words(8))).as_deref(), Some("gopher-quality/too-many-hashes"));
    assert_eq!(rule(QUALITY, &format!("… {}", words(9))), None);
    assert_eq!(rule(QUALITY, &format!("... {}", words(8))).as_deref(), Some("gopher-quality/too-many-ellipses"));
}

#[test]
fn lines_of_bullets_and_ellipses() {
    let lines = |with: usize, mark: &str, without: usize| {
        let marked: Vec<String> = distinct(with).iter().map(|word| format!("{mark}{word} {word}")).collect();
        [marked, distinct(without)].concat().join("\n")
    };
    let settings = format!("{QUALITY}symbols_per_word_max = 9\nalphabetic_words_min = 0");
    assert_eq!(rule(&settings, &lines(9, "  - ", 1)), None);
    assert_eq!(rule(&settings, &lines(10, "• ", 1)).as_deref(), Some("gopher-quality/too-many-bullets"));
    let ends =
        |with: usize, without: usize| format!("{}\n{}", vec!["mot... "; with].join("\n"), distinct(without).join("\n"));
    assert_eq!(rule(&settings, &ends(3, 7)), None);
    assert_eq!(rule(&settings, &ends(4, 9)).as_deref(), Some("gopher-quality/too-many-ellipsis-lines"));
}

#[test]
fn words_have_letters() {
    assert_eq!(rule(QUALITY, "un deux trois quatre 55555"), None);
    assert_eq!(rule(QUALITY, "un deux trois 4444 quatre 55555").as_deref(), Some("gopher-quality/too-few-letters"));
}

#[test]
fn stop_words_are_those_of_the_language() {
    let settings = "use = ['gopher-quality']\n[test.gopher-quality]\nwords_min = 0\n";
    // Elided articles are words of their own.
    assert_eq!(rule(settings, "bonjour l'oiseau d'argent"), None);
    assert_eq!(rule(settings, "bonjour l'oiseau l'argent").as_deref(), Some("gopher-quality/too-few-stop-words"));
    assert_eq!(
        rule_in("en", settings, "bonjour l'oiseau d'argent").as_deref(),
        Some("gopher-quality/too-few-stop-words")
    );
    assert_eq!(rule_in("en", settings, "the bird that sings"), None);
    assert_eq!(rule_in("sl", settings, "dober dan vsem"), None);
}

#[test]
fn repeated_lines_and_paragraphs() {
    // 3 of 10 lines were there before; their characters are too few to count.
    let lines = |same: usize, other: usize| {
        let long = distinct(other).iter().map(|word| format!("{word} {}", word.repeat(9))).collect();
        [vec!["x".to_owned(); same + 1], long].concat().join("\n")
    };
    let settings = format!("{REPETITION}[test.gopher-repetition]\ntop_ngram_chars_max = [9, 9, 9]\n");
    assert_eq!(rule(&settings, &lines(3, 6)), None);
    assert_eq!(rule(&settings, &lines(4, 8)).as_deref(), Some("gopher-repetition/duplicate-lines"));
    let paragraphs = |same, other| lines(same, other).replace('\n', "\n\n");
    assert_eq!(rule(&settings, &paragraphs(3, 6)), None);
    assert_eq!(rule(&settings, &paragraphs(4, 8)).as_deref(), Some("gopher-repetition/duplicate-paragraphs"));
    // 20 of 100 characters are in a line that was there before.
    let text = format!("{0}\n{0}\n{1}", "y".repeat(20), "z".repeat(58));
    let settings = format!("{settings}duplicate_lines_max = 1\n");
    assert_eq!(text.len(), 100);
    assert_eq!(rule(&settings, &text), None);
    assert_eq!(rule(&settings, &text[..99]).as_deref(), Some("gopher-repetition/duplicate-line-chars"));
    assert_eq!(rule(REPETITION, "").as_deref(), Some("gopher-repetition/empty"));
}

#[test]
fn the_most_frequent_run_of_words() {
    let settings = format!("{REPETITION}[test.gopher-repetition]\ntop_ngram_chars_max = [0.2, 1, 1]\n");
    // "ab cd" is met twice in 50 characters, then in 49.
    let text = |rest: &str| format!("ab cd xyz ab cd {rest}");
    let rest = "e f g h i j k lmnopqrstuvwxyzabcde";
    assert_eq!((text(rest).len(), rule(&settings, &text(rest))), (50, None));
    assert_eq!(rule(&settings, &text(&rest[..33])).as_deref(), Some("gopher-repetition/top-2-gram"));
}

#[test]
fn repeated_runs_of_words() {
    let settings = format!("{REPETITION}[test.gopher-repetition]\ntop_ngram_chars_max = [9, 9, 9]\n");
    let run = distinct(5).join(" ");
    // 20 letters repeated; of 133 characters that is more than 0.15, of 134 it is not.
    let text = |length: usize| {
        let start = format!("{run} x {run} ");
        format!("{start}{}", "q".repeat(length - start.len()))
    };
    assert_eq!(rule(&settings, &text(134)), None);
    assert_eq!(rule(&settings, &text(133)).as_deref(), Some("gopher-repetition/duplicate-5-grams"));
    // A run of ten words is met by the last rule too.
    let settings = format!("{settings}duplicate_ngram_chars_max = [9, 9, 9, 9, 9, 0.1]\n");
    let run = distinct(10).join(" ");
    assert_eq!(rule(&settings, &format!("{run} {run}")).as_deref(), Some("gopher-repetition/duplicate-10-grams"));
}

#[test]
fn c4_drops_lines() {
    let config = toml::from_str("[test]\nuse = ['c4']\n[test.c4]\nsentences_min = 2\n").unwrap();
    let set = FilterSet::new("test", &config).unwrap();
    let long = format!("Un mot de {} lettres.", "l".repeat(1001));
    let text = format!(
        "Une phrase entière. \nSans point final\nDeux mots.\nDu Javascript est requis.\nVoir notre Privacy Policy ici.\n{long}\n\
         Une note[12] et une autre[citation needed] ici !\nUne suite...\nEt « voilà ». Il dit \"oui\""
    );
    let mut document = document("fr", &text);
    let notes = set.apply(&mut document, &mut Scratch::default()).unwrap();
    assert_eq!(document.text, "Une phrase entière.\nUne note et une autre ici !\nEt « voilà ». Il dit \"oui\"");
    assert_eq!((notes.lines_dropped, notes.bytes_dropped), (6, (text.len() - document.text.len()) as u64));
}

#[test]
fn c4_rejects_documents() {
    let settings = "use = ['c4']\n[test.c4]\nsentences_min = 3\n";
    assert_eq!(rule(settings, "Un deux trois. Quatre cinq. Six sept !"), None);
    assert_eq!(rule(settings, "Un deux trois. Quatre cinq, six sept !").as_deref(), Some("c4/too-few-sentences"));
    assert_eq!(rule(settings, "Un deux {trois}.").as_deref(), Some("c4/curly-bracket"));
    assert_eq!(rule(settings, "Le texte Lorem Ipsum est faux.").as_deref(), Some("c4/lorem-ipsum"));
    // A line that is dropped first does not reject.
    assert_eq!(rule(settings, "{ x\nUn deux trois. Quatre cinq. Six sept !"), None);
}

#[test]
fn fineweb_looks_at_lines() {
    let settings = "use = ['fineweb']\n";
    let long = "une ligne de plus de trente caractères sans fin";
    let lines = |ended: usize, open: usize| {
        let of = |n: usize, end: &str| (0..n).map(|i| format!("{long} {i}{end}")).collect::<Vec<_>>();
        [of(ended, "."), of(open, "")].concat().join("\n")
    };
    assert_eq!(rule(settings, &lines(3, 22)), None);
    assert_eq!(rule(settings, &lines(2, 23)).as_deref(), Some("fineweb/too-little-punctuation"));
    let short = |short: usize, long: usize| [distinct(short).join(" a b c.\n"), lines(long, 0)].join(" a b c.\n");
    assert_eq!(rule(settings, &short(67, 33)), None);
    assert_eq!(rule(settings, &short(68, 32)).as_deref(), Some("fineweb/too-many-short-lines"));
    // A line of 30 characters is short, one of 31 is not.
    assert_eq!(rule(settings, &format!("{} b c d.", "é".repeat(23))).as_deref(), Some("fineweb/too-many-short-lines"));
    assert_eq!(rule(settings, &format!("{} b c d.", "é".repeat(24))), None);
    let twice = |rest: usize| format!("{}\n{0}\n{}.", "aa bb cc.", "x ".repeat(rest));
    let settings = "use = ['fineweb']\n[test.fineweb]\nshort_lines_max = 1\n";
    assert_eq!(rule(settings, &twice(441)), None);
    assert_eq!(rule(settings, &twice(440)).as_deref(), Some("fineweb/duplicate-line-chars"));
    assert_eq!(rule(settings, "\n \n").as_deref(), Some("fineweb/empty"));
}

#[test]
fn fineweb_counts_newlines_for_words() {
    let settings = "use = ['fineweb']\n[test.fineweb]\nshort_lines_max = 1\n";
    // Three line feeds for ten words, then for nine.
    assert_eq!(rule(settings, "a b c\nd e\nf g\nh ij."), None);
    assert_eq!(rule(settings, "a b c\nd e\nf g\nhi.").as_deref(), Some("fineweb/list"));
}

#[test]
fn scans_have_few_stains() {
    let settings = "use = ['ocr']\n";
    let text = |garbage: usize, words: usize| format!("{} {}", "tlrfgh ".repeat(garbage), "maison ".repeat(words));
    assert_eq!(rule(settings, &text(3, 97)), None);
    assert_eq!(rule(settings, &text(3, 96)).as_deref(), Some("ocr/garbage"));
    let text = |single: usize, words: usize| format!("{} {}", "l ".repeat(single), "maison ".repeat(words));
    assert_eq!(rule(settings, &text(15, 85)), None);
    assert_eq!(rule(settings, &text(16, 84)).as_deref(), Some("ocr/single-letters"));
    let mut scored = document("fr", "maison");
    scored.meta.quality_signals = Some(r#"{"ocr": 80}"#.into());
    let books = FilterSet::new("books", &FiltersConfig::new()).unwrap();
    assert_eq!(books.apply(&mut scored, &mut Scratch::default()).unwrap_err().rule, "ocr/low-score");
}

#[test]
fn a_dictionary_knows_words() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "le\nChat\n").unwrap();
    let settings =
        format!("use = ['ocr']\n[test.ocr]\nsingle_letters_max = 1\ndictionary = {{ fr = {:?} }}\n", file.path());
    assert_eq!(rule(&settings, "le chat le un un"), None);
    assert_eq!(rule(&settings, "le chat un un un").as_deref(), Some("ocr/unknown-words"));
    assert_eq!(rule_in("en", &settings, "an an"), None);
}

#[test]
fn sets_are_based_on_others() {
    let config: FiltersConfig = toml::from_str(
        "[web]\nbase = 'web'\n[web.gopher-quality]\nwords_min = 7\n[mine]\nbase = 'web'\nuse = ['gopher-quality', 'c4']\n\
         [mine.gopher-quality]\nword_length_max = 12\n",
    )
    .unwrap();
    let mine = FilterSettings::resolve("mine", &config).unwrap();
    assert_eq!(mine.filters, [Filter::GopherQuality, Filter::C4]);
    assert_eq!((mine.gopher_quality.words_min, mine.gopher_quality.word_length_max), (7, 12.0));
    assert!(!mine.c4.terminal_punctuation);
    let error = |text: &str| FilterSettings::resolve("x", &toml::from_str(text).unwrap()).unwrap_err().to_string();
    assert!(error("[y]\n").starts_with("filters.x: no set of filters has this name"));
    assert_eq!(error("[x]\nbase = 'y'\n[y]\nbase = 'x'\n"), "filters.x: its bases lead back to itself");
    assert!(error("[x.c4]\nsentence_min = 3\n").starts_with("filters.x.c4: unknown field `sentence_min`"));
    assert_eq!(
        error("[x.fineweb]\nshort_lines_max = 2\n"),
        "filters.x.fineweb: short_lines_max is 2, expected a share: 0 to 1"
    );
    assert!(toml::from_str::<FiltersConfig>("[x]\nuse = ['gopher']\n").is_err());
}

#[test]
fn builtin_sets_are_the_published_ones() {
    for name in BUILTIN {
        FilterSet::new(name, &FiltersConfig::new()).unwrap();
    }
    let french = FilterSettings::resolve("web-fr", &FiltersConfig::new()).unwrap();
    assert_eq!(french.gopher_repetition.top_ngram_chars_max, [0.161, 0.149, 0.134]);
    assert_eq!(french.gopher_repetition.duplicate_lines_max, 0.264);
    assert_eq!((french.gopher_quality.word_length_min, french.gopher_quality.word_length_max), (2.0, 11.0));
    assert_eq!(french.gopher_quality.stop_words["fr"].len(), 18);
    assert_eq!((french.fineweb.newlines_per_word_max, french.fineweb.punctuated_lines_min), (0.185, 0.1));
    // Written out and read again, settings are the same.
    let written = toml::to_string(&french).unwrap();
    assert_eq!(toml::from_str::<FilterSettings>(&written).unwrap(), french);
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict_that_depends_on_nothing_else(
        texts in proptest::collection::vec("(\\PC|\n|[a-c ]){0,200}", 1..4),
        set in "web|web-fr|books",
        language in "fr|en|de|zz|fr,en|code:python|",
    ) {
        let set = FilterSet::new(&set, &FiltersConfig::new()).unwrap();
        let mut shared = Scratch::default();
        for text in &texts {
            let [mut a, mut b] = [(); 2].map(|()| document(&language, text));
            let verdict = set.apply(&mut a, &mut shared);
            prop_assert_eq!(verdict, set.apply(&mut b, &mut Scratch::default()));
            prop_assert_eq!(a, b);
        }
    }
}
