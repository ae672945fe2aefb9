//! The download machine under adversarial schedules: any order of answers, any mix of providers.
#![allow(clippy::unwrap_used)]

use essaim_network::blob::{
    BlobRequest, BlobResponse, Download, Failure, Outcome, PIECE_LEN, PeerFault, Unavailable, hash_file,
};
use essaim_protocol::ids::Hash;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Six and a bit pieces.
const LEN: usize = 6 * PIECE_LEN + 1234;

struct Blob {
    content: Vec<u8>,
    list: Vec<u8>,
    hash: Hash,
}

fn blob() -> &'static Blob {
    static BLOB: OnceLock<Blob> = OnceLock::new();
    BLOB.get_or_init(|| {
        let mut content = vec![0u8; LEN];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("blob");
        std::fs::write(&file, &content).unwrap();
        let outboard = hash_file(&file).unwrap();
        Blob { content, list: outboard.to_bytes(), hash: outboard.hash() }
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    Absent,
    FlipsPieces,
    FlipsLastPieceOnly,
    FlipsList,
    ClaimsShorter,
    ClaimsOnePiece,
    ClaimsHuge,
    /// A list of inner nodes: it merges to the hash, and claims four pieces fewer.
    InnerNodes,
    SwapsPieces,
    TimesOut,
}

use Kind::*;

const KINDS: [Kind; 11] = [
    Honest,
    Absent,
    FlipsPieces,
    FlipsLastPieceOnly,
    FlipsList,
    ClaimsShorter,
    ClaimsOnePiece,
    ClaimsHuge,
    InnerNodes,
    SwapsPieces,
    TimesOut,
];

fn piece(index: u32) -> Vec<u8> {
    let start = index as usize * PIECE_LEN;
    blob().content[start.min(LEN)..(start + PIECE_LEN).min(LEN)].to_vec()
}

fn merge(left: &[u8], right: &[u8]) -> Vec<u8> {
    use blake3::hazmat::{Mode, merge_subtrees_non_root};
    merge_subtrees_non_root(left.try_into().unwrap(), right.try_into().unwrap(), Mode::Hash).to_vec()
}

/// What a provider of this kind answers; `None` for no answer.
fn answer(kind: Kind, ask: BlobRequest) -> Option<BlobResponse> {
    let list = &blob().list;
    let value = |n: usize| &list[n * 32..(n + 1) * 32];
    Some(match (kind, ask) {
        (TimesOut, _) => return None,
        (Absent, _) => BlobResponse::NotFound,
        (ClaimsShorter, BlobRequest::Stat(_)) => BlobResponse::Stat((3 * PIECE_LEN) as u64),
        (ClaimsOnePiece, BlobRequest::Stat(_)) => BlobResponse::Stat(10),
        (ClaimsHuge, BlobRequest::Stat(_)) => BlobResponse::Stat(u64::MAX),
        // Seven pieces are merged as (0 1 2 3) (4 5) 6; three are merged as (a b) c.
        (InnerNodes, BlobRequest::Stat(_)) => BlobResponse::Stat((2 * PIECE_LEN + 5) as u64),
        (InnerNodes, BlobRequest::Outboard(_)) => BlobResponse::Outboard(
            [merge(value(0), value(1)), merge(value(2), value(3)), merge(&merge(value(4), value(5)), value(6))]
                .concat(),
        ),
        (_, BlobRequest::Stat(_)) => BlobResponse::Stat(LEN as u64),
        (FlipsList, BlobRequest::Outboard(_)) => {
            let mut list = list.clone();
            list[100] ^= 8;
            BlobResponse::Outboard(list)
        }
        (_, BlobRequest::Outboard(_)) => BlobResponse::Outboard(list.clone()),
        (SwapsPieces, BlobRequest::Piece(_, index)) => BlobResponse::Piece(piece(index ^ 1)),
        (FlipsLastPieceOnly, BlobRequest::Piece(_, index)) if index != 6 => BlobResponse::Piece(piece(index)),
        (FlipsPieces | FlipsLastPieceOnly, BlobRequest::Piece(_, index)) => {
            let mut bytes = piece(index);
            bytes[7] ^= 1;
            BlobResponse::Piece(bytes)
        }
        (_, BlobRequest::Piece(_, index)) => BlobResponse::Piece(piece(index)),
    })
}

/// Runs a download to its end with answers in the order that `order` draws, and gives what arrived and who was blamed.
fn run(kinds: &[Kind], mut order: impl FnMut(usize) -> usize) -> (Option<Vec<u8>>, Vec<usize>) {
    let mut download: Download<usize> = Download::new(blob().hash, LEN as u64, 3);
    (0..kinds.len()).for_each(|provider| download.add_provider(provider));
    let mut content = vec![0u8; LEN];
    let mut blamed = Vec::new();
    let mut pending: Vec<(usize, BlobRequest)> = Vec::new();
    for _ in 0..10_000 {
        for provider in download.providers() {
            while let Some(ask) = download.next_wanted(&provider) {
                pending.push((provider, ask));
            }
        }
        for provider in 0..kinds.len() {
            assert!(pending.iter().filter(|(p, _)| *p == provider).count() <= 3, "the bound holds");
        }
        if download.is_complete() {
            return (Some(content), blamed);
        }
        if pending.is_empty() {
            return (None, blamed);
        }
        let (provider, ask) = pending.swap_remove(order(pending.len()));
        let Some(response) = answer(kinds[provider], ask) else {
            download.on_failure(&provider, ask, Failure::Transient);
            continue;
        };
        match download.on_response(&provider, ask, response) {
            Ok(Outcome::Piece { index, bytes }) => {
                let start = index as usize * PIECE_LEN;
                content[start..start + bytes.len()].copy_from_slice(&bytes);
                download.on_written();
            }
            Ok(Outcome::Nothing | Outcome::Unavailable(_)) => {}
            Err(_) => blamed.push(provider),
        }
    }
    panic!("no end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_honest_provider_is_enough_and_none_is_blamed(
        kinds in proptest::collection::vec(proptest::sample::select(&KINDS[..]), 1..7),
        draws in proptest::collection::vec(any::<usize>(), 64),
    ) {
        let mut next = 0;
        let (content, blamed) = run(&kinds, |len| {
            next += 1;
            draws[next % draws.len()] % len
        });
        if kinds.contains(&Honest) {
            prop_assert!(content.is_some());
        }
        if let Some(content) = content {
            prop_assert!(content == blob().content, "what arrives is right, whoever gave it");
        }
        for provider in blamed {
            prop_assert!(!matches!(kinds[provider], Honest | Absent | TimesOut), "{:?} was blamed", kinds[provider]);
        }
    }
}

#[test]
fn every_liar_alone_gives_nothing() {
    for kind in KINDS {
        let (content, blamed) = run(&[kind], |_| 0);
        assert_eq!(content.is_some(), kind == Honest, "{kind:?}");
        let faultless = matches!(kind, Honest | Absent | TimesOut | ClaimsHuge);
        assert_eq!(blamed, if faultless { vec![] } else { vec![0] }, "{kind:?}");
    }
}

#[test]
fn nobody_but_the_claimant_is_asked_before_the_length_is_proven() {
    let hash = blob().hash;
    let mut download: Download<u8> = Download::new(hash, LEN as u64, 8);
    download.add_provider(1);
    download.add_provider(2);
    for provider in [1, 2] {
        assert_eq!(download.next_wanted(&provider), Some(BlobRequest::Stat(hash)));
        assert_eq!(download.next_wanted(&provider), None);
        download.on_response(&provider, BlobRequest::Stat(hash), BlobResponse::Stat(LEN as u64)).unwrap();
    }
    assert_eq!(download.next_wanted(&2), Some(BlobRequest::Outboard(hash)));
    assert_eq!(download.next_wanted(&1), None);
    download.on_response(&2, BlobRequest::Outboard(hash), BlobResponse::Outboard(blob().list.clone())).unwrap();
    assert_eq!(download.next_wanted(&1), None);
    assert_eq!(download.proven(), None);
    let last = BlobRequest::Piece(hash, 6);
    assert_eq!(download.next_wanted(&2), Some(last));
    // The claimant stalls: the other takes over, and is asked for everything itself.
    download.on_failure(&2, last, Failure::Transient);
    assert_eq!(download.next_wanted(&2), None, "others come first now");
    assert_eq!(download.next_wanted(&1), Some(BlobRequest::Outboard(hash)));
    download.on_response(&1, BlobRequest::Outboard(hash), BlobResponse::Outboard(blob().list.clone())).unwrap();
    assert_eq!(download.next_wanted(&1), Some(last));
    let outcome = download.on_response(&1, last, BlobResponse::Piece(piece(6))).unwrap();
    assert_eq!(outcome, Outcome::Piece { index: 6, bytes: piece(6) });
    assert_eq!(download.proven().unwrap().len_bytes(), LEN as u64);
    assert_eq!(download.next_wanted(&2), Some(BlobRequest::Piece(hash, 0)));
    assert_eq!(download.next_wanted(&1), Some(BlobRequest::Piece(hash, 1)));
}

#[test]
fn the_last_piece_sets_a_claimed_length_right_and_the_bound_holds() {
    let hash = blob().hash;
    for (claimed, max, fits) in [(LEN - 100, LEN, true), (LEN - 100, LEN - 1, false), (LEN + 50, LEN + 50, true)] {
        let mut download: Download<u8> = Download::new(hash, max as u64, 8);
        download.add_provider(1);
        download.next_wanted(&1);
        download.on_response(&1, BlobRequest::Stat(hash), BlobResponse::Stat(claimed as u64)).unwrap();
        download.next_wanted(&1);
        let list = BlobResponse::Outboard(blob().list.clone());
        download.on_response(&1, BlobRequest::Outboard(hash), list).unwrap();
        let last = download.next_wanted(&1).unwrap();
        let outcome = download.on_response(&1, last, BlobResponse::Piece(piece(6))).unwrap();
        match fits {
            true => assert_eq!(download.proven().unwrap().len_bytes(), LEN as u64),
            false => assert_eq!(outcome, Outcome::Unavailable(Unavailable::TooLong(LEN as u64))),
        }
    }
}

#[test]
fn answers_of_a_dropped_provider_change_nothing() {
    let hash = blob().hash;
    let mut download: Download<u8> = Download::new(hash, LEN as u64, 8);
    download.add_provider(1);
    let ask = download.next_wanted(&1).unwrap();
    let wrong = download.on_response(&1, ask, BlobResponse::Piece(vec![]));
    assert_eq!(wrong, Err(PeerFault::WrongAnswer { ask }));
    assert_eq!(download.on_response(&1, ask, BlobResponse::Stat(LEN as u64)), Ok(Outcome::Nothing));
    assert_eq!((download.next_wanted(&1), download.providers()), (None, vec![]));
    download.add_provider(1);
    assert_eq!(download.next_wanted(&1), Some(BlobRequest::Stat(hash)), "a second chance starts over");
}

#[test]
fn a_slow_provider_is_asked_for_less_at_once() {
    let mut download: Download<u8> = Download::new(blob().hash, LEN as u64, 8);
    download.add_provider(1);
    for _ in 0..3 {
        let ask = download.next_wanted(&1).unwrap();
        download.on_response(&1, ask, answer(Honest, ask).unwrap()).unwrap();
    }
    let asks: Vec<_> = std::iter::from_fn(|| download.next_wanted(&1)).collect();
    assert_eq!(asks.len(), 5, "two, and one more for each answer");
    asks.iter().take(2).for_each(|ask| download.on_failure(&1, *ask, Failure::Transient));
    assert_eq!(download.next_wanted(&1), None);
    for ask in &asks[2..4] {
        download.on_response(&1, *ask, answer(Honest, *ask).unwrap()).unwrap();
    }
    let asks: Vec<_> = std::iter::from_fn(|| download.next_wanted(&1)).collect();
    assert_eq!(asks.len(), 2, "a window of three, one of it in use");
}
