use super::*;
use crate::document::Meta;
use proptest::prelude::*;
use std::io::Write;

const FRENCH: &str = "Tous les êtres humains naissent libres et égaux en dignité et en droits.";
const ENGLISH: &str = "All human beings are born free and equal in dignity and rights.";

fn document(language: &str, text: &str) -> Document {
    let meta = Meta::default();
    let [id, source, license] = ["1", "test", "MIT"].map(String::from);
    Document { id, source, language: language.into(), license, text: text.into(), meta }
}

fn check(config: &LanguageConfig, language: &str, text: &str) -> Result<String, String> {
    let mut document = document(language, text);
    let identifier = Identifier::load(config).unwrap();
    identifier.check(&mut document).map(|_| document.language).map_err(|rejection| rejection.rule.into_owned())
}

#[test]
fn documents_are_in_their_language() {
    let config = LanguageConfig::default();
    let ok = |language: &str| Ok(language.to_owned());
    assert_eq!(check(&config, "fr", FRENCH), ok("fr"));
    assert_eq!(check(&config, "fr,en", ENGLISH), ok("fr,en"));
    assert_eq!(check(&config, "und", FRENCH), ok("fr"));
    assert_eq!(check(&config, "", FRENCH), ok("fr"));
    assert_eq!(check(&config, "fr", ENGLISH), Err("language/other".into()));
    assert_eq!(check(&config, "fr", "12 34"), Err("language/other".into()));
    assert_eq!(check(&config, "und", "12 34"), Err("language/unsure".into()));
    // Code and languages that it does not know.
    assert_eq!(check(&config, "code:python", ENGLISH), ok("code:python"));
    assert_eq!(check(&config, "br", ENGLISH), ok("br"));
    let relabel = LanguageConfig { on_other: OnOther::Relabel, ..config.clone() };
    assert_eq!(check(&relabel, "fr", ENGLISH), ok("en"));
    let off = LanguageConfig { identify: false, model: Some("/no/such".into()), ..config };
    assert_eq!(check(&off, "fr", ENGLISH), ok("fr"));
}

#[test]
fn thresholds_are_of_the_language() {
    // Two thirds are French.
    let text = format!("{} {}", format!("{FRENCH} ").repeat(16), format!("{ENGLISH} ").repeat(8));
    let share = Identifier::load(&LanguageConfig::default()).unwrap().identify(&text).probability;
    assert!((0.5..0.9).contains(&share), "{share}");
    let with =
        |threshold: f64| LanguageConfig { thresholds: [("fr".to_owned(), threshold)].into(), ..Default::default() };
    assert_eq!(check(&with(f64::from(share)), "fr", &text), Ok("fr".into()));
    assert_eq!(check(&with(f64::from(share) + 0.001), "fr", &text), Err("language/unsure".into()));
    let error = Identifier::load(&with(1.5)).unwrap_err().to_string();
    assert_eq!(error, "language.thresholds.fr is 1.5, expected a probability: 0 to 1");
}

/// A small model by hand: `le` is French, `the` is English, and the end of a line is neither.
struct Small {
    bytes: Vec<u8>,
}

impl Small {
    fn new(loss: i32) -> Small {
        let mut bytes = Vec::new();
        let ints =
            |bytes: &mut Vec<u8>, values: &[i32]| values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        ints(&mut bytes, &[793_712_314, 12, 2, 5, 5, 1, 5, 1, loss, 3, 0, 0, 0, 100]);
        bytes.extend(1e-4_f64.to_le_bytes());
        ints(&mut bytes, &[5, 3, 2]);
        [30_i64, -1].iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        for (word, count, kind) in
            [("</s>", 9_i64, 0_u8), ("le", 8, 0), ("the", 7, 0), ("__label__fra_Latn", 6, 1), ("__label__en", 5, 1)]
        {
            bytes.extend(word.as_bytes());
            bytes.push(0);
            bytes.extend(count.to_le_bytes());
            bytes.push(kind);
        }
        let matrix = |bytes: &mut Vec<u8>, rows: i64, values: &[f32]| {
            bytes.push(0);
            [rows, 2].iter().for_each(|value| bytes.extend(value.to_le_bytes()));
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        };
        matrix(&mut bytes, 3, &[0.0, 0.0, 2.0, 0.0, 0.0, 2.0]);
        matrix(&mut bytes, 2, &[3.0, -3.0, -3.0, 3.0]);
        Small { bytes }
    }

