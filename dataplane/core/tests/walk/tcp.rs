//! TCP, segment by segment: which pass, which are dropped and why, and what the flow is
//! then. A table a rule; RFC 9293 and RFC 5961.

use sluice_dataplane_core::flow::state::FlowState::{
    self, Closed, ClosingInitiator, ClosingResponder, Established, Opening,
};
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::tick::Tick;

use crate::rig::*;
use crate::track::flows;

/// Who sends a segment: the client behind vf0, or the server behind vf1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Client,
    Server,
}
use Who::{Client, Server};

/// Who, flags, sequence number from the sender's start, acknowledgement from the other
/// end's, bytes; whether it passes; what the flow is then.
type Step = (
    Who,
    u8,
    i64,
    i64,
    usize,
    Result<(), &'static str>,
    FlowState,
);

const PASS: Result<(), &str> = Ok(());
const WINDOW: Result<(), &str> = Err("tcp-window");
const FLAGS: Result<(), &str> = Err("tcp-flags");

/// Where the client's and the server's numbers begin; the server's soon start over.
pub(crate) const C: u32 = 1000;
pub(crate) const S: u32 = 0xffff_ff00;

pub(crate) struct Talk {
    pub(crate) rig: Rig,
}

impl Talk {
    fn new() -> Self {
        Self { rig: Rig::new() }
    }

    /// A connection that stands: either end's next number is 1.
    pub(crate) fn established() -> Self {
        let mut talk = Self::new();
        talk.steps(&[
            (Client, SYN, 0, 0, 0, PASS, Opening),
            (Server, SYN | ACK, 0, 1, 0, PASS, Opening),
            (Client, ACK, 1, 1, 0, PASS, Established),
        ]);
        talk
    }

    fn steps(&mut self, steps: &[Step]) {
        for (at, &(who, flags, seq, ack, len, want, state)) in steps.iter().enumerate() {
            let got = self.send(who, flags, seq, ack, len);
            assert_eq!(got, want.map_err(str::to_owned), "step {at}");
            assert_eq!(flows(&mut self.rig.a)[0].state, state, "after step {at}");
        }
    }

    pub(crate) fn send(
        &mut self,
        who: Who,
        flags: u8,
        seq: i64,
        ack: i64,
        len: usize,
    ) -> Result<(), String> {
        let (vf, other, ports) = match who {
            Client => (0, 1, (40_000, 80)),
            Server => (1, 0, (80, 40_000)),
        };
        let (own, others) = if who == Client { (C, S) } else { (S, C) };
        let number = |start: u32, at: i64| start.wrapping_add(at.cast_unsigned() as u32);
        let ack = if flags & ACK == 0 {
            0
        } else {
            number(others, ack)
        };
        let body = tcp_at(ports.0, ports.1, flags, number(own, seq), ack);
        let spec = Side::A.pod_sends(vf, Side::A.pod(other, true), body);
        let frame = with_payload(spec, vec![7; len]).build();
        let (port, out) = (Side::vf_port(vf), Side::vf_port(other));
        self.rig.a.deliver(port, &frame);
        self.rig.a.poll();
        match self.rig.a.take(out).len() {
            0 => Err(self.rig.a.last_drop(port)),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_connection_opens_talks_and_closes() {
    Talk::established().steps(&[
        (Client, ACK, 1, 1, 500, PASS, Established),
        (Server, ACK, 1, 501, 300, PASS, Established),
        (Client, FIN | ACK, 501, 301, 0, PASS, ClosingInitiator),
        (Server, ACK, 301, 502, 700, PASS, ClosingInitiator),
        (Client, ACK, 502, 1001, 0, PASS, ClosingInitiator),
        (Server, FIN | ACK, 1001, 502, 0, PASS, Closed),
        (Client, ACK, 502, 1002, 0, PASS, Closed),
    ]);
}

#[test]
fn the_server_may_close_first_and_both_may_at_once() {
    Talk::established().steps(&[
        (Server, FIN | ACK, 1, 1, 0, PASS, ClosingResponder),
        (Client, FIN | ACK, 1, 1, 0, PASS, Closed),
        (Client, ACK, 2, 2, 0, PASS, Closed),
        (Server, ACK, 2, 2, 0, PASS, Closed),
    ]);
}

#[test]
fn a_syn_is_answered_by_a_number_that_acknowledges_it() {
    let mut talk = Talk::new();
    talk.steps(&[
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Server, SYN | ACK, 0, 0, 0, WINDOW, Opening),
        (Server, SYN | ACK, 0, 2, 0, WINDOW, Opening),
        (Server, ACK, 0, 1, 9, WINDOW, Opening),
        (Client, ACK, 1, 1, 0, WINDOW, Opening),
        (Server, SYN | ACK, 0, 1, 0, PASS, Opening),
        (Client, ACK, 1, 0, 0, WINDOW, Opening),
        (Client, ACK, 1, 2, 0, WINDOW, Opening),
        (Client, ACK, 1, 1, 0, PASS, Established),
    ]);
}

#[test]
fn a_retransmitted_syn_is_no_established_flow() {
    Talk::new().steps(&[
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Server, SYN | ACK, 0, 1, 0, PASS, Opening),
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Server, SYN | ACK, 0, 1, 0, PASS, Opening),
    ]);
}

