//! How what passes between this node and another crosses the wire: sealed, in clear, or never.

use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{Encryption, Peer, PeerIndex, Snapshot};
use crate::table::prefix::Owner;

/// The stricter of two ends' settings.
#[inline]
pub(crate) fn stricter(a: Owner, b: Owner) -> Encryption {
    a.encryption.max(b.encryption)
}

/// How packets cross to a node and back from there, of whose ends the stricter setting is
/// `setting`. That there is no SA has no say: what is to be sealed and can't be is dropped.
///
/// # Errors
/// [`DropReason::Unprotected`]: they don't.
#[inline]
pub(crate) fn crossing(
    snapshot: &Snapshot,
    peer: PeerIndex,
    setting: Encryption,
) -> Result<Attach, DropReason> {
    match (snapshot.peer(peer), setting) {
        (Some(Peer::Unprotected), Encryption::Required) => Err(DropReason::Unprotected),
        (Some(Peer::Unprotected), _) | (Some(Peer::Protected { .. }), Encryption::Off) => {
            Ok(Attach::Clear(peer))
        }
        // One whose address isn't known has no SA either.
        (Some(Peer::Protected { .. }) | None, _) => Ok(Attach::Peer(peer)),
    }
}