    fn identifier(bytes: &[u8]) -> Result<Identifier, LanguageError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Identifier::load(&LanguageConfig { model: Some(file.path().to_owned()), ..Default::default() })
    }
}

#[test]
fn a_model_says_what_fasttext_says() {
    // Softmax of (3, -3): the hidden vector of "le" is the mean of its row and that of the line's end.
    let identifier = Small::identifier(&Small::new(3).bytes).unwrap();
    let expected = (1.0 / (1.0 + (-6.0_f64).exp()) + 1e-5) as f32;
    let guess = identifier.identify("le\nle  unknown");
    assert_eq!(guess.language, "fr");
    // Two of three rows, the unknown word has none.
    let two_thirds = (1.0 / (1.0 + (-8.0_f64).exp()) + 1e-5) as f32;
    assert!((guess.probability - two_thirds).abs() < 1e-6, "{}", guess.probability);
    let guess = identifier.identify("the");
    assert_eq!(guess.language, "en");
    assert!((guess.probability - expected).abs() < 1e-6, "{}", guess.probability);
    // One sigmoid a label, from the table; and a tree of one node.
    let guess = Small::identifier(&Small::new(4).bytes).unwrap().identify("le");
    let expected = (1.0 / (1.0 + (-3.0_f64).exp()) + 1e-5) as f32;
    assert!((guess.probability - expected).abs() < 1e-6, "{}", guess.probability);
    let guess = Small::identifier(&Small::new(1).bytes).unwrap().identify("le");
    assert_eq!((guess.language.as_str(), guess.probability > 0.9), ("fr", true));
}

#[test]
fn a_damaged_model_is_one_clear_error() {
    let whole = Small::new(3).bytes;
    for length in 0..whole.len() {
        let error = Small::identifier(&whole[..length]).unwrap_err().to_string();
        assert!(error.contains("not a whole fastText model") && !error.contains('\n'), "{error}");
    }
    let error = Small::identifier(&whole[1..]).unwrap_err().to_string();
    assert!(error.contains("it does not begin as fastText's models do"), "{error}");
    let missing = LanguageConfig { model: Some("/no/such".into()), ..Default::default() };
    assert!(Identifier::load(&missing).unwrap_err().to_string().starts_with("language.model: /no/such: "));
}

#[test]
fn a_long_text_is_sampled() {
    let text = "mot ".repeat(50_000);
    let pieces = sample(&text, 8000);
    assert_eq!(pieces.len(), PIECES);
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    assert!((8000..8100).contains(&length), "{length}");
    assert!(pieces[1..].iter().all(|piece| piece.starts_with(' ') && piece.ends_with('t')));
    assert_eq!(sample(&text, 0), [text.as_str()]);
    assert_eq!(sample("é", 1).len(), PIECES);
}

proptest! {
    #[test]
    fn bytes_of_a_model_may_change(at in 0_usize..300, value in any::<u8>(), text in "(le|the|[a-z])( (le|the|x)){0,9}") {
        let mut bytes = Small::new(1).bytes;
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(identifier) = Small::identifier(&bytes) {
            identifier.identify(&text);
        }
    }

    #[test]
    fn any_text_is_in_some_language(text in any::<String>(), bytes in 0_usize..64) {
        let config = LanguageConfig { sample_bytes: bytes, ..Default::default() };
        let guess = Identifier::load(&config).unwrap().identify(&text);
        prop_assert!((0.0..=1.0).contains(&guess.probability));
    }
}
