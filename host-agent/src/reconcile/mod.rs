//! Bringing a dataplane to the desired state, one transaction at a time.
//!
//! What the dataplane holds is known only from its acknowledgements. On a new connection it is
//! what was acknowledged last, if the same run of it reports that generation and nothing was
//! unanswered.
//! Anything else is unknown and replaced whole.

use sluice_mutants::{Mutant, is};
use sluice_offload_api::model::{Generation, Verdict};
use sluice_offload_api::{
    Answer, Mode, Op, Refusal, RefusalCode, RefusalReason, Refused, State, Transaction,
};

/// The state machine. It has no clock: the driver asks [`Reconciler::next_transaction`]
/// after each event and sends what it gets.
#[derive(Clone, Debug, Default)]
pub struct Reconciler {
    desired: Option<State>,
    /// What the dataplane holds; `None` is unknown.
    acked: Option<State>,
    /// What it holds if it accepts what was sent last.
    in_flight: Option<State>,
    /// The highest generation seen or used.
    last: Generation,
    /// Which start of the dataplane acknowledged.
    instance: u64,
    connected: bool,
    /// The connection has had no snapshot yet.
    unsynced: bool,
    stance: Stance,
    error: Option<Refused>,
}

/// What a refusal has led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stance {
    /// None is open.
    #[default]
    Free,
    /// One was about our picture of the dataplane; one attempt with a full snapshot is made.
    Healing,
    /// The desired state was refused: the same would be again. Until it changes, nothing.
    Held,
}

impl Reconciler {
    /// A reconciler that isn't connected and has nothing to ask for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The dataplane is to hold this; its generation is ignored. Ends a hold if it is
    /// another state than the one refused.
    pub fn on_desired(&mut self, mut desired: State) {
        desired.generation = Generation(0);
        if self.desired.as_ref() != Some(&desired) {
            self.desired = Some(desired);
            self.stance = Stance::Free;
        }
    }

    /// A connection is up, and the dataplane reports its instance, another one at each of its
    /// starts, and the generation in force; `None` or 0 if it was never told anything. The
    /// first transaction will be a snapshot.
    pub fn on_connect(&mut self, instance: u64, observed: Option<Generation>) {
        // What was sent on another connection may be in force, or be so in a moment, and a
        // number alone does not say that it is: an agent before this one may have used it.
        let unanswered = self.in_flight.take().is_some();
        let in_force = self.acked.as_ref().map(|it| it.generation);
        // Numbers rise in one run of a dataplane; another run may have begun anew.
        if unanswered || in_force != observed || self.instance != instance {
            self.acked = None;
        }
        if is(Mutant::RestartUnnoticed) && self.instance != instance && self.desired.is_some() {
            self.acked.clone_from(&self.desired);
            (self.connected, self.unsynced) = (true, false);
            return;
        }
        self.instance = instance;
        self.last = self.last.max(observed.unwrap_or_default());
        self.connected = true;
        self.unsynced = true;
        self.stance = Stance::Free;
    }

    /// The connection is gone. What was sent may or may not be in force: the next one
    /// begins with a snapshot that needs nothing of it.
    pub fn on_disconnect(&mut self) {
        self.connected = false;
    }

    /// What to send now; `None` if there is nothing to, or an answer is awaited. At most one
    /// transaction is in flight.
    pub fn next_transaction(&mut self) -> Option<Transaction> {
        if !self.connected || self.in_flight.is_some() || self.stance == Stance::Held {
            return None;
        }
        let mut target = self.desired.clone()?;
        let whole = self.unsynced || self.stance == Stance::Healing;
        let in_force = self.acked.as_ref();
        if !whole && in_force.is_some_and(|it| same(it, &target)) {
            return None;
        }
        // After 2^64 transactions there is no next one.
        target.generation = Generation(self.last.0.checked_add(1)?);
        let is_anew = whole && self.last > Generation(0);
        let opened = (is_anew && is(Mutant::RestartOpens)).then(|| opened(&target));
        let told = opened.as_ref().unwrap_or(&target);
        let tx = match in_force {
            Some(in_force) if !whole => in_force.delta_to(told),
            Some(in_force) => snapshot_over(in_force, told),
            None => told.to_snapshot(),
        };
        self.last = target.generation;
        self.in_flight = Some(target);
        Some(tx)
    }

    /// The dataplane acknowledged a generation. One that isn't in flight is an old
    /// connection's and says nothing.
    pub fn on_ack(&mut self, generation: Generation) {
        if let Some(state) = self.in_flight.take_if(|it| it.generation == generation) {
            self.acked = Some(state);
            self.unsynced = false;
            self.stance = Stance::Free;
            self.error = None;
        }
    }