#[test]
fn both_may_open_at_once() {
    Talk::new().steps(&[
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Server, SYN, 0, 0, 0, PASS, Opening),
        (Client, SYN | ACK, 0, 1, 0, PASS, Opening),
        (Server, SYN | ACK, 0, 1, 0, PASS, Established),
        (Client, ACK, 1, 1, 100, PASS, Established),
        (Server, ACK, 1, 101, 100, PASS, Established),
    ]);
}

#[test]
fn a_syn_with_data_may_be_acknowledged_with_or_without_it() {
    for acked in [1, 101] {
        Talk::new().steps(&[
            (Client, SYN, 0, 0, 100, PASS, Opening),
            (Server, SYN | ACK, 0, acked, 0, PASS, Opening),
            (Server, ACK, 1, acked, 1000, PASS, Opening),
            (Server, ACK, 1001, acked, 1000, PASS, Opening),
            (Client, ACK, acked, 2001, 0, PASS, Established),
        ]);
    }
}

#[test]
fn a_segment_outside_the_window_is_dropped_and_changes_nothing() {
    let far = 65_535;
    Talk::established().steps(&[
        (Client, ACK, 1, 1, 100, PASS, Established),
        // Past the edge, and a window to the left of what was sent.
        (Client, ACK, 1 + far + 2, 1, 10, WINDOW, Established),
        (Client, FIN | ACK, 1 + far + 2, 1, 0, WINDOW, Established),
        (Client, ACK, 101 - far - 12, 1, 10, WINDOW, Established),
        // Acknowledges what nobody sent, and what was acknowledged two windows ago.
        (Client, ACK, 101, 2, 10, WINDOW, Established),
        (Client, FIN | ACK, 101, 2, 0, WINDOW, Established),
        (Client, ACK, 101, -2 * far - 1, 10, WINDOW, Established),
        (Client, ACK, 101, 1, 10, PASS, Established),
    ]);
}

#[test]
fn the_edges_of_the_window_itself_pass() {
    let far = 65_535;
    for (seq, ack, len) in [
        // Retransmitted from a window ago; a keepalive; a probe of a full window.
        (101 - far, 1, 0),
        (101 - far - 1, 1, 0),
        (100, 1, 0),
        (100, 1, 1),
        (1 + far, 1, 1),
        (101, 0, 0),
    ] {
        Talk::established().steps(&[
            (Client, ACK, 1, 1, 100, PASS, Established),
            (Client, ACK, seq, ack, len, PASS, Established),
        ]);
    }
}

#[test]
fn flags_that_nobody_sets_together_are_dropped() {
    let mut talk = Talk::established();
    for flags in [
        0,
        FIN,
        SYN | FIN,
        SYN | RST,
        FIN | RST,
        SYN | FIN | ACK,
        0x3f,
        0x28,
    ] {
        talk.steps(&[(Client, flags, 1, 1, 0, FLAGS, Established)]);
    }
    // PSH, URG, ECE and CWR are nobody's business.
    talk.steps(&[(Client, ACK | 0xe8, 1, 1, 5, PASS, Established)]);
}

