//! What a row says, as one number that sorts by what counts more: looking up a port takes no
//! branch on what is found there, which nobody could foretell.

use crate::table::policy::Action;

/// A rule and its action, or nothing. The lower one counts: the lower rule's, of one rule's as
/// [`Action`] says, and nothing last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Said(u32);

impl Said {
    /// No row says anything.
    pub(crate) const NOTHING: Self = Self(u32::MAX);

    /// Rules from here on count as one, of whose rows a denial goes first. The contract's
    /// policies have far fewer.
    const RULE_MAX: u32 = (1 << 30) - 2;

    /// What a rule's row says.
    pub(crate) fn new(rule: u32, action: Action) -> Self {
        Self(rule.min(Self::RULE_MAX) << 2 | action as u32)
    }

    /// Of two the one that counts.
    #[inline]
    pub(crate) fn stronger(self, other: Self) -> Self {
        self.min(other)
    }

    /// The rule, if anything is said.
    #[inline]
    pub(crate) const fn rule(self) -> u32 {
        self.0 >> 2
    }

    /// Whether it says that.
    #[inline]
    pub(crate) const fn is(self, action: Action) -> bool {
        self.0 & 3 == action as u32
    }

    /// Whether this is the last word: flows may be, or may not.
    #[inline]
    pub(crate) const fn decides(self) -> bool {
        self.is(Action::Allow) || self.is(Action::Deny)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACTIONS: [Action; 3] = [Action::Deny, Action::Pass, Action::Allow];

    proptest! {
        #[test]
        fn the_lower_rule_counts_and_of_one_rules_the_denial(
            a in (0..Said::RULE_MAX, prop::sample::select(ACTIONS.to_vec())),
            b in (0..Said::RULE_MAX, prop::sample::select(ACTIONS.to_vec())),
            same in any::<bool>(),
        ) {
            let b = if same { (a.0, b.1) } else { b };
            let (one, other) = (Said::new(a.0, a.1), Said::new(b.0, b.1));
            let want = a.min(b);
            let got = one.stronger(other);
            prop_assert_eq!(got.rule(), want.0);
            for action in ACTIONS {
                prop_assert_eq!(got.is(action), action == want.1);
            }
            prop_assert_eq!(got.decides(), want.1 != Action::Pass);
            prop_assert_eq!(one.stronger(Said::NOTHING), one);
        }
    }

    #[test]
    fn nothing_decides_nothing() {
        assert!(!Said::NOTHING.decides());
        assert!(ACTIONS.iter().all(|action| !Said::NOTHING.is(*action)));
    }

    #[test]
    fn of_rules_beyond_count_the_denial_decides() {
        let allow = Said::new(Said::RULE_MAX, Action::Allow);
        let deny = Said::new(u32::MAX, Action::Deny);
        assert_eq!(allow.stronger(deny), deny);
        assert!(deny.decides() && deny < Said::NOTHING);
    }
}
