//! Who may be at the other end of a session.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_mutants::{self as mutants, Mutant};

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
        if mutants::is(Mutant::NameUnasked) {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dialled_gets_that_very_node_and_who_is_dialled_a_lower_peer() {
        let id = |name: &str| SpiffeId::parse(&format!("spiffe://t/sluice/node/{name}")).unwrap();
        let check = |accept: &Accept, got| accept.check(id(got), &id("m"));
        let only = Accept::Only(id("b"));
        assert_eq!(check(&only, "b"), Ok(()));
        let (got, expected) = (id("a"), id("b"));
        let unexpected = SvidError::Unexpected { got, expected };
        assert_eq!(check(&only, "a"), Err(unexpected));
        let peers = ["a", "b", "m", "z"].map(id);
        let dialling = Accept::Dialling(Arc::new(peers.into()));
        assert_eq!(check(&dialling, "a"), Ok(()));
        let got = id("c");
        assert_eq!(check(&dialling, "c"), Err(SvidError::NotAPeer { got }));
        for name in ["m", "z"] {
            let got = id(name);
            assert_eq!(check(&dialling, name), Err(SvidError::WrongWay { got }));
        }
    }
}