#[test]
fn a_rst_closes_by_the_exact_number_alone() {
    for (seq, outcome, state) in [
        (201, PASS, Closed),
        (101, PASS, Closed),
        // In the window: the client answers it with a challenge.
        (150, PASS, Established),
        (202, PASS, Established),
        (100, WINDOW, Established),
        (101 + 65_536, WINDOW, Established),
        (0x7000_0000, WINDOW, Established),
    ] {
        for flags in [RST, RST | ACK] {
            let mut talk = Talk::established();
            talk.steps(&[
                (Server, ACK, 1, 1, 100, PASS, Established),
                (Client, ACK, 1, 101, 0, PASS, Established),
                (Server, ACK, 101, 1, 100, PASS, Established),
                (Server, flags, seq, 1, 0, outcome, state),
            ]);
        }
    }
}

#[test]
fn an_inexact_rst_is_challenged_and_the_exact_one_that_follows_closes() {
    Talk::established().steps(&[
        (Server, RST, 77, 0, 0, PASS, Established),
        (Client, ACK, 1, 1, 0, PASS, Established),
        (Server, RST, 1, 0, 0, PASS, Closed),
    ]);
}

#[test]
fn a_rst_that_refuses_a_syn_acknowledges_it() {
    Talk::new().steps(&[
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Server, RST, 0, 0, 0, WINDOW, Opening),
        (Server, RST | ACK, 0, 0, 0, WINDOW, Opening),
        (Client, RST, 1, 0, 0, WINDOW, Opening),
        (Server, RST | ACK, 0, 1, 0, PASS, Closed),
    ]);
}

#[test]
fn a_syn_in_a_connection_is_challenged_and_the_rst_that_answers_closes_it() {
    // The client has started over and forgotten; the server has not.
    let again = 0x1234_5678;
    Talk::established().steps(&[
        (Client, SYN, again, 0, 0, PASS, Established),
        (Server, ACK, 1, 1, 0, PASS, Established),
        (Client, RST, 1, 0, 0, PASS, Closed),
        (Client, SYN, again, 0, 0, PASS, Opening),
        (Server, SYN | ACK, 5, again + 1, 0, PASS, Opening),
        (Client, ACK, again + 1, 6, 0, PASS, Established),
    ]);
}

#[test]
fn a_syn_in_a_connection_that_both_have_forgotten_begins_anew_with_its_answer() {
    let again = 0x1234_5678;
    Talk::established().steps(&[
        (Client, SYN, again, 0, 0, PASS, Established),
        (Server, SYN | ACK, 5, again, 0, WINDOW, Established),
        (Server, SYN | ACK, 5, again + 1, 0, PASS, Opening),
        (Client, ACK, again + 1, 6, 0, PASS, Established),
        (Server, ACK, 6, again + 1, 10, PASS, Established),
    ]);
    // Or nobody is there any more.
    Talk::established().steps(&[
        (Client, SYN, again, 0, 0, PASS, Established),
        (Server, RST | ACK, 0, again + 1, 0, PASS, Closed),
    ]);
}

#[test]
fn a_challenge_to_a_syn_passes_and_so_does_the_rst_that_answers_it() {
    // The server has an older connection that no entry knows any more.
    Talk::new().steps(&[
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Client, RST, 777, 0, 0, WINDOW, Opening),
        (Server, ACK, 555, 777, 0, PASS, Opening),
        (Client, RST, 778, 0, 0, WINDOW, Opening),
        (Client, RST, 777, 0, 0, PASS, Opening),
        (Client, SYN, 0, 0, 0, PASS, Opening),
        (Server, SYN | ACK, 0, 1, 0, PASS, Opening),
    ]);
}

