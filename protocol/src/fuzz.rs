//! Bytes from outside: nothing panics, and what is accepted is the one form of its value.

use crate::dataset::DatasetManifest;
use crate::encoding;
use crate::fixtures::{dataset, member_key, operator, signed_manifest};
use crate::ledger::Ledger;
use crate::limits;
use crate::link::JoinLink;
use crate::manifest::Manifest;
use crate::messages::{Reply, Request};
use crate::signing::{Signed, Statement, Strict};
use crate::statements::*;
use crate::vectors;
use proptest::prelude::*;

/// One whole statement of each kind, as it travels.
fn envelopes() -> Vec<Vec<u8>> {
    vec![
        signed_manifest().to_bytes(),
        member_key(0).sign(vectors::join()).to_bytes(),
        member_key(0).sign(vectors::claim()).to_bytes(),
        operator().sign(vectors::receipt()).to_bytes(),
        operator().sign(vectors::list()).to_bytes(),
        operator().sign(vectors::record()).to_bytes(),
        operator().sign(vectors::head()).to_bytes(),
    ]
}

fn statement<T: Statement>(bytes: &[u8]) {
    if let Ok(signed) = Signed::<T>::from_bytes(bytes) {
        assert_eq!(signed.to_bytes(), bytes);
        assert_eq!(encoding::encode(&signed.value), signed.payload());
        let keys: Vec<_> = signed.signers().collect();
        let _ = signed.require(&Strict, &keys, 1);
    }
}

fn message<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = encoding::decode::<T>(bytes, limits::CONTROL_MAX) {
        assert_eq!(encoding::encode(&value), bytes);
    }
}

/// Reads `bytes` as everything that comes from outside.
fn read(bytes: &[u8]) {
    statement::<Manifest>(bytes);
    statement::<Join>(bytes);
    statement::<Claim>(bytes);
    statement::<Receipt>(bytes);
    statement::<ClaimList>(bytes);
    statement::<Record>(bytes);
    statement::<Head>(bytes);
    message::<Request>(bytes);
    message::<Reply>(bytes);
    if let Ok(manifest) = Signed::<Manifest>::from_bytes(bytes) {
        let _ = manifest.value.check();
    }
    if let Ok(ledger) = Ledger::from_bytes(bytes) {
        assert_eq!(ledger.to_bytes(), bytes);
    }
    if let Ok(dataset) = DatasetManifest::from_bytes(bytes) {
        assert_eq!(dataset.to_bytes(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<JoinLink>();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_read_safely(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read(&bytes);
    }

    #[test]
    fn random_text_is_no_join_link_that_panics(text in "(essaim:)?[0-9a-f]{60,66}(\\?(peer|http)=[ -~é]{0,40}){0,3}") {
        if let Ok(link) = text.parse::<JoinLink>() {
            prop_assert_eq!(link.to_string().parse(), Ok(link));
        }
    }

    #[test]
    fn changed_statements_are_read_safely(
        which in 0usize..9,
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<u16>()),
    ) {
        let mut all = envelopes();
        all.push(vectors::ledger().to_bytes());
        all.push(dataset().to_bytes());
        let mut bytes = all.swap_remove(which);
        for (at, value) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        }
        read(&bytes);
    }
}

#[test]
fn no_flipped_bit_leaves_a_statement_valid() {
    for bytes in envelopes().into_iter().skip(1) {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let valid = [
                still_valid::<Join>(&flipped),
                still_valid::<Claim>(&flipped),
                still_valid::<Receipt>(&flipped),
                still_valid::<ClaimList>(&flipped),
                still_valid::<Record>(&flipped),
                still_valid::<Head>(&flipped),
            ];
            assert_eq!(valid, [false; 6], "byte {at} of {}", bytes.len());
        }
    }
}

fn still_valid<T: Statement>(bytes: &[u8]) -> bool {
    let keys = [operator().member(), member_key(0).member()];
    Signed::<T>::from_bytes(bytes).is_ok_and(|signed| signed.require(&Strict, &keys, 1).is_ok())
}

#[test]
fn a_signature_of_one_kind_is_none_of_another() {
    // A receipt and a join have the same length, so the bytes of one could be read as the other were it not for domains.
    let receipt = operator().sign(vectors::receipt());
    for kind in [crate::signing::Kind::Join, crate::signing::Kind::Claim, crate::signing::Kind::Head] {
        let signature = operator().signature(crate::signing::Kind::Receipt, receipt.payload());
        assert!(!crate::signing::SignatureCheck::check(&Strict, kind, receipt.payload(), &signature));
    }
}

#[test]
fn a_huge_length_allocates_nothing() {
    for len in [u64::MAX, 1 << 40, 1 << 24] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend([0; 64]);
        read(&bytes);
        assert!(Signed::<Record>::from_bytes(&bytes).is_err());
        assert!(DatasetManifest::from_bytes(&bytes).is_err());
    }
}
