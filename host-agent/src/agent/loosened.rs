//! Settings of encryption that are looser than the cluster's default, each told of once.

use std::collections::BTreeSet;

use sluice_offload_api::State;
use sluice_offload_api::model::{Encryption, IdentityId};

use crate::cluster::EncryptionSetup;

/// Identities that are told of by name at a time, at most; of more their number.
const NAMED_MAX: usize = 16;

/// The identities that were told of.
#[derive(Clone, Debug, Default)]
pub struct Loosened(BTreeSet<IdentityId>);

/// What is new.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoosenedNews {
    /// Identities as people know them, and what holds for them.
    pub named: Vec<(String, Encryption)>,
    /// How many more there are.
    pub more: usize,
}

impl Loosened {
    /// Looks at a state that takes effect: which identities in it have a setting that is looser
    /// than the default, and hadn't when it was looked at last. A setting is part of an
    /// identity, so one whose setting changes is another identity.
    pub fn note(&mut self, setup: &EncryptionSetup, state: &State) -> LoosenedNews {
        let mut news = LoosenedNews::default();
        let mut loosened = BTreeSet::new();
        let looser = |setting: Encryption| setting < setup.of_nodes();
        let identities = state.identities.values();
        for it in identities.filter(|it| looser(it.encryption)) {
            loosened.insert(it.id);
            if self.0.contains(&it.id) {
                continue;
            }
            if news.named.len() < NAMED_MAX {
                news.named.push((it.label.clone(), it.encryption));
            } else {
                news.more += 1;
            }
        }
        self.0 = loosened;
        news
    }
}

#[cfg(test)]
mod tests {
    use sluice_offload_api::model::Identity;

    use super::*;
    use Encryption::{Off, Preferred, Required};

    fn state(settings: impl IntoIterator<Item = Encryption>) -> State {
        let mut state = State::default();
        for (id, encryption) in (1..).zip(settings) {
            let id = IdentityId(id);
            let identity = Identity {
                id,
                label: format!("ns{{n={}}}", id.0),
                domain: None,
                encryption,
            };
            state.identities.insert(id, identity);
        }
        state
    }

    fn setup(default: Encryption) -> EncryptionSetup {
        EncryptionSetup::new(default, Some(Off), BTreeSet::new()).unwrap()
    }

    #[test]
    fn an_identity_is_told_of_once_and_again_after_it_was_gone() {
        let mut loosened = Loosened::default();
        let both = state([Off, Required, Preferred]);
        let news = loosened.note(&setup(Required), &both);
        let named = [
            ("ns{n=1}".to_owned(), Off),
            ("ns{n=3}".to_owned(), Preferred),
        ];
        assert_eq!((&news.named[..], news.more), (&named[..], 0));
        let nothing = LoosenedNews::default();
        assert_eq!(loosened.note(&setup(Required), &both), nothing);
        assert_eq!(loosened.note(&setup(Required), &state([])), nothing);
        let news = loosened.note(&setup(Required), &state([Off]));
        assert_eq!(news.named, named[..1]);
    }

    #[test]
    fn the_default_is_no_downgrade_from_itself() {
        let mut loosened = Loosened::default();
        let all = state([Off, Preferred, Required]);
        let news = loosened.note(&setup(Preferred), &all);
        assert_eq!(news.named, [("ns{n=1}".to_owned(), Off)]);
        let mut loosened = Loosened::default();
        let nothing = LoosenedNews::default();
        assert_eq!(loosened.note(&setup(Off), &all), nothing);
    }

    #[test]
    fn of_many_some_are_named_and_the_rest_are_counted() {
        let mut loosened = Loosened::default();
        let news = loosened.note(&setup(Required), &state([Off; 50]));
        assert_eq!((news.named.len(), news.more), (NAMED_MAX, 50 - NAMED_MAX));
        let again = loosened.note(&setup(Required), &state([Off; 50]));
        assert_eq!(again, LoosenedNews::default());
    }
}