#[test]
fn a_retransmitted_syn_ack_passes_until_the_end() {
    Talk::established().steps(&[
        (Server, SYN | ACK, 0, 1, 0, PASS, Established),
        (Client, ACK, 1, 1, 0, PASS, Established),
        (Server, SYN | ACK, 0x100_0000, 1, 0, WINDOW, Established),
    ]);
}

#[test]
fn a_tuple_used_again_after_the_end_is_judged_as_new() {
    for reset in [true, false] {
        for reuser in [Client, Server] {
            let mut talk = Talk::established();
            if reset {
                talk.steps(&[(Server, RST, 1, 0, 0, PASS, Closed)]);
            } else {
                talk.steps(&[
                    (Client, FIN | ACK, 1, 1, 0, PASS, ClosingInitiator),
                    (Server, FIN | ACK, 1, 2, 0, PASS, Closed),
                    (Client, ACK, 2, 2, 0, PASS, Closed),
                ]);
            }
            talk.rig.a.verdicts();
            talk.steps(&[(reuser, SYN, 9, 0, 0, PASS, Opening)]);
            let verdicts = talk.rig.a.verdicts();
            assert_eq!(verdicts.len(), 1, "judged once more");
            let src_port = if reuser == Client { 40_000 } else { 80 };
            assert_eq!(flows(&mut talk.rig.a)[0].tuple.src_port, src_port);
        }
    }
}

#[test]
fn a_tuple_used_again_that_policy_denies_leaves_the_old_flow_as_it_was() {
    let mut talk = Talk::established();
    talk.steps(&[(Server, RST, 1, 0, 0, PASS, Closed)]);
    talk.rig
        .a
        .replan(|plan| plan.repolicy(1, Policy::defaulting(true, false)));
    // The responder may not begin; who was closed may still answer.
    assert_eq!(talk.send(Server, SYN, 9, 0, 0), Err("policy-egress".into()));
    talk.steps(&[(Client, ACK, 1, 1, 0, PASS, Closed)]);
}

#[test]
fn what_changes_nothing_does_not_keep_a_flow_alive() {
    // A SYN, an inexact RST and a segment outside, each just before the time is over.
    for (flags, seq) in [(SYN, 5), (RST, 9), (ACK, 0x1000_0000)] {
        let mut talk = Talk::established();
        talk.rig.advance(7_439 * Tick::SECOND);
        let _ = talk.send(Server, flags, seq, 1, 0);
        talk.rig.advance(Tick::SECOND);
        talk.rig.a.poll();
        assert_eq!(talk.send(Server, ACK, 1, 1, 0), Err("tcp-no-flow".into()));
    }
    let mut talk = Talk::established();
    talk.rig.advance(7_439 * Tick::SECOND);
    assert_eq!(talk.send(Server, ACK, 1, 1, 0), Ok(()));
    talk.rig.advance(Tick::SECOND);
    assert_eq!(talk.send(Client, ACK, 1, 1, 0), Ok(()));
}

#[test]
fn each_state_has_its_time() {
    let reset: &[Step] = &[(Server, RST, 1, 0, 0, PASS, Closed)];
    let one_fin: &[Step] = &[(Client, FIN | ACK, 1, 1, 0, PASS, ClosingInitiator)];
    let two_fins: &[Step] = &[one_fin[0], (Server, FIN | ACK, 1, 1, 0, PASS, Closed)];
    let acked: &[Step] = &[
        one_fin[0],
        (Server, FIN | ACK, 1, 2, 0, PASS, Closed),
        (Client, ACK, 2, 2, 0, PASS, Closed),
    ];
    for (steps, seconds) in [
        (&[][..], 7_440),
        (reset, 10),
        (one_fin, 120),
        (two_fins, 120),
        (acked, 10),
    ] {
        let mut talk = Talk::established();
        talk.steps(steps);
        talk.rig.advance(seconds * Tick::SECOND - Tick::MS);
        talk.rig.a.poll();
        assert_eq!(flows(&mut talk.rig.a).len(), 1, "{seconds} s");
        talk.rig.advance(Tick::MS);
        assert_eq!(talk.send(Client, ACK, 2, 1, 0), Err("tcp-no-flow".into()));
    }
}

