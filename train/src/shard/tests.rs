use super::*;
use proptest::prelude::*;

fn shard(vocab_size: u32, documents: &[&[u32]]) -> Vec<u8> {
    let mut writer = ShardWriter::new(vocab_size);
    documents.iter().for_each(|document| writer.push(document).unwrap());
    assert_eq!(
        (writer.len_bytes(), writer.documents()),
        (writer.clone().finish().len() as u64, documents.len() as u64)
    );
    writer.finish()
}

fn refusal(bytes: Vec<u8>) -> String {
    match ShardReader::from_bytes(bytes) {
        Ok(_) => "accepted".to_string(),
        Err(error) => error.to_string(),
    }
}

fn with_u32(bytes: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn with_u64(bytes: &[u8], at: usize, value: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn the_bytes_are_those_of_the_table() {
    let bytes = shard(300, &[&[0, 299, 1], &[7]]);
    let mut expected = b"ESSAIMSH".to_vec();
    expected.extend([1, 0, 0, 0, 2, 0, 0, 0, 0x2c, 1, 0, 0, 0, 0, 0, 0]);
    expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([3, 0, 0, 0, 1, 0, 0, 0]);
    expected.extend([0, 0, 0x2b, 1, 1, 0, 7, 0]);
    assert_eq!(bytes, expected);
    let wide = shard(65_537, &[&[65_536, 2]]);
    assert_eq!((wide[12], &wide[44..]), (4, [0, 0, 1, 0, 2, 0, 0, 0].as_slice()));
    assert_eq!(shard(65_536, &[&[65_535]])[12], 2);
}

#[test]
fn units_are_rows_from_far_apart_and_cover_each_sequence_once() {
    let tokens: Vec<u32> = (0..101).collect();
    let mut reader = ShardReader::from_bytes(shard(200, &[&tokens])).unwrap();
    assert_eq!((reader.sequences(10), reader.units(3, 10)), (10, 3));
    // Row b of unit u is sequence 3b + u.
    let unit = reader.unit_tokens(3, 10, 1).unwrap();
    let rows: Vec<Vec<u32>> = [10, 40, 70].map(|start| (start..start + 11).collect()).to_vec();
    assert_eq!(unit, rows.concat());
    let mut firsts: Vec<u32> =
        (0..3).flat_map(|u| reader.unit_tokens(3, 10, u).unwrap().into_iter().step_by(11)).collect();
    firsts.sort_unstable();
    assert_eq!(firsts, [0, 10, 20, 30, 40, 50, 60, 70, 80]);
    let past = reader.unit_tokens(3, 10, 3).unwrap_err().to_string();
    assert_eq!(past, "shard: unit 3 asked for, there are 3");
    for (batch, context) in [(0, 10), (3, 0), (0, 0), (u32::MAX, u32::MAX)] {
        assert_eq!(reader.units(batch, context), 0);
        assert!(reader.unit_tokens(batch, context, 0).is_err());
    }
    // The last sequence needs its target: 101 tokens hold 10 sequences of 10, 100 hold 9.
    assert_eq!((sequences(101, 10), sequences(100, 10), sequences(1, 10), sequences(0, 10)), (10, 9, 0, 0));
}

#[test]
fn documents_and_ranges_are_read_and_bounded() {
    let mut reader = ShardReader::from_bytes(shard(9, &[&[0, 5, 1], &[0, 1], &[8]])).unwrap();
    assert_eq!((reader.documents(), reader.tokens(), reader.vocab_size()), (3, 6, 9));
    assert_eq!(reader.document(0).unwrap(), [0, 5, 1]);
    assert_eq!(reader.document(2).unwrap(), [8]);
    assert_eq!(reader.document_range(1).unwrap(), 3..5);
    assert_eq!(reader.read_tokens(2..4).unwrap(), [1, 0]);
    assert_eq!(reader.read_tokens(6..6).unwrap(), [0u32; 0]);
    let backwards = Range { start: 5, end: 2 };
    assert_eq!(reader.read_tokens(backwards).unwrap(), [0u32; 0]);
    assert_eq!(reader.document(3).unwrap_err().to_string(), "shard: document 3 asked for, there are 3");
    assert_eq!(reader.read_tokens(2..7).unwrap_err().to_string(), "shard: tokens up to 7 asked for, there are 6");
    assert!(reader.read_tokens(u64::MAX..u64::MAX).is_err());
    assert!(reader.document(u64::MAX).is_err());
}

#[test]
fn a_file_is_read_like_bytes_and_checked_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.shard");
    let tokens: Vec<u32> = (0..100_000).map(|i| i % 70_000).collect();
    let bytes = shard(70_000, &[&tokens]);
    std::fs::write(&path, &bytes).unwrap();
    let mut reader = ShardReader::open(&path).unwrap();
    assert_eq!(reader.document(0).unwrap(), tokens);
    assert_eq!(reader.read_tokens(69_999..70_001).unwrap(), [69_999, 0]);
    std::fs::write(&path, with_u32(&bytes, 44 + 4 * 50, 70_000)).unwrap();
    let changed = reader.read_tokens(40..60).unwrap_err().to_string();
    assert_eq!(changed, "shard: token 50 is 70000, the vocabulary has 70000");
    assert!(matches!(ShardReader::open(&folder.path().join("absent")), Err(ShardError::Io(_))));
}

#[test]
fn malformed_shards_are_refused_with_the_reason() {
    let good = shard(300, &[&[0, 299, 1], &[7]]);
    assert_eq!(refusal(good.clone()), "accepted");
    let says = |bytes: Vec<u8>, reason: &str| assert_eq!(refusal(bytes), reason);
    says(Vec::new(), "shard of 0 bytes, where 40 to 1073741824 are allowed");
    says(good[..39].to_vec(), "shard of 39 bytes, where 40 to 1073741824 are allowed");
    says(good[..55].to_vec(), "shard of 55 bytes, where 2 documents and 4 tokens take 56");
    says([good.clone(), vec![0]].concat(), "shard of 57 bytes, where 2 documents and 4 tokens take 56");
    says(
        [b"PAR1".as_slice(), &good[4..]].concat(),
        "not a shard: begins with [50, 41, 52, 31, 49, 4d, 53, 48] instead of \"ESSAIMSH\"",
    );
    says(with_u32(&good, 8, 2), "shard of version 2, this build reads 1");
    says(with_u32(&good, 12, 4), "shard: the token width is 4, expected 2");
    says(with_u32(&good, 20, 1), "shard: the flags field is 1, expected 0");
    says(with_u32(&good, 16, 299), "shard: token 1 is 299, the vocabulary has 299");
    says(with_u32(&good, 40, 0), "shard: document 0 is empty");
    says(with_u32(&good, 44, 2), "shard: the sum of the documents' lengths is 5, expected 4");
    // Counts that would overflow or exhaust memory are compared with the length first.
    for (at, value) in [(24, u64::MAX), (32, u64::MAX), (24, 1 << 62), (32, 1 << 40)] {
        assert!(refusal(with_u64(&good, at, value)).starts_with("shard of 56 bytes, where "));
    }
}

#[test]
fn a_writer_refuses_what_a_reader_would() {
    let mut writer = ShardWriter::new(10);
    assert_eq!(writer.push(&[]).unwrap_err().to_string(), "shard: document 0 is empty");
    writer.push(&[9]).unwrap();
    assert_eq!(writer.push(&[1, 10]).unwrap_err().to_string(), "shard: token 2 is 10, the vocabulary has 10");
    assert_eq!((writer.documents(), writer.tokens()), (1, 1));
    // An empty shard is a shard.
    assert_eq!(ShardReader::from_bytes(ShardWriter::new(10).finish()).unwrap().documents(), 0);
}

proptest! {
    #[test]
    fn what_is_written_is_read(vocab_size in prop::sample::select(vec![10u32, 65_536, 65_537]),
                               documents in prop::collection::vec(prop::collection::vec(0u32..10, 1..40), 0..12)) {
        let slices: Vec<&[u32]> = documents.iter().map(Vec::as_slice).collect();
        let mut reader = ShardReader::from_bytes(shard(vocab_size, &slices)).unwrap();
        for (i, document) in documents.iter().enumerate() {
            prop_assert_eq!(&reader.document(i as u64).unwrap(), document);
        }
        prop_assert_eq!(reader.read_tokens(0..reader.tokens()).unwrap(), documents.concat());
    }

    #[test]
    fn a_flipped_header_bit_is_refused_or_gives_a_valid_shard(at in 0usize..48, bit in 0u8..8) {
        let mut bytes = shard(300, &[&[0, 299, 1], &[7]]);
        bytes[at] ^= 1 << bit;
        if let Ok(mut reader) = ShardReader::from_bytes(bytes) {
            // Only a larger vocabulary of the same width leaves a shard.
            prop_assert!((16..20).contains(&at) && reader.vocab_size() > 300);
            prop_assert_eq!(reader.document(0).unwrap(), vec![0, 299, 1]);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ShardReader::from_bytes([MAGIC.as_slice(), &bytes].concat());
        let _ = ShardReader::from_bytes(bytes);
    }
}
