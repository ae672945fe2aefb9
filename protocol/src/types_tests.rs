//! Manifests, data sets, signatures and links that do not hold.

use crate::dataset::{DatasetError, DatasetManifest};
use crate::fixtures::{bits, dataset, manifest, member_key, operator, signed_manifest};
use crate::ids::{Hash, MemberId};
use crate::manifest::*;
use crate::signing::{Keypair, Kind, Signature, SignatureCheck, Signed, StatementError, Strict};
use crate::statements::Head;
use crate::vectors;

type Change = Box<dyn Fn(&mut Manifest)>;

/// The field that a changed manifest is refused for.
fn refused(change: &dyn Fn(&mut Manifest)) -> &'static str {
    let mut manifest = manifest();
    change(&mut manifest);
    match manifest.check() {
        Err(ManifestError::Field { field, .. }) => field,
        Err(ManifestError::Protocol { .. }) => "protocol",
        Err(ManifestError::Extension { .. }) => "extension",
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_field_of_a_manifest_has_its_range() {
    assert_eq!(manifest().check(), Ok(()));
    let later = Extension { name: "later".into(), value: Vec::new() };
    let cases: Vec<(&str, Change)> = vec![
        ("protocol", Box::new(|m| m.protocol = 2)),
        ("extension", Box::new(move |m| m.extensions = vec![later.clone()])),
        ("name", Box::new(|m| m.name.clear())),
        ("numerics", Box::new(|m| m.numerics = "f32-exact/2".into())),
        ("rounds", Box::new(|m| m.rounds = 0)),
        ("hash_chain_len", Box::new(|m| m.hash_chain_len = m.rounds)),
        ("audit_permille", Box::new(|m| m.audit_permille = 1)),
        ("keyframe_every_rounds", Box::new(|m| m.keyframe_every_rounds = 0)),
        ("codec.block", Box::new(|m| m.codec = Codec::Q4 { block: 3 })),
        ("outer.lr", Box::new(|m| m.outer.lr = bits(0.0))),
        ("outer.momentum", Box::new(|m| m.outer.momentum = bits(f64::NAN))),
        ("timing.round_max_ms", Box::new(|m| m.timing.round_max_ms = 999)),
        ("timing.fetch_max_ms", Box::new(|m| m.timing.fetch_max_ms = 0)),
        ("operators", Box::new(|m| m.operators.clear())),
        ("operators", Box::new(|m| m.operators.push(m.operators[0]))),
        ("threshold", Box::new(|m| m.threshold = 2)),
        ("threshold", Box::new(|m| m.threshold = 0)),
        ("phases", Box::new(|m| m.phases.clear())),
        ("phases.tokens", Box::new(|m| m.phases[0].tokens = 0)),
        ("phases.weights", Box::new(|m| m.phases[0].weights.clear())),
        ("phases.weights", Box::new(|m| m.phases[0].weights[0].weight = 0)),
        ("model.vocab_size", Box::new(|m| m.model.vocab_size = 0)),
        ("model.d_model", Box::new(|m| m.model.d_model = 15)),
        ("model.heads", Box::new(|m| (m.model.heads, m.model.kv_heads) = (4, 3))),
        ("model.d_model / model.heads", Box::new(|m| m.model.d_model = 2)),
        ("model.norm_eps", Box::new(|m| m.model.norm_eps = bits(-1.0))),
        ("inner.steps", Box::new(|m| m.inner.steps = 0)),
        ("inner.batch", Box::new(|m| m.inner.batch = 0)),
        ("inner.grad_segments", Box::new(|m| m.inner.grad_segments = 2)),
        ("inner.peak_lr", Box::new(|m| m.inner.peak_lr = bits(f64::INFINITY))),
        ("inner", Box::new(|m| m.inner.beta2 = bits(f64::NAN))),
        ("inner.total_tokens", Box::new(|m| m.inner.total_tokens = m.inner.warmup_tokens)),
        ("inner.muon_iterations", Box::new(|m| m.inner.muon_iterations = 0)),
        ("admission.members_min", Box::new(|m| m.admission.members_min = 0)),
        ("admission.members_max", Box::new(|m| m.admission.members_max = 1)),
        ("admission.probation_steps", Box::new(|m| m.admission.probation_steps = 0)),
        ("admission.absent_rounds_max", Box::new(|m| m.admission.absent_rounds_max = 0)),
        ("admission.member_share_max_permille", Box::new(|m| m.admission.member_share_max_permille = 0)),
        ("admission.newcomer_share_max_permille", Box::new(|m| m.admission.newcomer_share_max_permille = 1001)),
    ];
    for (field, change) in &cases {
        assert_eq!(refused(&**change), *field);
    }
}

#[test]
fn lucie_7b_has_its_parameters() {
    let lucie = ModelConfig {
        vocab_size: 65_024,
        d_model: 4096,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        ffn: 12_288,
        context: 4096,
        tied: false,
        ..manifest().model
    };
    assert_eq!(lucie.check(), Ok(()));
    assert_eq!(lucie.parameter_count(), 6_706_958_336);
    let tied = ModelConfig { tied: true, ..lucie };
    assert_eq!(tied.parameter_count(), 6_706_958_336 - 65_024 * 4096);
}

#[test]
fn a_data_set_that_is_no_set_is_refused() {
    assert_eq!(DatasetManifest::from_bytes(&dataset().to_bytes()), Ok(dataset()));
    let refused = |change: &dyn Fn(&mut DatasetManifest)| {
        let mut dataset = dataset();
        change(&mut dataset);
        DatasetManifest::from_bytes(&dataset.to_bytes()).unwrap_err()
    };
    assert_eq!(refused(&|d| d.version = 2), DatasetError::Version { got: 2 });
    assert_eq!(refused(&|d| d.mixes.iter_mut().for_each(|mix| mix.shards.clear())), DatasetError::Empty);
    assert!(matches!(refused(&|d| d.mixes[1].name = "fr".into()), DatasetError::Twice { what: "mix", .. }));
    let again = |d: &mut DatasetManifest| d.mixes[1].shards[0] = d.mixes[0].shards[0];
    assert!(matches!(refused(&again), DatasetError::Twice { what: "shard", .. }));
    let long = |d: &mut DatasetManifest| d.mixes[0].name = "x".repeat(257);
    assert!(matches!(refused(&long), DatasetError::TooMany { what: "a name", got: 257, max: 256 }));
    let huge = |d: &mut DatasetManifest| d.mixes[0].shards[0].len_bytes = (1 << 30) + 1;
    assert!(matches!(refused(&huge), DatasetError::TooMany { what: "a shard", .. }));
}

/// A statement under several signatures, as bytes.
fn envelope(payload: &[u8], signatures: &[Signature]) -> Vec<u8> {
    let mut bytes = (payload.len() as u64).to_le_bytes().to_vec();
    bytes.extend(payload);
    bytes.extend((signatures.len() as u64).to_le_bytes());
    for signature in signatures {
        bytes.extend(signature.key.0);
        bytes.extend(signature.r);
        bytes.extend(signature.s);
    }
    bytes
}

#[test]
fn a_threshold_of_operators_must_sign() {
    let keys: Vec<Keypair> = (0..3).map(member_key).collect();
    let operators: Vec<MemberId> = keys.iter().map(Keypair::member).collect();
    let one = keys[0].sign(vectors::head());
    let by = |who: &[&Keypair]| {
        let signatures: Vec<Signature> = who.iter().map(|key| key.signature(Kind::Head, one.payload())).collect();
        Signed::<Head>::from_bytes(&envelope(one.payload(), &signatures))
    };
    let stranger = operator();
    assert_eq!(by(&[&keys[0]]), Ok(one.clone()));
    let two = by(&[&keys[0], &keys[2]]).unwrap();
    assert_eq!(two.id(), one.id(), "who signed changes no id");
    assert_eq!(two.require(&Strict, &operators, 2), Ok(()));
    assert!(two.require(&Strict, &operators, 3).is_err());
    let unsigned = one.require(&Strict, &operators, 2);
    assert_eq!(unsigned, Err(StatementError::Unsigned { kind: Kind::Head, id: one.id(), valid: 1, needed: 2 }));
    assert!(by(&[&keys[0], &stranger]).unwrap().require(&Strict, &operators, 2).is_err());
    assert_eq!(by(&[&keys[0], &keys[0]]), Err(StatementError::Signatures { kind: Kind::Head, count: 2 }));
    assert_eq!(by(&[]), Err(StatementError::Signatures { kind: Kind::Head, count: 0 }));
    // No threshold at all still asks for one signature.
    assert!(by(&[&stranger]).unwrap().require(&Strict, &operators, 0).is_err());
}

#[test]
fn weak_keys_and_malleable_signatures_are_refused() {
    let signed = operator().sign(vectors::head());
    let good = operator().signature(Kind::Head, signed.payload());
    assert!(Strict.check(Kind::Head, signed.payload(), &good));
    // s + the group's order is the same scalar in another form.
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut malleable = good;
    let mut carry = 0u16;
    for (byte, add) in malleable.s.iter_mut().zip(order) {
        let sum = u16::from(*byte) + add + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert!(!Strict.check(Kind::Head, signed.payload(), &malleable));
    // The neutral element as key and commitment would sign every message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let weak = Signature { key: MemberId(neutral), r: neutral, s: [0; 32] };
    assert!(!Strict.check(Kind::Head, signed.payload(), &weak));
    let off_curve = Signature { key: MemberId([0xff; 32]), ..good };
    assert!(!Strict.check(Kind::Head, signed.payload(), &off_curve));
    assert!(!format!("{:?}", operator()).contains("010101"), "a secret key is shown");
}

#[test]
fn names_of_hashes_are_text_for_people_and_words_for_machines() {
    let hash = Hash::of(b"essaim");
    assert_eq!(crate::encoding::encode(&hash), hash.0);
    assert_eq!(signed_manifest().id(), Hash::of(signed_manifest().payload()));
}
