//! Signed statements: Ed25519 over a domain tag and the exact payload bytes.
//!
//! A statement's **id is the hash of its payload**, signatures excluded: which keys signed it changes no id. Payloads are
//! kept and hashed as they were received, never written anew.

use crate::encoding::{self, DecodeError};
use crate::ids::{Hash, MemberId};
use crate::limits;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a statement says; decides its domain tag, so that a signature on one kind is none on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// [`crate::manifest::Manifest`]
    Manifest,
    /// [`crate::statements::Join`]
    Join,
    /// [`crate::statements::Claim`]
    Claim,
    /// [`crate::statements::Receipt`]
    Receipt,
    /// [`crate::statements::ClaimList`]
    ClaimList,
    /// [`crate::statements::Record`]
    Record,
    /// [`crate::statements::Head`]
    Head,
}

impl Kind {
    /// The bytes before the payload in what is signed. None is a prefix of another: each ends with a zero byte.
    pub fn domain(self) -> &'static [u8] {
        match self {
            Kind::Manifest => b"essaim/1 manifest\0",
            Kind::Join => b"essaim/1 join\0",
            Kind::Claim => b"essaim/1 claim\0",
            Kind::Receipt => b"essaim/1 receipt\0",
            Kind::ClaimList => b"essaim/1 claim list\0",
            Kind::Record => b"essaim/1 record\0",
            Kind::Head => b"essaim/1 head\0",
        }
    }
}

/// Something that is said under a signature.
pub trait Statement: Serialize + DeserializeOwned + Clone {
    /// Its kind.
    const KIND: Kind;
    /// The longest payload accepted, in bytes.
    const PAYLOAD_MAX: usize;
}

/// One signature: the key and the 64 bytes of Ed25519 in two halves (R, then s).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Signature {
    /// The public key.
    pub key: MemberId,
    /// The commitment point.
    pub r: [u8; 32],
    /// The response scalar.
    pub s: [u8; 32],
}

/// A payload and its signatures, as they travel and lie on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct Envelope {
    #[serde(with = "encoding::bytes")]
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

/// Why a statement was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The envelope or the payload is not canonical bytes.
    #[error("{kind:?} statement: {source}")]
    Decode {
        /// Which kind was expected.
        kind: Kind,
        /// What was wrong with the bytes.
        source: DecodeError,
    },
    /// More signatures than any statement has, none, or one key twice.
    #[error("{kind:?} statement with {count} signatures, or one key twice")]
    Signatures {
        /// Which kind was expected.
        kind: Kind,
        /// How many there are.
        count: usize,
    },
    /// Too few of the keys that must sign did.
    #[error("{kind:?} statement {id:?} has {valid} valid signatures of the {needed} needed")]
    Unsigned {
        /// Which kind.
        kind: Kind,
        /// The statement.
        id: Hash,
        /// Valid signatures by the keys that count.
        valid: u32,
        /// Signatures needed.
        needed: u32,
    },
}

/// Checks one signature. The strict check is [`Strict`]; a simulation may remember verdicts.
pub trait SignatureCheck {
    /// Whether `signature` is one of its key on `domain ‖ payload`.
    fn check(&self, kind: Kind, payload: &[u8], signature: &Signature) -> bool;
}

/// `verify_strict` of ed25519-dalek: no small-order keys, no malleable scalars.
#[derive(Debug, Clone, Copy, Default)]
pub struct Strict;

impl SignatureCheck for Strict {
    fn check(&self, kind: Kind, payload: &[u8], signature: &Signature) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(signature.key.as_bytes()) else {
            return false;
        };
        let parsed = ed25519_dalek::Signature::from_components(signature.r, signature.s);
        key.verify_strict(&[kind.domain(), payload].concat(), &parsed).is_ok()
    }
}

/// A secret key. Its bytes never appear in debug output.
#[derive(Clone)]
pub struct Keypair(ed25519_dalek::SigningKey);

impl std::fmt::Debug for Keypair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keypair({:?})", self.member())
    }
}

impl Keypair {
    /// The key pair of a 32-byte Ed25519 secret.
    pub fn from_secret(secret: &[u8; 32]) -> Keypair {
        Keypair(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public key.
    pub fn member(&self) -> MemberId {
        MemberId(self.0.verifying_key().to_bytes())
    }

    /// `value`, signed by this key.
    pub fn sign<T: Statement>(&self, value: T) -> Signed<T> {
        let payload = encoding::encode(&value);
        let signature = self.signature(T::KIND, &payload);
        Signed { value, payload, signatures: vec![signature] }
    }

    /// This key's signature on a payload of `kind`; Ed25519 is deterministic, so the same bytes every time.
    pub fn signature(&self, kind: Kind, payload: &[u8]) -> Signature {
        use ed25519_dalek::Signer;
        let signature = self.0.sign(&[kind.domain(), payload].concat());
        Signature { key: self.member(), r: *signature.r_bytes(), s: *signature.s_bytes() }
    }
}

/// A statement with the payload it was read from. Holding one does not mean that its signatures were checked:
/// [`Signed::require`] does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// What is said.
    pub value: T,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

impl<T: Statement> Signed<T> {
    /// Reads an envelope. Checks form and bounds, not signatures.
    ///
    /// # Errors
    /// [`StatementError`] when the bytes are not those of such a statement.
    pub fn from_bytes(bytes: &[u8]) -> Result<Signed<T>, StatementError> {
        let decode = |source| StatementError::Decode { kind: T::KIND, source };
        let max = T::PAYLOAD_MAX.saturating_add(limits::SIGNATURES_MAX * 96 + 16);
        let Envelope { payload, signatures } = encoding::decode(bytes, max).map_err(decode)?;
        let value = encoding::decode(&payload, T::PAYLOAD_MAX).map_err(decode)?;
        let mut keys: Vec<_> = signatures.iter().map(|signature| signature.key).collect();
        keys.sort_unstable();
        keys.dedup();
        if signatures.is_empty() || signatures.len() > limits::SIGNATURES_MAX || keys.len() != signatures.len() {
            return Err(StatementError::Signatures { kind: T::KIND, count: signatures.len() });
        }
        Ok(Signed { value, payload, signatures })
    }

    /// The bytes of the envelope.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::encode(&Envelope { payload: self.payload.clone(), signatures: self.signatures.clone() })
    }

    /// The statement's id: the hash of its payload.
    pub fn id(&self) -> Hash {
        Hash::of(&self.payload)
    }

    /// The payload as received.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The keys that signed, unchecked.
    pub fn signers(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.signatures.iter().map(|signature| signature.key)
    }

    /// That at least `threshold` of `keys` signed this.
    ///
    /// # Errors
    /// [`StatementError::Unsigned`] otherwise.
    pub fn require(&self, check: &dyn SignatureCheck, keys: &[MemberId], threshold: u32) -> Result<(), StatementError> {
        let valid = self
            .signatures
            .iter()
            .filter(|signature| keys.contains(&signature.key) && check.check(T::KIND, &self.payload, signature))
            .count();
        let valid = u32::try_from(valid).unwrap_or(u32::MAX);
        if valid >= threshold.max(1) {
            return Ok(());
        }
        Err(StatementError::Unsigned { kind: T::KIND, id: self.id(), valid, needed: threshold.max(1) })
    }
}