    /// The dataplane refused what is in flight, and holds what it held. If that is because
    /// our picture of it was wrong, one full snapshot follows; otherwise nothing until the
    /// desired state changes or the connection is made anew.
    pub fn on_refused(&mut self, refusal: Refusal) {
        let current = match refusal.why {
            RefusalReason::StaleBase { current, .. }
            | RefusalReason::GenerationNotRising { current, .. } => current,
            _ => self
                .acked
                .as_ref()
                .map_or_else(Generation::default, |it| it.generation),
        };
        self.refuse(Refused::new(current, &refusal));
    }

    /// An answer as it came over the wire: [`Self::on_ack`], or what [`Self::on_refused`]
    /// does with a refusal.
    pub fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Ack { generation } => self.on_ack(generation),
            Answer::Refused(refused) => self.refuse(refused),
        }
    }

    fn refuse(&mut self, refused: Refused) {
        if self.in_flight.take().is_none() {
            return;
        }
        let wrong_picture = matches!(refused.code, RefusalCode::Stale | RefusalCode::Operation);
        self.last = self.last.max(refused.generation);
        self.stance = if wrong_picture && self.stance == Stance::Free {
            self.acked = None;
            Stance::Healing
        } else {
            Stance::Held
        };
        self.error = Some(refused);
    }

    /// The last refusal, until a later transaction is acknowledged.
    #[must_use]
    pub fn error(&self) -> Option<&Refused> {
        self.error.as_ref()
    }

    /// The refusal of the desired state, if nothing more will be sent because of it.
    #[must_use]
    pub fn held(&self) -> Option<&Refused> {
        self.error.as_ref().filter(|_| self.stance == Stance::Held)
    }

    /// Whether a dataplane is connected.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// What the dataplane is to hold.
    #[must_use]
    pub const fn desired(&self) -> Option<&State> {
        self.desired.as_ref()
    }

    /// The generation that is in flight.
    #[must_use]
    pub fn in_flight(&self) -> Option<Generation> {
        self.in_flight.as_ref().map(|it| it.generation)
    }

    /// What the dataplane holds, as far as is known.
    #[must_use]
    pub fn acknowledged(&self) -> Option<&State> {
        self.acked.as_ref()
    }

    /// Whether the dataplane is known to hold the desired state: what CNI ADD waits for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match (&self.desired, &self.acked) {
            (Some(desired), Some(acked)) => {
                self.connected && !self.unsynced && self.in_flight.is_none() && same(acked, desired)
            }
            _ => false,
        }
    }
}

/// A planted bug's: a state in which no policy denies.
fn opened(state: &State) -> State {
    let mut state = state.clone();
    for id in state.policies.keys().copied().collect::<Vec<_>>() {
        if let Some(policy) = state.policies.get_mut(&id) {
            policy.rows.clear();
            policy.ingress.verdict = Verdict::Allow;
            policy.egress.verdict = Verdict::Allow;
        }
    }
    state
}

/// Whether two states differ in their generations at most.
fn same(a: &State, b: &State) -> bool {
    a.ports == b.ports
        && a.endpoints == b.endpoints
        && a.identities == b.identities
        && a.prefixes == b.prefixes
        && a.policies == b.policies
        && a.peers == b.peers
}

