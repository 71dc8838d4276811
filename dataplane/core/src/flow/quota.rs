//! What one VF may have of the flow table.
//!
//! A flow is paid for by its initiator's VF, or if that is elsewhere by its responder's, on
//! an account of its own: a flood from outside costs a pod its visitors, not its voice.

use crate::flow::entry::RESPONDER;
use crate::route::Attach;

/// The most that one account may have of a worker's flow table. Their sum may well be more
/// than there is: then what is half-open makes room, of who has the most of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// Flows.
    pub flows_max: usize,
    /// Of these, half-open ones: [`crate::flow::state::FlowState::Opening`].
    pub half_open_max: usize,
}

impl Quotas {
    /// The default for a table of so many flows: a quarter, and a sixteenth half-open. A VF
    /// with both its accounts full leaves the others half of the table.
    #[must_use]
    pub fn of(flows: usize) -> Self {
        Self {
            flows_max: (flows / 4).max(1),
            half_open_max: (flows / 16).max(1),
        }
    }

    /// All of it.
    pub const NONE: Self = Self {
        flows_max: usize::MAX,
        half_open_max: usize::MAX,
    };
}

/// Who pays for a flow, as an index of [`Accounts`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AccountIndex(pub(super) usize);

/// What one pays for.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Account {
    pub(super) flows: usize,
    pub(super) half_open: usize,
}

#[derive(Debug)]
pub(super) struct Accounts {
    /// Two for each port, and one for flows without any.
    all: Box<[Account]>,
    /// The one with the most half-open flows when one last had more than it.
    crowded: AccountIndex,
    quotas: Quotas,
}

impl Accounts {
    pub(super) fn new(ports: usize, quotas: Quotas) -> Self {
        Self {
            all: vec![Account::default(); 2 * ports + 1].into_boxed_slice(),
            crowded: AccountIndex(0),
            quotas,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    /// The account of a flow between these ends that `payer` pays for.
    pub(super) fn of(&self, ends: [Attach; 2], payer: usize) -> AccountIndex {
        let rest = self.all.len() - 1;
        let payer = payer.min(RESPONDER);
        let index = match ends[payer] {
            Attach::Port(port) => 2 * usize::from(port.0) + payer,
            Attach::Peer(_) | Attach::Clear(_) => rest,
        };
        AccountIndex(index.min(rest))
    }

    pub(super) fn at(&self, index: AccountIndex) -> Account {
        self.all.get(index.0).copied().unwrap_or_default()
    }

    /// Whether one more half-open flow is more than an account may have.
    pub(super) fn is_spent(&self, index: AccountIndex) -> bool {
        let account = self.at(index);
        account.flows >= self.quotas.flows_max || account.half_open >= self.quotas.half_open_max
    }

    /// Who is to give up a half-open flow when the table is full and `own` wants one more:
    /// who has the most, as far as is known, but `own` itself rather than a poorer one.
    pub(super) fn richest(&self, own: AccountIndex) -> AccountIndex {
        if self.at(self.crowded).half_open > self.at(own).half_open + 1 {
            self.crowded
        } else {
            own
        }
    }

    pub(super) fn add(&mut self, index: AccountIndex, is_half_open: bool) {
        if let Some(account) = self.all.get_mut(index.0) {
            account.flows += 1;
        }
        if is_half_open {
            self.add_half_open(index);
        }
    }

    pub(super) fn remove(&mut self, index: AccountIndex, is_half_open: bool) {
        if let Some(account) = self.all.get_mut(index.0) {
            account.flows = account.flows.saturating_sub(1);
        }
        if is_half_open {
            self.remove_half_open(index);
        }
    }

    pub(super) fn add_half_open(&mut self, index: AccountIndex) {
        if let Some(account) = self.all.get_mut(index.0) {
            account.half_open += 1;
        }
        if self.at(index).half_open > self.at(self.crowded).half_open {
            self.crowded = index;
        }
    }

    pub(super) fn remove_half_open(&mut self, index: AccountIndex) {
        if let Some(account) = self.all.get_mut(index.0) {
            account.half_open = account.half_open.saturating_sub(1);
        }
    }
}
