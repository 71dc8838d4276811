//! What crosses the wire in clear is told in the log: each pair of identities once.
//!
//! A setting is part of an identity, so a pair that was told of is told of again when an end of
//! it gets another setting, and not when something else changes.

use std::collections::BTreeSet;

use sluice_dataplane_core::clear::{ClearPair, PAIRS_MAX, Way};
use sluice_dataplane_core::snapshot::{IdentityId, PeerIndex};
use sluice_offload_api::model;
use sluice_offload_api::state::State;

/// Pairs that are told of by name at a time, at most; the matrix has the others.
const NAMED_MAX: usize = 16;

/// A pair that is in clear for the first time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Downgrade {
    /// Whose the packets are, as people know it.
    pub(super) from: String,
    /// Whom they are for.
    pub(super) to: String,
    /// The other node's number.
    pub(super) peer: PeerIndex,
    /// `sent` or `received`.
    pub(super) way: &'static str,
    /// The stricter of both ends' settings, if both are still there.
    pub(super) setting: Option<model::Encryption>,
}

/// The pairs that were told of.
#[derive(Debug, Default)]
pub(super) struct Downgrades(BTreeSet<(IdentityId, IdentityId, PeerIndex, bool)>);

impl Downgrades {
    /// Those of `pairs` that are new, and how many more there are.
    pub(super) fn note(&mut self, pairs: &[ClearPair], state: &State) -> (Vec<Downgrade>, usize) {
        let key = |it: &ClearPair| (it.from, it.to, it.peer, it.way == Way::Received);
        // As many as a worker counts apart: one that it has forgotten is told of again.
        if self.0.len() > PAIRS_MAX {
            let held: BTreeSet<_> = pairs.iter().map(key).collect();
            self.0.retain(|it| held.contains(it));
        }
        let fresh: Vec<_> = pairs.iter().filter(|it| self.0.insert(key(it))).collect();
        let named = fresh.iter().take(NAMED_MAX);
        let named: Vec<_> = named.map(|it| downgrade(it, state)).collect();
        let more = fresh.len() - named.len();
        (named, more)
    }
}

fn downgrade(it: &ClearPair, state: &State) -> Downgrade {
    let identity = |id: IdentityId| state.identities.get(&model::IdentityId(id.0));
    let label = |id: IdentityId| {
        identity(id).map_or_else(|| format!("identity {}", id.0), |it| it.label.clone())
    };
    let settings = identity(it.from).zip(identity(it.to));
    Downgrade {
        from: label(it.from),
        to: label(it.to),
        peer: it.peer,
        way: match it.way {
            Way::Sent => "sent",
            Way::Received => "received",
        },
        setting: settings.map(|(from, to)| from.encryption.max(to.encryption)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(from: u32) -> ClearPair {
        ClearPair {
            from: IdentityId(from),
            to: IdentityId(1),
            ..ClearPair::default()
        }
    }

    #[test]
    fn a_pair_is_told_of_once_and_by_name() {
        let mut state = sluice_offload_api::testing::sample();
        for id in [1, 2] {
            let identity = state.identities.get_mut(&model::IdentityId(id)).unwrap();
            identity.encryption = model::Encryption::Off;
        }
        let mut downgrades = Downgrades::default();
        let (told, more) = downgrades.note(&[pair(2), pair(99)], &state);
        let told: Vec<_> = told
            .iter()
            .map(|it| (it.from.as_str(), it.to.as_str(), it.setting))
            .collect();
        let off = Some(model::Encryption::Off);
        let known = ("shop{app=db}", "shop{app=cart}", off);
        assert_eq!(told, [known, ("identity 99", "shop{app=cart}", None)]);
        assert_eq!(more, 0);
        let again = downgrades.note(&[pair(2), pair(99)], &state);
        assert_eq!(again, (Vec::new(), 0));
        // Its other way is another line.
        let way = Way::Received;
        let back = ClearPair { way, ..pair(2) };
        let (told, _) = downgrades.note(&[pair(2), back], &state);
        assert_eq!(
            told.iter().map(|it| it.way).collect::<Vec<_>>(),
            ["received"]
        );
    }

    #[test]
    fn lines_and_memory_are_bounded() {
        let state = State::default();
        let mut downgrades = Downgrades::default();
        let all: Vec<_> = (0..100).map(pair).collect();
        let (told, more) = downgrades.note(&all, &state);
        assert_eq!((told.len(), more), (NAMED_MAX, 100 - NAMED_MAX));
        for n in 0..3 * u32::try_from(PAIRS_MAX).unwrap() {
            downgrades.note(&[pair(n)], &state);
        }
        assert!(downgrades.0.len() <= PAIRS_MAX + 1);
    }
}
