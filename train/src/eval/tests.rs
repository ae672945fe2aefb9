use super::*;
use crate::config::tests::config;
use crate::init::initial_parameters;
use crate::shard::ShardWriter;

const VOCAB: u32 = 40;

/// Tokens `a`, `aa`, …: token `i` spells `i` bytes; 0 and 1 are special.
fn token_bytes() -> TokenBytes {
    let vocab: serde_json::Map<String, serde_json::Value> = (2..VOCAB)
        .map(|id| ("a".repeat(id as usize), id.into()))
        .chain([("<s>".to_owned(), 0.into()), ("</s>".to_owned(), 1.into())])
        .collect();
    let special = |id: u32, content: &str| serde_json::json!({"id": id, "content": content, "special": true});
    let json = serde_json::json!({
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "model": {"vocab": vocab},
    });
    TokenBytes::from_tokenizer_json(json.to_string().as_bytes()).unwrap()
}

/// A document with `len` tokens between `<s>` and `</s>`.
fn document(len: u32) -> Vec<u32> {
    (0..len)
        .fold(vec![0], |mut tokens, i| {
            tokens.push(2 + i * 7 % (VOCAB - 2));
            tokens
        })
        .into_iter()
        .chain([1])
        .collect()
}

fn shard(lengths: &[u32]) -> ShardReader<std::io::Cursor<Vec<u8>>> {
    let mut writer = ShardWriter::new(VOCAB);
    lengths.iter().for_each(|&len| writer.push(&document(len)).unwrap());
    ShardReader::from_bytes(writer.finish()).unwrap()
}

fn evaluate(threads: usize, lengths: &[u32], tokens_max: u64) -> ShardLoss {
    let config = config([VOCAB, 24, 2, 4, 2, 48, 8], false);
    let exec = Exec::detect(threads).unwrap();
    let params = initial_parameters(&exec, &[9; 32], &config);
    let mut evaluator = Evaluator::new(&config);
    evaluate_shard(&exec, &mut evaluator, &params, &mut shard(lengths), &token_bytes(), tokens_max).unwrap()
}

#[test]
fn documents_are_taken_whole_until_the_next_would_exceed_the_limit() {
    let tokens = |lengths: &[u32], max| evaluate(1, lengths, max).tokens;
    // A document of n tokens between its ends predicts n + 1.
    assert_eq!(tokens(&[3, 20, 5], 1000), 4 + 21 + 6);
    assert_eq!(tokens(&[3, 20, 5], 30), 4 + 21);
    assert_eq!(tokens(&[3, 20, 5], 24), 4);
    assert_eq!(tokens(&[3, 20, 5], 0), 4);
    assert_eq!(tokens(&[], 10), 0);
}

#[test]
fn the_sum_is_that_of_documents_alone_in_windows_of_the_context() {
    let config = config([VOCAB, 24, 2, 4, 2, 48, 8], false);
    let exec = Exec::detect(1).unwrap();
    let params = initial_parameters(&exec, &[9; 32], &config);
    let mut evaluator = Evaluator::new(&config);
    let (mut nats, mut text_bytes) = (0.0f64, 0);
    for len in [3u32, 20] {
        let document = document(len);
        for start in (0..document.len() - 1).step_by(8) {
            let end = (start + 8).min(document.len() - 1);
            let mut losses = vec![0.0; end - start];
            evaluator.losses(&exec, &params, &document[start..end], &document[start + 1..=end], &mut losses);
            losses.iter().for_each(|&loss| nats += f64::from(loss));
        }
        text_bytes += document.iter().filter(|&&token| token > 1).map(|&token| u64::from(token)).sum::<u64>();
    }
    for threads in [1, 2, 3] {
        let got = evaluate(threads, &[3, 20, 5], 25);
        assert_eq!((got.nats.to_bits(), got.tokens, got.text_bytes), (nats.to_bits(), 25, text_bytes));
    }
    // About uniform at the start of a run.
    assert!((nats / 25.0 - f64::from(VOCAB).ln()).abs() < 0.1, "{nats}");
}

#[test]
fn a_shard_of_another_vocabulary_is_refused() {
    let config = config([VOCAB - 1, 24, 2, 4, 2, 48, 8], false);
    let exec = Exec::detect(1).unwrap();
    let params = initial_parameters(&exec, &[9; 32], &config);
    let mut evaluator = Evaluator::new(&config);
    let error = evaluate_shard(&exec, &mut evaluator, &params, &mut shard(&[3]), &token_bytes(), 10).unwrap_err();
    assert!(matches!(error, EvalError::Vocabulary { shard: 40, tokenizer: 40, model: 39 }), "{error}");
}

/// A checkpoint that is not finite has a loss of the one NaN, whatever processor found it.
#[test]
fn a_loss_that_is_not_a_number_is_the_canonical_one() {
    let config = config([VOCAB, 24, 2, 4, 2, 48, 8], false);
    for path in essaim_kernels::Path::available() {
        let exec = Exec::new(path, 1).unwrap();
        let mut params = initial_parameters(&exec, &[9; 32], &config);
        params[VOCAB as usize * 24 + 40] = -f32::NAN;
        let mut evaluator = Evaluator::new(&config);
        let got = evaluate_shard(&exec, &mut evaluator, &params, &mut shard(&[3]), &token_bytes(), 10).unwrap();
        assert_eq!(got.nats.to_bits(), 0x7ff8_0000_0000_0000, "{path}");
    }
}
