//! The tokenizer: the same bytes every time, lossless, and equal to the library's own way.
#![allow(clippy::unwrap_used)]

mod common;

use essaim_corpus::document::{Document, normalise};
use essaim_corpus::tokenizer::encode::Encoder;
use essaim_corpus::tokenizer::split::{pattern, split};
use essaim_corpus::tokenizer::train::{inner_form, train};
use proptest::prelude::*;
use std::sync::LazyLock;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior, Tokenizer};

static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    let mut documents = common::corpus();
    // What could be mistaken for special tokens, often enough to be learned.
    documents[0].text += &"<s>a</s> <unk> <pad> <0x41> <0xFF> ▁ ▁▁x ".repeat(200);
    documents
});
fn texts(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|document| document.text.clone()).collect()
}

static TRAINED: LazyLock<Vec<u8>> = LazyLock::new(|| train(texts(&DOCUMENTS), 700).unwrap());
static ENCODER: LazyLock<Encoder> = LazyLock::new(|| Encoder::new(&TRAINED).unwrap());
static SPLITTER: LazyLock<Split> =
    LazyLock::new(|| Split::new(SplitPattern::Regex(pattern()), SplitDelimiterBehavior::Isolated, false).unwrap());

fn encode(text: &str) -> Vec<u32> {
    ENCODER.encode_all(&[text], |_| {}).unwrap().remove(0)
}

#[test]
fn training_gives_the_same_bytes_whatever_the_order() {
    let mut documents = texts(&DOCUMENTS);
    for _ in 0..3 {
        documents.reverse();
        documents.rotate_left(77);
        assert!(train(documents.clone(), 700).unwrap() == *TRAINED);
    }
    let vocab = Tokenizer::from_bytes(TRAINED.as_slice()).unwrap().get_vocab(true);
    let mut ids: Vec<u32> = vocab.values().copied().collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..700).collect::<Vec<_>>());
    let id = |token: &str| vocab[token];
    assert_eq!(["<s>", "</s>", "<unk>", "<pad>", "<0x00>", "<0xFF>"].map(id), [0, 1, 2, 3, 4, 259]);
    assert!(vocab.contains_key("▁forêt") && vocab.contains_key("▁l'"));
    // No merge runs over a digit or from punctuation into letters.
    let word =
        |token: &str| token.chars().any(char::is_alphabetic) && token.chars().any(|c| "<>(.0123456789".contains(c));
    let odd: Vec<&String> = vocab
        .iter()
        .filter(|(token, id)| **id > 259 && word(token) && !token.starts_with("<unused"))
        .map(|(t, _)| t)
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
fn a_small_corpus_fills_up_with_unused_tokens() {
    let bytes = train(texts(&DOCUMENTS[..2]), 5000).unwrap();
    let encoder = Encoder::new(&bytes).unwrap();
    assert_eq!(encoder.vocab_size(), 5000);
    let vocab = Tokenizer::from_bytes(&bytes).unwrap().get_vocab(true);
    let unused = vocab.keys().filter(|token| token.starts_with("<unused")).count();
    assert!(unused > 3000 && vocab["<unused0>"] as usize == 5000 - unused);
    assert!(train(texts(&DOCUMENTS), 260).is_err());
}

#[test]
fn a_tokenizer_with_other_rules_goes_the_library_s_way() {
    let mut whole: serde_json::Value = serde_json::from_slice(&TRAINED).unwrap();
    whole["pre_tokenizer"] = serde_json::Value::Null;
    whole["truncation"] = serde_json::json!(
        {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    let encoder = Encoder::new(whole.to_string().as_bytes()).unwrap();
    assert!(!encoder.by_words());
    let text = "L'arbre est dans la forêt, <s> déjà.";
    let tokens = encoder.encode_all(&[text], |_| {}).unwrap().remove(0);
    // A document is never cut, whatever the file says.
    assert!(tokens.len() > 5 && encoder.check(text, &tokens).unwrap());
    assert_eq!(encoder.encode_by_library(text).unwrap(), tokens);
    whole["model"]["dropout"] = serde_json::json!(0.1);
    let refusal = Encoder::new(whole.to_string().as_bytes()).unwrap_err().to_string();
    assert!(refusal.contains("dropout"), "{refusal}");
}

#[test]
fn special_tokens_in_a_text_are_its_characters() {
    let text = "<s>a</s> <unk> <pad> <0x41> <0xFF>";
    let tokens = encode(text);
    assert!(tokens[1..tokens.len() - 1].iter().all(|&token| token >= 260), "{tokens:?}");
    assert!(ENCODER.check(text, &tokens).unwrap() && ENCODER.by_words());
    // Outside this crate, too: the post-processor puts <s> before a prompt.
    let library = Tokenizer::from_bytes(TRAINED.as_slice()).unwrap();
    let prompt = library.encode("L'arbre", true).unwrap();
    assert_eq!(prompt.get_ids(), &encode("L'arbre")[..prompt.len()]);
}

#[test]
fn texts_of_all_kinds_come_back() {
    let texts = [
        "",
        " ",
        "▁",
        "▁▁ ▁a▁ b ▁",
        "  deux  espaces\n\n\n\tfin ",
        "漢字かな🙂👩‍👩‍👧 Ψυχή",
        "1789\u{a0}! «\u{202f}oui\u{202f}»",
        "e\u{301}\0\r\n",
        "\u{FDD0}",
        "\u{feff}BOM",
        "'''",
        "’a’",
        "\u{1}\u{7f}\u{85}\u{2028}",
        "ﬁ ﷺ \u{10ffff}",
        "&&--~~[[^]]\\",
    ];
    for text in texts.map(normalise) {
        let tokens = encode(&text);
        assert!(ENCODER.check(&text, &tokens).unwrap(), "{text:?}");
        assert!(!tokens.contains(&2));
    }
}

/// Words by the regular expression, as the library splits.
fn by_pattern(text: &str) -> Vec<String> {
    let mut pieces = PreTokenizedString::from(text);
    SPLITTER.pre_tokenize(&mut pieces).unwrap();
    pieces
        .get_splits(OffsetReferential::Original, OffsetType::Byte)
        .into_iter()
        .map(|(word, _, _)| word.to_owned())
        .collect()
}

/// Characters that decide where words end, and any others.
fn characters() -> impl Strategy<Value = String> {
    let edge = prop::sample::select(" ▁\n\t'’aé1٣.,!«»—\u{a0}\u{202f}<>s/0xF×÷\u{7f}\u{80}\u{bf}\u{c0}\u{1fff}\u{2000}\u{2580}\u{2582}\u{2bff}\u{2c00}\u{3000}\u{303f}\u{3040}\u{fe10}\u{ff01}\u{b}\u{85}\u{301}漢🙂".chars().collect::<Vec<_>>());
    prop::collection::vec(prop_oneof![6 => edge, 1 => any::<char>()], 0..40).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_two_ways_agree_and_nothing_is_lost(text in characters()) {
        let text = normalise(&text);
        let tokens = encode(&text);
        prop_assert!(ENCODER.check(&text, &tokens).is_ok_and(|lossless| lossless), "{text:?} {tokens:?}");
    }

    #[test]
    fn words_are_those_of_the_pattern(text in characters()) {
        let inner = inner_form(&text);
        prop_assert_eq!(split(&inner).map(str::to_owned).collect::<Vec<_>>(), by_pattern(&inner));
    }

    #[test]
    fn normalising_twice_changes_nothing(text in any::<String>()) {
        let once = normalise(&text);
        prop_assert_eq!(normalise(&once), once);
    }
}