/// A snapshot that names what hasn't changed instead of sending it again.
fn snapshot_over(in_force: &State, target: &State) -> Transaction {
    let op = |object: sluice_offload_api::Object| {
        let key = object.key();
        if in_force.object(&key).as_ref() == Some(&object) {
            Op::Keep(key)
        } else {
            Op::Add(object)
        }
    };
    let ops = target.objects().map(op).collect();
    Transaction {
        mode: Mode::Snapshot,
        ops,
        generation: target.generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_offload_api::Key;
    use sluice_offload_api::model::{Identity, IdentityId};

    /// A state of some identities.
    fn state(ids: &[u32]) -> State {
        let mut state = State::default();
        for id in ids.iter().copied().map(IdentityId) {
            state.identities.insert(
                id,
                Identity {
                    id,
                    label: format!("id {id}"),
                    domain: None,
                    encryption: Default::default(),
                },
            );
        }
        state
    }

    /// A dataplane that isn't started again.
    const RUN: u64 = 5;

    fn ids(state: &State) -> Vec<u32> {
        state.identities.keys().map(|it| it.0).collect()
    }

    /// A connected reconciler and the dataplane it brought to `ids`.
    fn settled(ids: &[u32]) -> (Reconciler, State) {
        let (mut agent, mut dataplane) = (Reconciler::new(), State::default());
        agent.on_desired(state(ids));
        agent.on_connect(RUN, None);
        let tx = agent.next_transaction().unwrap();
        dataplane = dataplane.apply(&tx).unwrap();
        agent.on_ack(dataplane.generation);
        assert!(agent.is_settled());
        (agent, dataplane)
    }

    #[test]
    fn nothing_is_sent_before_there_is_a_desire_and_a_connection() {
        let mut agent = Reconciler::new();
        agent.on_connect(RUN, None);
        assert_eq!(agent.next_transaction(), None);
        let mut agent = Reconciler::new();
        agent.on_desired(state(&[1]));
        assert_eq!(agent.next_transaction(), None);
    }

    #[test]
    fn a_change_is_a_delta_and_one_is_in_flight_at_a_time() {
        let (mut agent, dataplane) = settled(&[1, 2]);
        assert_eq!(agent.next_transaction(), None);
        agent.on_desired(state(&[2, 3]));
        let tx = agent.next_transaction().unwrap();
        assert_eq!(
            tx.mode,
            Mode::Delta {
                base: dataplane.generation
            }
        );
        assert_eq!(tx.ops.len(), 2);
        agent.on_desired(state(&[4]));
        assert_eq!(agent.next_transaction(), None);
        let dataplane = dataplane.apply(&tx).unwrap();
        agent.on_ack(dataplane.generation);
        assert!(!agent.is_settled());
        let dataplane = dataplane.apply(&agent.next_transaction().unwrap()).unwrap();
        assert_eq!(ids(&dataplane), [4]);
    }

    #[test]
    fn a_reconnect_sends_a_snapshot_that_keeps_what_is_known_to_be_there() {
        let (mut agent, dataplane) = settled(&[1, 2]);
        agent.on_disconnect();
        agent.on_desired(state(&[2, 3]));
        agent.on_connect(RUN, Some(dataplane.generation));
        let tx = agent.next_transaction().unwrap();
        assert_eq!(tx.mode, Mode::Snapshot);
        assert_eq!(tx.ops[0], Op::Keep(Key::Identity(IdentityId(2))));
        assert!(matches!(tx.ops[1], Op::Add(_)));
        assert_eq!(ids(&dataplane.apply(&tx).unwrap()), [2, 3]);
    }

    #[test]
    fn an_empty_dataplane_gets_everything_added() {
        let (mut agent, _) = settled(&[1, 2]);
        agent.on_connect(RUN, None);
        let tx = agent.next_transaction().unwrap();
        assert!(tx.ops.iter().all(|op| matches!(op, Op::Add(_))));
        assert_eq!(ids(&State::default().apply(&tx).unwrap()), [1, 2]);
    }

    #[test]
    fn a_new_agent_goes_above_what_is_in_force() {
        let (_, dataplane) = settled(&[1, 2]);
        let mut agent = Reconciler::new();
        agent.on_desired(state(&[7]));
        agent.on_connect(RUN, Some(dataplane.generation));
        let tx = agent.next_transaction().unwrap();
        assert_eq!(ids(&dataplane.apply(&tx).unwrap()), [7]);
    }

    #[test]
    fn a_lost_ack_is_made_up_for_by_sending_everything() {
        let (mut agent, dataplane) = settled(&[1]);
        agent.on_desired(state(&[1, 2]));
        let dataplane = dataplane.apply(&agent.next_transaction().unwrap()).unwrap();
        agent.on_disconnect();
        agent.on_connect(RUN, Some(dataplane.generation));
        let tx = agent.next_transaction().unwrap();
        assert!(tx.ops.iter().all(|op| matches!(op, Op::Add(_))));
        assert!(dataplane.apply(&tx).is_ok());
    }

    #[test]
    fn what_is_applied_after_the_connection_broke_is_not_kept_by_mistake() {
        let (mut agent, dataplane) = settled(&[1]);
        let mut changed = state(&[1]);
        let identity = changed.identities.get_mut(&IdentityId(1)).unwrap();
        identity.label = "changed".to_owned();
        agent.on_desired(changed);
        let late = agent.next_transaction().unwrap();
        agent.on_disconnect();
        // The status was read before, and the change is taken back meanwhile.
        agent.on_connect(RUN, Some(dataplane.generation));
        agent.on_desired(state(&[1]));
        let tx = agent.next_transaction().unwrap();
        let dataplane = dataplane.apply(&late).unwrap().apply(&tx).unwrap();
        assert_eq!(dataplane.identities, state(&[1]).identities);
    }

    #[test]
    fn another_agents_generation_of_the_same_number_is_not_taken_for_ours() {
        let (_, dataplane) = settled(&[1]);
        // One that was killed, whose last transaction is still on its way.
        let mut killed = Reconciler::new();
        killed.on_desired(state(&[7]));
        killed.on_connect(RUN, Some(dataplane.generation));
        let theirs = killed.next_transaction().unwrap();
        let mut agent = Reconciler::new();
        agent.on_desired(state(&[1, 2]));
        agent.on_connect(RUN, Some(dataplane.generation));
        let ours = agent.next_transaction().unwrap();
        assert_eq!(ours.generation, theirs.generation);
        let dataplane = dataplane.apply(&theirs).unwrap();
        agent.on_disconnect();
        agent.on_connect(RUN, Some(dataplane.generation));
        assert_eq!(agent.acknowledged(), None);
        let tx = agent.next_transaction().unwrap();
        assert_eq!(ids(&dataplane.apply(&tx).unwrap()), [1, 2]);
    }

    #[test]
    fn the_same_number_of_another_run_of_the_dataplane_is_not_taken_for_ours() {
        let (mut agent, dataplane) = settled(&[1]);
        agent.on_disconnect();
        // It began anew, and another agent programmed it up to our number.
        let mut theirs = State::default();
        let mut other = state(&[7]).to_snapshot();
        other.generation = dataplane.generation;
        theirs = theirs.apply(&other).unwrap();
        agent.on_connect(RUN + 1, Some(theirs.generation));
        assert_eq!(agent.acknowledged(), None);
        let tx = agent.next_transaction().unwrap();
        assert_eq!(ids(&theirs.apply(&tx).unwrap()), [1]);
    }

    #[test]
    fn an_old_ack_says_nothing() {
        let (mut agent, dataplane) = settled(&[1]);
        agent.on_desired(state(&[2]));
        let tx = agent.next_transaction().unwrap();
        agent.on_ack(dataplane.generation);
        assert!(!agent.is_settled());
        agent.on_ack(tx.generation);
        assert!(agent.is_settled());
    }

    #[test]
    fn a_refused_desire_is_held_until_it_changes_and_the_last_good_stays() {
        let (mut agent, dataplane) = settled(&[1]);
        agent.on_desired(state(&[0]));
        let tx = agent.next_transaction().unwrap();
        agent.on_refused(dataplane.apply(&tx).unwrap_err());
        let error = agent.error().unwrap().to_string();
        assert!(error.contains("identity 0 is never used"), "{error}");
        assert_eq!(agent.next_transaction(), None);
        agent.on_desired(state(&[0]));
        assert_eq!(agent.next_transaction(), None);
        assert_eq!(agent.acknowledged(), Some(&dataplane));

        agent.on_desired(state(&[2]));
        let tx = agent.next_transaction().unwrap();
        let dataplane = dataplane.apply(&tx).unwrap();
        agent.on_ack(dataplane.generation);
        assert!(agent.is_settled() && agent.error().is_none());
    }

    #[test]
    fn a_reconnect_tries_a_refused_desire_once_more() {
        let (mut agent, dataplane) = settled(&[1]);
        agent.on_desired(state(&[0]));
        let tx = agent.next_transaction().unwrap();
        agent.on_refused(dataplane.apply(&tx).unwrap_err());
        agent.on_connect(RUN, Some(dataplane.generation));
        assert!(agent.next_transaction().is_some());
    }

    #[test]
    fn a_wrong_picture_of_the_dataplane_is_healed_once() {
        let (mut agent, dataplane) = settled(&[1, 2]);
        let other = state(&[9]).to_snapshot();
        let mut other = Transaction {
            generation: Generation(40),
            ..other
        };
        let dataplane = dataplane.apply(&other).unwrap();
        agent.on_desired(state(&[1, 3]));
        let tx = agent.next_transaction().unwrap();
        agent.on_refused(dataplane.apply(&tx).unwrap_err());
        let tx = agent.next_transaction().unwrap();
        assert_eq!(ids(&dataplane.apply(&tx).unwrap()), [1, 3]);

        other.generation = Generation(50);
        let dataplane = dataplane.apply(&other).unwrap();
        agent.on_refused(dataplane.apply(&tx).unwrap_err());
        assert_eq!(agent.next_transaction(), None);
    }
}
