//! Whatever is lost, the dataplane ends up with what is desired.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::reconcile::Reconciler;
use sluice_offload_api::model::Generation;
use sluice_offload_api::{Limits, State};
use world::{World, world};

/// A step of an agent's life.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The cluster becomes another one of the list.
    Desire(usize),
    /// The dataplane takes what is sent, and answers.
    Deliver,
    /// It takes it, and the answer is lost with the connection.
    LoseAnswer,
    /// The connection breaks before it gets there.
    LoseRequest,
    /// The dataplane starts anew with nothing.
    DataplaneRestart,
    /// The agent starts anew, with its journal of numbers.
    AgentRestart,
}

const WORLDS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..WORLDS).prop_map(Step::Desire),
        6 => Just(Step::Deliver),
        1 => Just(Step::LoseAnswer),
        1 => Just(Step::LoseRequest),
        1 => Just(Step::DataplaneRestart),
        1 => Just(Step::AgentRestart),
    ]
}

struct Rig {
    agent: Reconciler,
    /// Another one at each start of the dataplane.
    instance: u64,
    dataplane: State,
    desired: State,
}

impl Rig {
    fn connect(&mut self) {
        let generation = self.dataplane.generation;
        self.agent.on_connect(
            self.instance,
            (generation > Generation(0)).then_some(generation),
        );
    }

    /// Sends what there is to send; whether there was.
    fn deliver(&mut self, answered: bool) -> bool {
        let Some(tx) = self.agent.next_transaction() else {
            return false;
        };
        self.dataplane = self.dataplane.apply(&tx).unwrap();
        if answered {
            self.agent.on_ack(self.dataplane.generation);
        }
        true
    }

    fn take(&mut self, step: Step, states: &[State]) {
        match step {
            Step::Desire(index) => {
                self.desired = states[index].clone();
                self.agent.on_desired(self.desired.clone());
            }
            Step::Deliver => {
                self.deliver(true);
            }
            Step::LoseAnswer => {
                self.deliver(false);
                self.agent.on_disconnect();
                self.connect();
            }
            Step::LoseRequest => {
                drop(self.agent.next_transaction());
                self.agent.on_disconnect();
                self.connect();
            }
            Step::DataplaneRestart => {
                self.dataplane = State::default();
                self.instance += 1;
                self.connect();
            }
            Step::AgentRestart => {
                self.agent = Reconciler::new();
                self.agent.on_desired(self.desired.clone());
                self.connect();
            }
        }
    }
}

fn states(worlds: &[World]) -> Vec<State> {
    let mut identities = IdentityTable::default();
    worlds
        .iter()
        .map(|it| it.state("n0", &mut identities))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_dataplane_ends_up_with_what_is_desired(
        worlds in vec(world(), WORLDS),
        steps in vec(step(), 1..40),
    ) {
        let states = states(&worlds);
        let mut rig = Rig {
            agent: Reconciler::new(),
            instance: 1,
            dataplane: State::default(),
            desired: states[0].clone(),
        };
        rig.agent.on_desired(rig.desired.clone());
        rig.connect();
        for step in steps {
            rig.take(step, &states);
        }
        prop_assert!(usize::from(rig.deliver(true)) + usize::from(rig.deliver(true)) <= 1);
        prop_assert!(rig.agent.is_settled());
        let expected = State { generation: rig.dataplane.generation, ..rig.desired };
        prop_assert_eq!(rig.dataplane, expected);
    }

    #[test]
    fn a_compiled_state_is_one_that_a_dataplane_takes(world in world()) {
        for node in world::NODES {
            let state = world.state(node, &mut IdentityTable::default());
            prop_assert_eq!(state.validate(&Limits::MAX), Ok(()));
        }
    }
}
