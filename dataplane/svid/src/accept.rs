//! Who may be at the other end of a session.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::check::SvidError;
use crate::id::SpiffeId;

/// Whom one end of a handshake accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Accept {
    /// The end that dialled: the very node that it dialled.
    Only(SpiffeId),
    /// The other: one of the peers that are to dial it.
    Dialling(Arc<BTreeSet<SpiffeId>>),
}

impl Accept {
    /// Whether `got`, whose chain is good, may be at the other end of a session of `own`.
    ///
    /// # Errors
    /// [`SvidError::Unexpected`], [`SvidError::WrongWay`] or [`SvidError::NotAPeer`].
    pub fn check(&self, got: SpiffeId, own: &SpiffeId) -> Result<(), SvidError> {
        match self {
            Self::Only(expected) if got != *expected => {
                let expected = expected.clone();
                Err(SvidError::Unexpected { got, expected })
            }
            Self::Dialling(_) if got >= *own => Err(SvidError::WrongWay { got }),
            Self::Dialling(peers) if !peers.contains(&got) => Err(SvidError::NotAPeer { got }),
            _ => Ok(()),
        }
    }
}
