//! SCTP, packet by packet: which tags pass and what the flow is then. RFC 9260.

use sluice_dataplane_core::flow::state::FlowState::{
    self, Closed, ClosingInitiator, Established, Opening,
};
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::Body;

use crate::rig::*;
use crate::track::flows;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Client,
    Server,
}
use Who::{Client, Server};

/// Tags that the ends chose: packets to the client carry `C`.
const C: u32 = 0xc11e_0001;
const S: u32 = 0x5e12_0002;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

const PASS: Result<(), &str> = Ok(());
const TAG: Result<(), &str> = Err("sctp-tag");

/// Who, chunk, verification tag, initiate tag; whether it passes; what the flow is then.
type Step = (Who, u8, u32, u32, Result<(), &'static str>, FlowState);

/// An association's first four packets.
const HANDSHAKE: [Step; 4] = [
    (Client, INIT, 0, C, PASS, Opening),
    (Server, INIT_ACK, C, S, PASS, Opening),
    (Client, COOKIE_ECHO, S, 0, PASS, Opening),
    (Server, COOKIE_ACK, C, 0, PASS, Established),
];

struct Talk {
    rig: Rig,
    /// The T bit of what is sent.
    reflected: bool,
}

impl Talk {
    fn new() -> Self {
        Self {
            rig: Rig::new(),
            reflected: false,
        }
    }

    fn established() -> Self {
        let mut talk = Self::new();
        talk.steps(&HANDSHAKE);
        talk
    }

    fn steps(&mut self, steps: &[Step]) {
        for (at, &(who, chunk, tag, init_tag, want, state)) in steps.iter().enumerate() {
            let got = self.send(who, chunk, tag, init_tag);
            assert_eq!(got, want.map_err(str::to_owned), "step {at}");
            assert_eq!(flows(&mut self.rig.a)[0].state, state, "after step {at}");
        }
    }

    fn send(&mut self, who: Who, chunk: u8, tag: u32, init_tag: u32) -> Result<(), String> {
        let (vf, other, ports) = match who {
            Client => (0, 1, [0x9c, 0x40, 0x96, 0x0c]),
            Server => (1, 0, [0x96, 0x0c, 0x9c, 0x40]),
        };
        let mut payload = ports.to_vec();
        payload.extend(tag.to_be_bytes());
        payload.extend([0; 4]);
        payload.extend([chunk, u8::from(self.reflected), 0, 20]);
        payload.extend(init_tag.to_be_bytes());
        payload.extend([0; 12]);
        let body = Body::Other {
            protocol: proto::SCTP,
        };
        let spec = Side::A.pod_sends(vf, Side::A.pod(other, true), body);
        let (port, out) = (Side::vf_port(vf), Side::vf_port(other));
        self.rig
            .a
            .deliver(port, &with_payload(spec, payload).build());
        self.rig.a.poll();
        match self.rig.a.take(out).len() {
            0 => Err(self.rig.a.last_drop(port)),
            _ => Ok(()),
        }
    }
}

#[test]
fn an_association_opens_talks_and_shuts_down() {
    Talk::established().steps(&[
        (Client, DATA, S, 0, PASS, Established),
        (Server, SACK, C, 0, PASS, Established),
        (Client, HEARTBEAT, S, 0, PASS, Established),
        (Server, HEARTBEAT_ACK, C, 0, PASS, Established),
        (Client, SHUTDOWN, S, 0, PASS, ClosingInitiator),
        (Server, DATA, C, 0, PASS, ClosingInitiator),
        (Server, SHUTDOWN_ACK, C, 0, PASS, ClosingInitiator),
        (Client, SHUTDOWN_COMPLETE, S, 0, PASS, Closed),
    ]);
}

#[test]
fn a_tag_that_is_not_the_other_ends_is_dropped_and_changes_nothing() {
    for chunk in [
        DATA,
        SACK,
        INIT_ACK,
        HEARTBEAT_ACK,
        ABORT,
        SHUTDOWN,
        SHUTDOWN_ACK,
        COOKIE_ECHO,
        COOKIE_ACK,
        SHUTDOWN_COMPLETE,
    ] {
        for tag in [1, C] {
            let mut talk = Talk::established();
            talk.steps(&[(Client, chunk, tag, 9, TAG, Established)]);
            talk.steps(&[(Client, DATA, S, 0, PASS, Established)]);
        }
    }
}

#[test]
fn only_init_and_a_second_paths_heartbeat_begin() {
    for chunk in [
        DATA,
        SACK,
        ABORT,
        SHUTDOWN,
        SHUTDOWN_ACK,
        COOKIE_ECHO,
        COOKIE_ACK,
        HEARTBEAT_ACK,
        SHUTDOWN_COMPLETE,
        INIT_ACK,
    ] {
        let mut talk = Talk::new();
        assert_eq!(talk.send(Client, chunk, 7, 7), Err("sctp-no-flow".into()));
    }
    Talk::new().steps(&[
        (Client, HEARTBEAT, S, 0, PASS, Opening),
        (Client, DATA, 7, 0, TAG, Opening),
        (Server, DATA, C, 0, TAG, Opening),
        (Server, HEARTBEAT_ACK, C, 0, PASS, Established),
        (Client, DATA, S, 0, PASS, Established),
        (Server, DATA, C, 0, PASS, Established),
    ]);
}

#[test]
fn an_init_with_a_tag_or_without_its_own_is_malformed() {
    for (tag, init_tag) in [(1, C), (0, 0)] {
        let mut talk = Talk::new();
        let got = talk.send(Client, INIT, tag, init_tag);
        assert_eq!(got, Err("malformed".into()));
    }
}

#[test]
fn an_abort_closes_by_either_tag_and_a_refusal_by_that_of_the_init() {
    Talk::established().steps(&[(Server, ABORT, C, 0, PASS, Closed)]);
    let mut talk = Talk::established();
    talk.reflected = true;
    talk.steps(&[
        (Server, ABORT, C, 0, TAG, Established),
        (Server, ABORT, S, 0, PASS, Closed),
    ]);
    Talk::new().steps(&[
        (Client, INIT, 0, C, PASS, Opening),
        (Server, ABORT, S, 0, TAG, Opening),
        (Server, ABORT, C, 0, PASS, Closed),
    ]);
}

#[test]
fn a_restart_changes_nothing_before_its_cookie() {
    let (c, s) = (77, 88);
    Talk::established().steps(&[
        (Client, INIT, 0, c, PASS, Established),
        (Server, DATA, C, 0, PASS, Established),
        (Server, DATA, c, 0, TAG, Established),
        (Client, DATA, S, 0, PASS, Established),
        (Server, INIT_ACK, c, s, PASS, Established),
        (Client, COOKIE_ECHO, 99, 0, TAG, Established),
        (Client, COOKIE_ECHO, s, 0, PASS, Opening),
        (Server, COOKIE_ACK, c, 0, PASS, Established),
        (Server, DATA, c, 0, PASS, Established),
        (Client, DATA, s, 0, PASS, Established),
        (Client, DATA, S, 0, TAG, Established),
    ]);
}

#[test]
fn a_forged_init_and_a_forged_heartbeat_end_nothing() {
    Talk::established().steps(&[
        (Client, INIT, 0, 666, PASS, Established),
        (Server, INIT_ACK, 666, 5, PASS, Established),
        (Server, ABORT, 666, 0, PASS, Established),
        (Client, HEARTBEAT, 666, 0, PASS, Established),
        (Client, HEARTBEAT_ACK, 666, 0, TAG, Established),
        (Server, HEARTBEAT, C, 0, PASS, Established),
        (Client, HEARTBEAT_ACK, S, 0, PASS, Established),
        (Client, DATA, S, 0, PASS, Established),
    ]);
}

#[test]
fn a_restart_that_another_path_saw_is_learned_from_a_heartbeat_and_its_answer() {
    Talk::established().steps(&[
        (Client, HEARTBEAT, 88, 0, PASS, Established),
        (Client, DATA, 88, 0, TAG, Established),
        (Server, HEARTBEAT_ACK, 77, 0, PASS, Established),
        (Client, DATA, 88, 0, PASS, Established),
        (Server, DATA, 77, 0, PASS, Established),
        (Server, DATA, C, 0, TAG, Established),
    ]);
}

#[test]
fn both_ends_may_init_at_once() {
    Talk::new().steps(&[
        (Client, INIT, 0, C, PASS, Opening),
        (Server, INIT, 0, S, PASS, Opening),
        (Server, INIT_ACK, C, S, PASS, Opening),
        (Client, INIT_ACK, S, C, PASS, Opening),
        (Client, COOKIE_ECHO, S, 0, PASS, Opening),
        (Server, COOKIE_ACK, C, 0, PASS, Established),
        (Server, COOKIE_ECHO, C, 0, PASS, Established),
        (Client, COOKIE_ACK, S, 0, PASS, Established),
    ]);
}

#[test]
fn a_shutdown_of_an_older_association_may_answer_an_init() {
    let mut talk = Talk::new();
    talk.steps(&[
        (Client, INIT, 0, C, PASS, Opening),
        (Server, SHUTDOWN_ACK, 55, 0, PASS, Opening),
        (Client, SHUTDOWN_COMPLETE, 56, 0, TAG, Opening),
    ]);
    talk.reflected = true;
    talk.steps(&[(Client, SHUTDOWN_COMPLETE, 55, 0, PASS, Opening)]);
}

#[test]
fn an_init_after_the_end_is_judged_as_new() {
    for reuser in [Client, Server] {
        let mut talk = Talk::established();
        talk.steps(&[(Server, ABORT, C, 0, PASS, Closed)]);
        talk.rig.a.verdicts();
        talk.steps(&[(reuser, INIT, 0, 9, PASS, Opening)]);
        assert_eq!(talk.rig.a.verdicts().len(), 1, "judged once more");
        let src_port = if reuser == Client { 40_000 } else { 38_412 };
        assert_eq!(flows(&mut talk.rig.a)[0].tuple.src_port, src_port);
    }
}

#[test]
fn who_was_spoken_to_may_not_init() {
    let mut talk = Talk::established();
    talk.rig
        .a
        .replan(|plan| plan.repolicy(1, Policy::defaulting(true, false)));
    assert_eq!(talk.send(Server, INIT, 0, 9), Err("policy-egress".into()));
    talk.steps(&[(Server, DATA, C, 0, PASS, Established)]);
}

#[test]
fn an_association_is_picked_up_after_a_crash() {
    let mut talk = Talk::new();
    talk.rig.a = Node::picking_up(Plan::open(Side::A), START + 30 * Tick::SECOND);
    talk.rig.a.poll();
    talk.rig.a.take(UPLINK);
    talk.steps(&[
        (Client, DATA, S, 0, PASS, Opening),
        (Client, DATA, 5, 0, TAG, Opening),
        (Server, SACK, C, 0, PASS, Established),
        (Server, SACK, 5, 0, TAG, Established),
        (Client, SACK, S, 0, PASS, Established),
    ]);
}
