//! A member's Ed25519 public key and its libp2p peer id: the same 32 bytes in two forms.

use essaim_protocol::ids::MemberId;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

/// The multihash code of "the digest is the key itself", which libp2p uses for keys as short as Ed25519's.
const IDENTITY_CODE: u64 = 0;

/// The peer id of the member whose key is `member`; `None` if these bytes are no Ed25519 public key.
pub fn peer_id_of(member: &MemberId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(member.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The member whose peer id is `peer`; `None` for a peer whose key is not Ed25519.
pub fn member_of(peer: &PeerId) -> Option<MemberId> {
    let multihash = peer.as_ref();
    if multihash.code() != IDENTITY_CODE {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    Some(MemberId(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The libp2p key pair of an Ed25519 secret: the same secret that signs the member's statements.
pub(crate) fn keypair_of(secret: [u8; 32]) -> Option<Keypair> {
    Keypair::ed25519_from_bytes(secret).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_and_peer_id_are_one_another() {
        let keypair = keypair_of([7; 32]).unwrap();
        let peer = keypair.public().to_peer_id();
        let member = member_of(&peer).unwrap();
        assert_eq!(member.0, keypair.public().try_into_ed25519().unwrap().to_bytes());
        assert_eq!(peer_id_of(&member), Some(peer));
    }

    #[test]
    fn what_is_no_ed25519_key_has_no_counterpart() {
        assert_eq!(member_of(&PeerId::random()), None);
        // y = 2 is on no point of the curve.
        let mut bytes = [0u8; 32];
        bytes[0] = 2;
        assert_eq!(peer_id_of(&MemberId(bytes)), None);
    }
}