#[test]
fn a_dropped_segment_moves_one_counter() {
    let mut talk = Talk::established();
    talk.rig.a.rebase();
    assert_eq!(
        talk.send(Client, ACK, 0x8000_0000, 1, 0),
        Err("tcp-window".into())
    );
    talk.rig
        .a
        .expect_delta(&[("vf0.rx", 1), ("vf0.drop.tcp-window", 1)]);
    assert_eq!(flows(&mut talk.rig.a)[0].tuple.protocol, proto::TCP);
}

/// A talk through a node that has just started and picks up for 30 seconds.
fn after_a_crash(change: impl FnOnce(&mut Plan)) -> Talk {
    let mut talk = Talk::new();
    let mut plan = Plan::open(Side::A);
    change(&mut plan);
    talk.rig.a = Node::picking_up(plan, START + 30 * Tick::SECOND);
    talk.rig.a.poll();
    talk.rig.a.take(UPLINK);
    talk.rig.a.rebase();
    talk
}

#[test]
fn a_connection_is_picked_up_after_a_crash_by_either_end() {
    for (seq, ack) in [(5_000, 70_000), (0, 0)] {
        after_a_crash(|_| {}).steps(&[
            (Client, ACK, seq, ack, 100, PASS, Opening),
            (Client, ACK, seq + 100, ack, 100, PASS, Opening),
            // Retransmitted, though the client has had more before the crash.
            (Server, ACK, ack - 900, seq, 500, PASS, Established),
            (Client, ACK, seq + 200, ack + 3000, 0, PASS, Established),
            (
                Server,
                FIN | ACK,
                ack + 3000,
                seq + 200,
                0,
                PASS,
                ClosingResponder,
            ),
            (Client, FIN | ACK, seq + 200, ack + 3001, 0, PASS, Closed),
        ]);
        after_a_crash(|_| {}).steps(&[
            (Server, ACK, ack, seq, 100, PASS, Opening),
            (Client, ACK, seq, ack + 100, 0, PASS, Established),
            (
                Client,
                ACK,
                seq + 0x7000_0000,
                ack + 100,
                0,
                WINDOW,
                Established,
            ),
            (Client, RST, seq + 9, 0, 0, PASS, Established),
            (Client, RST, seq, 0, 0, PASS, Closed),
        ]);
    }
}

#[test]
fn what_is_picked_up_has_the_initiator_that_policy_allows() {
    for first in [Client, Server] {
        // Only the client's pod may begin.
        let mut talk = after_a_crash(|plan| plan.pod(0).policy = Policy::defaulting(false, true));
        talk.steps(&[(first, ACK, 10, 20, 5, PASS, Opening)]);
        let flow = flows(&mut talk.rig.a)[0];
        assert_eq!((flow.tuple.src_port, flow.tuple.dst_port), (40_000, 80));
        // And no one may.
        let mut talk = after_a_crash(|plan| {
            plan.pod(0).policy = Policy::defaulting(false, false);
            plan.pod(1).policy = Policy::defaulting(false, false);
        });
        assert_eq!(
            talk.send(first, ACK, 10, 20, 5),
            Err("policy-egress".into())
        );
        assert!(flows(&mut talk.rig.a).is_empty());
    }
}

#[test]
fn only_what_is_in_the_midst_is_picked_up_and_only_for_its_time() {
    for flags in [SYN | ACK, RST, RST | ACK, FIN, 0] {
        let mut talk = after_a_crash(|_| {});
        assert_eq!(talk.send(Client, flags, 1, 1, 0), Err("tcp-no-flow".into()));
    }
    let mut talk = after_a_crash(|_| {});
    talk.rig.advance(30 * Tick::SECOND - 1);
    assert_eq!(talk.send(Client, FIN | ACK, 1, 1, 0), Ok(()));
    let mut talk = after_a_crash(|_| {});
    talk.rig.advance(30 * Tick::SECOND);
    assert_eq!(talk.send(Client, ACK, 1, 1, 0), Err("tcp-no-flow".into()));
}
