//! A control side over a worker with ports in memory: what it takes, what it refuses, and
//! what the worker then does with frames.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are no #[test]s themselves"
)]

use std::net::IpAddr;

use sluice_crypto::esp::{self, Spi};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_dataplane_control::{
    Control, ControlConfig, Event, ProgramError, SaConfig, SaError, Vitals,
};
use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::worker::{Worker, WorkerConfig};
use sluice_offload_api::model::{
    Action, Direction, Generation, Identity, IdentityId, IpPrefix, Lease, NodeName, Place,
    PolicyId, PolicyRow, PortBlock, PortCounters, PortName, Prefix, Protocol, RuleIndex,
    SaDirection, Tier, Verdict,
};
use sluice_offload_api::testing::sample;
use sluice_offload_api::transaction::{Mode, Object, Op, Transaction};
use sluice_offload_api::{RefusalReason, State};

const VF0: usize = 0;
const VF1: usize = 1;
const PORTS: [&str; 4] = ["vf0", "vf1", "host", "uplink"];
const NOW: Tick = Tick(Tick::SECOND);

struct Rig {
    control: Control,
    worker: Worker<MemPort>,
    pool: MemPool,
}

impl Rig {
    fn new(ports: &[&str]) -> Self {
        let pool = MemPool::new(8);
        let mem_ports = ports.iter().map(|_| MemPort::new(&pool, 64)).collect();
        let config = WorkerConfig::new(16, [1, 2]);
        let (worker, handle) = Worker::new(mem_ports, &config).unwrap();
        let ports = ports.iter().map(|name| PortName::from(*name)).collect();
        let control = Control::new(
            ControlConfig {
                ports,
                hash_key: [3, 4],
                instance: 9,
            },
            handle,
        );
        Self {
            control,
            worker,
            pool,
        }
    }

    fn programmed() -> Self {
        let mut rig = Self::new(&PORTS);
        rig.control.program(&sample().to_snapshot()).unwrap();
        rig.step();
        rig
    }

    fn step(&mut self) -> Vec<Event> {
        self.worker.poll(NOW);
        self.control.poll();
        std::iter::from_fn(|| self.control.next_event()).collect()
    }

    fn send(&mut self, port: usize, spec: &FrameSpec) {
        let frame = self.pool.frame(&spec.build()).unwrap();
        self.worker.ports_mut()[port].deliver(frame);
        self.step();
    }

    fn counters(&self, port: usize) -> PortCounters {
        self.control.port_counters().swap_remove(port)
    }

    fn dropped(&self, port: usize, reason: &str) -> u64 {
        let drops = self.counters(port).drops;
        drops
            .iter()
            .find(|d| d.reason == reason)
            .map_or(0, |d| d.frames)
    }

    /// A change to the sample on top of what is in force.
    fn change(&mut self, edit: impl FnOnce(&mut State)) -> Result<Vec<Event>, ProgramError> {
        let mut next = self.control.state().clone();
        edit(&mut next);
        next.generation.0 += 1;
        let tx = self.control.state().delta_to(&next);
        self.control.program(&tx)?;
        Ok(self.step())
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `shop/cart` opens a connection to `shop/db`.
fn syn(src_port: u16, dst_port: u16) -> FrameSpec {
    let body = Body::Tcp {
        src_port,
        dst_port,
        flags: 2,
        seq: 1,
        ack: 0,
        mss: None,
    };
    let mut spec = FrameSpec::new(ip("10.0.0.1"), ip("10.0.0.2"), body);
    spec.eth_src = Mac([2, 0, 0, 0, 0, 1]);
    spec.eth_dst = ROUTER_MAC;
    spec
}

fn sa(spi: u32) -> SaConfig {
    SaConfig {
        spi: Spi(spi),
        key: EspKey::from_keymat(Algorithm::Aes128Gcm16, &[7; 20]).unwrap(),
        esn: true,
        window: 1024,
        udp_encap: false,
        mode: esp::Mode::Tunnel,
    }
}

#[test]
fn before_the_first_generation_every_port_is_closed() {
    let mut rig = Rig::new(&PORTS);
    for (port, name) in PORTS.iter().enumerate() {
        rig.send(port, &syn(1, 5432));
        assert_eq!(rig.dropped(port, "no-endpoint"), 1, "{name}");
    }
    assert!(rig.control.port_counters().iter().all(|c| c.tx_frames == 0));
}

#[test]
fn a_generation_is_applied_when_the_worker_uses_it_and_not_before() {
    let mut rig = Rig::new(&PORTS);
    let tx = sample().to_snapshot();
    rig.control.program(&tx).unwrap();
    rig.control.poll();
    assert_eq!(rig.control.next_event(), None, "the worker has not polled");
    assert_eq!(rig.control.state().generation, Generation(0));
    let pending = rig.control.program(&tx).unwrap_err();
    assert!(
        matches!(
            pending,
            ProgramError::Pending {
                pending: Generation(7)
            }
        ),
        "{pending}"
    );
    let events = rig.step();
    let added = Event::PeerAdded("b".into());
    assert_eq!(events, [added, Event::Applied(Generation(7))]);
    assert_eq!(rig.control.state(), &sample());
}

#[test]
fn what_policy_allows_passes_and_the_rest_is_dropped_by_name() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, 1);
    rig.send(VF0, &syn(2, 80));
    assert_eq!(rig.counters(VF1).tx_frames, 1);
    assert_eq!(rig.dropped(VF0, "policy-egress"), 1);

    let allowed = rig.control.next_verdict().unwrap();
    assert_eq!(allowed.denied, None);
    assert_eq!(allowed.egress.as_deref(), Some("shop/cart egress[0]"));
    assert_eq!(allowed.ingress.as_deref(), Some("shop/db ingress[0]"));
    let denied = rig.control.next_verdict().unwrap();
    assert_eq!(denied.denied.map(|r| r.name()), Some("policy-egress"));
    assert_eq!(denied.egress.as_deref(), Some("shop/cart egress default"));
    let record = denied.record(7);
    assert_eq!(record.denied.as_deref(), Some("policy-egress"));
    assert_eq!((record.src_port, record.dst_port, record.lost), (2, 80, 7));
    assert_eq!((denied.ingress, rig.control.next_verdict()), (None, None));

    rig.control.request_flows();
    rig.step();
    let flows = rig.control.flows().unwrap();
    assert_eq!(flows.len(), 1);
    assert_eq!(
        (
            flows[0].src_port,
            flows[0].dst_port,
            flows[0].forward_packets
        ),
        (1, 5432, 1)
    );
    assert_eq!(flows[0].rule.as_deref(), Some("shop/db ingress[0]"));
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut rig = Rig::programmed();
    let refused = rig.change(|next| {
        let db = next.endpoints.get_mut(&"u-db".into()).unwrap();
        db.ips = vec![ip("10.0.0.1")];
    });
    assert!(
        matches!(refused, Err(ProgramError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(rig.control.state(), &sample());
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, 1);
}

#[test]
fn a_port_that_the_dataplane_does_not_have_is_refused_with_those_it_has() {
    let mut rig = Rig::new(&["vf0", "host", "uplink"]);
    let Err(ProgramError::Refused(refusal)) = rig.control.program(&sample().to_snapshot()) else {
        panic!("taken")
    };
    assert_eq!(refusal.path, "ports[vf1].name");
    assert!(matches!(&refusal.why, RefusalReason::PortNotHere { known, .. } if known.len() == 3));
    assert_eq!(rig.step(), []);
}

#[test]
fn a_revoked_connection_ends_and_an_unrelated_policy_leaves_flows_as_they_are() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    let [_, _, stale] = rig.control.flow_counters();

    // Generations move for whom the change can concern, and only for them.
    rig.change(|next| {
        let cart = next.policies.get_mut(&PolicyId(1)).unwrap();
        cart.rules.push("shop/other egress[0]".to_owned());
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(
        rig.counters(VF1).tx_frames,
        2,
        "judged again, still allowed"
    );
    assert_eq!(rig.control.flow_counters()[2], stale + 1);

    rig.change(|next| {
        for row in &mut next.policies.get_mut(&PolicyId(2)).unwrap().rows {
            row.action = Action::Deny;
        }
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, 2);
    assert_eq!(rig.dropped(VF0, "policy-ingress"), 1);

    rig.control.request_flows();
    rig.step();
    assert_eq!(rig.control.flows(), Some([].as_slice()));
}

#[test]
fn an_unchanged_generation_costs_flows_nothing() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    let before = rig.control.flow_counters();
    rig.change(|_| {}).unwrap();
    rig.send(VF0, &syn(1, 5432));
    let [hit, miss, stale] = before;
    assert_eq!(rig.control.flow_counters(), [hit + 1, miss, stale]);
}

/// Pods of another node, so many that a change of a few prefixes is made in the table that is
/// there.
fn crowd(state: &mut State) {
    let known = state.prefixes[&IpPrefix::host(ip("10.0.1.1"))].clone();
    for n in 0..200 {
        let prefix = IpPrefix::host(ip(&format!("10.0.9.{n}")));
        let prefix = Prefix {
            prefix,
            ..known.clone()
        };
        state.prefixes.insert(prefix.prefix, prefix);
    }
}

#[test]
fn pods_that_swap_addresses_get_their_own_frames() {
    let mut rig = Rig::programmed();
    rig.change(|state| {
        crowd(state);
        // One identity, so that no prefix shows the swap.
        let cart = state.prefixes[&IpPrefix::host(ip("10.0.0.1"))].identity;
        for endpoint in state.endpoints.values_mut() {
            endpoint.identity = cart;
            endpoint.ips.retain(IpAddr::is_ipv4);
        }
        let pods = ["10.0.0.1", "10.0.0.2"].map(|it| IpPrefix::host(ip(it)));
        state
            .prefixes
            .retain(|it, prefix| !matches!(prefix.place, Place::LocalPod) || pods.contains(it));
        for prefix in pods {
            state.prefixes.get_mut(&prefix).unwrap().identity = cart;
        }
    })
    .unwrap();
    rig.change(|state| {
        for endpoint in state.endpoints.values_mut() {
            let other = if endpoint.ips == [ip("10.0.0.1")] {
                "10.0.0.2"
            } else {
                "10.0.0.1"
            };
            endpoint.ips = vec![ip(other)];
        }
    })
    .unwrap();
    // From vf1, which has the first pod's address now, to vf0.
    rig.send(VF1, &{
        let mut spec = syn(1, 5432);
        spec.eth_src = Mac([2, 0, 0, 0, 0, 2]);
        spec
    });
    let of = |port| rig.counters(port);
    assert_eq!(rig.dropped(VF1, "spoofed-ip"), 0, "{:?}", of(VF1));
    assert_eq!(rig.dropped(VF1, "wrong-path"), 0, "{:?}", of(VF1));
    assert_eq!(of(VF1).rx_frames, 1);
}

#[test]
fn an_address_that_changes_hands_costs_the_flows_to_it_and_no_others() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    let somebody = |state: &mut State, addr: &str| {
        let known = state.prefixes[&IpPrefix::host(ip("10.0.1.1"))].clone();
        let prefix = IpPrefix::host(ip(addr));
        state.prefixes.insert(prefix, Prefix { prefix, ..known });
    };
    rig.change(crowd).unwrap();
    rig.send(VF0, &syn(1, 5432));
    let [hit, miss, stale] = rig.control.flow_counters();
    // One comes, is relabelled, and goes.
    rig.change(|state| somebody(state, "10.0.1.77")).unwrap();
    rig.send(VF0, &syn(1, 5432));
    rig.change(|state| {
        let other = state.prefixes[&IpPrefix::host(ip("10.0.0.1"))].identity;
        let prefix = state.prefixes.get_mut(&IpPrefix::host(ip("10.0.1.77")));
        prefix.unwrap().identity = other;
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    rig.change(|state| drop(state.prefixes.remove(&IpPrefix::host(ip("10.0.1.77")))))
        .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.control.flow_counters(), [hit + 3, miss, stale]);
    // A block of addresses is read by all flows.
    rig.change(|state| {
        let world = state.prefixes[&"0.0.0.0/0".parse().unwrap()].clone();
        let prefix = "198.51.100.0/24".parse().unwrap();
        state.prefixes.insert(prefix, Prefix { prefix, ..world });
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.control.flow_counters()[2], stale + 1);
}

#[test]
fn sas_are_installed_shown_by_fingerprint_and_go_with_their_peer() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    rig.control.install_inbound(&b, sa(0x1000)).unwrap();
    rig.control.install_outbound(&b, sa(0x2000)).unwrap();
    assert_eq!(
        rig.step(),
        [
            Event::InboundInstalled(b.clone(), Spi(0x1000)),
            Event::OutboundInstalled(b.clone(), Spi(0x2000)),
        ]
    );
    rig.control.install_inbound(&b, sa(0x1000)).unwrap();
    assert_eq!(rig.step(), [Event::SaRefused(b.clone(), Spi(0x1000))]);

    rig.control.request_sas();
    rig.step();
    let sas = rig.control.sas().unwrap().to_vec();
    let shown: Vec<_> = sas.iter().map(|s| (s.spi, s.direction)).collect();
    assert_eq!(
        shown,
        [
            (0x1000, SaDirection::Inbound),
            (0x2000, SaDirection::Outbound)
        ]
    );
    let key = sa(1).key;
    assert!(
        sas.iter()
            .all(|s| s.fingerprint.to_string() == key.fingerprint().to_string())
    );
    assert!(
        !format!("{sas:?}").contains("07070707"),
        "key bytes in the read side"
    );

    let events = rig
        .change(|next| {
            next.peers.clear();
            next.prefixes
                .retain(|_, p| !format!("{:?}", p.place).starts_with("Remote"));
        })
        .unwrap();
    assert!(
        events.contains(&Event::PeerRemoved(b.clone())),
        "{events:?}"
    );
    rig.step();
    rig.control.request_sas();
    rig.step();
    assert_eq!(rig.control.sas(), Some([].as_slice()));
    let unknown = rig.control.install_inbound(&b, sa(0x3000)).unwrap_err();
    assert!(matches!(unknown, SaError::UnknownPeer { .. }), "{unknown}");
}

#[test]
fn a_sending_sa_is_retired_only_while_it_is_the_one_in_force() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    let outbound = |rig: &mut Rig| -> Vec<_> {
        rig.control.request_sas();
        rig.step();
        rig.control.sas().unwrap().iter().map(|s| s.spi).collect()
    };
    rig.control.install_outbound(&b, sa(0x2000)).unwrap();
    rig.control.install_outbound(&b, sa(0x2001)).unwrap();
    rig.step();
    let late = rig.control.retire_outbound(&b, Spi(0x2000)).unwrap();
    assert!(!late, "it was replaced, and what replaced it must stay");
    assert_eq!(outbound(&mut rig), [0x2001]);
    assert!(rig.control.retire_outbound(&b, Spi(0x2001)).unwrap());
    assert!(!rig.control.retire_outbound(&b, Spi(0x2001)).unwrap());
    assert!(
        !rig.control
            .retire_outbound(&"c".into(), Spi(0x2001))
            .unwrap()
    );
    assert_eq!(outbound(&mut rig), []);
    // The peer keeps its number: it can be given another.
    rig.control
        .install_outbound_within(&b, sa(0x2002), 5)
        .unwrap();
    assert_eq!(
        rig.step(),
        [Event::OutboundInstalled(b.clone(), Spi(0x2002))]
    );
    assert_eq!(outbound(&mut rig), [0x2002]);
}

#[test]
fn a_bad_replay_window_is_refused() {
    let mut rig = Rig::programmed();
    let config = SaConfig {
        window: 65,
        ..sa(0x1000)
    };
    let error = rig
        .control
        .install_inbound(&"b".into(), config)
        .unwrap_err();
    assert!(matches!(error, SaError::Window(_)), "{error}");
    assert_eq!(rig.step(), []);
}

#[test]
fn a_stale_delta_is_refused_and_a_snapshot_holds_whatever_is_in_force() {
    let mut rig = Rig::programmed();
    let port = sample().ports.values().next().unwrap().clone();
    let stale = Transaction {
        mode: Mode::Delta {
            base: Generation(3),
        },
        ops: vec![Op::Add(Object::Port(port))],
        generation: Generation(8),
    };
    assert!(matches!(
        rig.control.program(&stale),
        Err(ProgramError::Refused(_))
    ));
    let mut next = sample();
    next.generation = Generation(20);
    rig.control.program(&next.to_snapshot()).unwrap();
    assert_eq!(rig.step(), [Event::Applied(Generation(20))]);
}

#[test]
fn the_status_says_how_full_it_is_and_what_is_on_its_way() {
    let mut rig = Rig::new(&PORTS);
    rig.control.program(&sample().to_snapshot()).unwrap();
    let vitals = Vitals {
        uptime_ms: 5,
        lease: Lease::Held,
        links_up: vec![true],
    };
    let status = rig.control.status(&vitals);
    assert_eq!(
        (status.generation, status.pending),
        (Generation(0), Some(Generation(7)))
    );
    rig.step();
    let status = rig.control.status(&vitals);
    assert_eq!((status.generation, status.pending), (Generation(7), None));
    assert_eq!(
        (status.instance, status.uptime_ms, status.workers),
        (9, 5, 1)
    );
    assert_eq!(
        (status.capacity.endpoints.used, status.capacity.rows.used),
        (2, 3)
    );
    let up: Vec<_> = status.ports.iter().map(|p| p.link_up).collect();
    assert_eq!(up, [true, false, false, false]);
}

/// `shop/cart` opens a connection to a pod of node b, which nothing protects: what policy
/// allows gets as far as the missing SA.
fn syn_to_web(src_port: u16) -> FrameSpec {
    let mut spec = syn(src_port, 5432);
    spec.dst = ip("10.0.1.1");
    spec
}

fn what_web_gets(rig: &mut Rig, src_port: u16) -> &'static str {
    let counts = |rig: &Rig| ["no-sa", "identity-unknown"].map(|it| rig.dropped(VF0, it));
    let before = counts(rig);
    rig.send(VF0, &syn_to_web(src_port));
    let after = counts(rig);
    match [after[0] - before[0], after[1] - before[1]] {
        [1, 0] => "allowed",
        [0, 1] => "revoked",
        other => panic!("{other:?}"),
    }
}

/// Opens the sample for `cart` to `web`, whose UID the agent has as `u-web`.
fn rig_with_web() -> Rig {
    let mut rig = Rig::programmed();
    rig.change(|next| {
        let cart = next.policies.get_mut(&PolicyId(1)).unwrap();
        cart.rows.clear();
        cart.egress.verdict = Verdict::Allow;
    })
    .unwrap();
    rig
}

#[test]
fn an_address_that_its_node_gives_to_another_pod_is_nobodys_until_the_agent_knows() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    assert_eq!(what_web_gets(&mut rig, 1), "allowed", "b has said nothing");
    rig.control
        .announce_binding(&b, ip("10.0.1.1"), "u-web".into());
    assert_eq!(rig.step(), []);
    assert_eq!(what_web_gets(&mut rig, 1), "allowed");
    let stale = rig.control.flow_counters()[2];

    // The agent's watch is late: it still says u-web.
    rig.control
        .announce_binding(&b, ip("10.0.1.1"), "u-new".into());
    rig.step();
    assert_eq!(what_web_gets(&mut rig, 1), "revoked", "the flow ends");
    assert_eq!(rig.control.flow_counters()[2], stale + 1);
    assert_eq!(what_web_gets(&mut rig, 2), "revoked", "and no other begins");

    let prefix = IpPrefix::host(ip("10.0.1.1"));
    rig.change(|next| next.prefixes.get_mut(&prefix).unwrap().pod_uid = Some("u-new".into()))
        .unwrap();
    assert_eq!(what_web_gets(&mut rig, 2), "allowed");
}

#[test]
fn an_address_that_its_node_takes_back_is_nobodys() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let web = ip("10.0.1.1");
    rig.control.announce_binding(&b, web, "u-web".into());
    rig.control.withdraw_binding(&b, web, &"u-web".into());
    // A generation that comes in the same turn, before the worker has polled.
    let events = rig.change(|next| next.policies.get_mut(&PolicyId(2)).unwrap().rows.clear());
    assert!(matches!(events.unwrap()[..], [Event::Applied(_)]));
    assert_eq!(what_web_gets(&mut rig, 1), "revoked");
    rig.control.announce_binding(&b, web, "u-web".into());
    rig.step();
    assert_eq!(
        what_web_gets(&mut rig, 1),
        "allowed",
        "its session came back"
    );
}

#[test]
fn bindings_wait_for_the_generation_before_them_and_hold_up_the_one_after() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let mut next = rig.control.state().clone();
    next.generation.0 += 1;
    let tx = rig.control.state().delta_to(&next);
    rig.control.program(&tx).unwrap();
    rig.control
        .announce_binding(&b, ip("10.0.1.1"), "u-new".into());
    rig.control.poll();
    assert_eq!(rig.control.next_event(), None, "the worker has not polled");
    rig.worker.poll(NOW);
    rig.control.poll();
    assert_eq!(
        rig.control.next_event(),
        Some(Event::Applied(next.generation))
    );
    // The bindings are on their way now.
    let mut after = next.clone();
    after.generation.0 += 1;
    let tx = next.delta_to(&after);
    let refused = rig.control.program(&tx);
    assert!(
        matches!(refused, Err(ProgramError::Pending { pending }) if pending == next.generation)
    );
    rig.step();
    rig.control.program(&tx).unwrap();
    assert_eq!(rig.step(), [Event::Applied(after.generation)]);
    assert_eq!(what_web_gets(&mut rig, 1), "revoked");
}

/// `shop/cart` asks `shop/db` for a name's address and is told 198.51.100.1; whether it may
/// then speak with that.
fn may_by_name(rig: &mut Rig, port: u16) -> bool {
    let to = |dst: &str, body, payload: &[u8]| {
        let mut spec = FrameSpec::new(ip("10.0.0.1"), ip(dst), body);
        spec.eth_src = Mac([2, 0, 0, 0, 0, 1]);
        spec.eth_dst = ROUTER_MAC;
        spec.payload = payload.to_vec();
        spec
    };
    let denied = rig.dropped(VF0, "policy-egress");
    let body = Body::Udp {
        src_port: port,
        dst_port: 443,
    };
    rig.send(VF0, &to("198.51.100.1", body, b"x"));
    rig.dropped(VF0, "policy-egress") == denied
}

fn resolve(rig: &mut Rig) {
    let question = b"\x02db\x07example\x03com\0\0\x01\0\x01";
    let query = [&b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"[..], question].concat();
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\x02\x58\0\x04\xc6\x33\x64\x01";
    let header = b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0";
    let answer = [&header[..], question, record].concat();
    for (port, own, other, ports, payload) in [
        (VF0, 1, 2, (4000, 53), query),
        (VF1, 2, 1, (53, 4000), answer),
    ] {
        let body = Body::Udp {
            src_port: ports.0,
            dst_port: ports.1,
        };
        let addr = |n| IpAddr::from([10, 0, 0, n]);
        let mut spec = FrameSpec::new(addr(own), addr(other), body);
        spec.eth_src = Mac([2, 0, 0, 0, 0, own]);
        spec.eth_dst = ROUTER_MAC;
        spec.payload = payload;
        rig.send(port, &spec);
    }
}

/// `shop/cart` may ask `shop/db`, which may be asked, and speak with identity 70.
fn name(state: &mut State, domain: &str) {
    let identity = Identity {
        id: IdentityId(70),
        label: domain.to_owned(),
        domain: Some(domain.parse().unwrap()),
    };
    state.identities.insert(identity.id, identity);
    let row = |direction, peer, rule| PolicyRow {
        direction,
        tier: Tier::Namespace,
        peer: Some(IdentityId(peer)),
        protocol: Some(Protocol::Udp),
        ports: PortBlock::ANY,
        action: Action::Allow,
        rule: RuleIndex(rule),
    };
    for (policy, rows) in [
        (
            1,
            vec![row(Direction::Egress, 2, 0), row(Direction::Egress, 70, 0)],
        ),
        (2, vec![row(Direction::Ingress, 1, 0)]),
    ] {
        let policy = state.policies.get_mut(&PolicyId(policy)).unwrap();
        policy
            .rows
            .retain(|it| rows.iter().all(|new| new.key() != it.key()));
        policy.rows.extend(rows);
        policy.rows.sort_by_key(PolicyRow::key);
    }
}

#[test]
fn an_identity_that_stands_for_another_name_has_none_of_the_addresses_of_the_first() {
    let mut rig = Rig::programmed();
    rig.change(|state| name(state, "db.example.com")).unwrap();
    assert!(!may_by_name(&mut rig, 1));
    resolve(&mut rig);
    assert!(may_by_name(&mut rig, 2));
    rig.control.request_names();
    rig.step();
    let names = rig.control.names().unwrap().to_vec();
    assert_eq!(names.len(), 1);
    assert_eq!(
        (
            names[0].endpoint.0.as_str(),
            names[0].ip,
            names[0].domain.as_str()
        ),
        ("u-cart", ip("198.51.100.1"), "db.example.com")
    );
    // The rows are the same, down to the identity's number.
    rig.change(|state| name(state, "*.example.org")).unwrap();
    assert!(!may_by_name(&mut rig, 3));
    // Not even for the first name itself, once it had gone: what was learned had no owner.
    rig.change(|state| name(state, "db.example.com")).unwrap();
    assert!(!may_by_name(&mut rig, 4));
    resolve(&mut rig);
    assert!(may_by_name(&mut rig, 5));
    // Under another number it is the same name.
    rig.change(|state| {
        let identity = state.identities.remove(&IdentityId(70)).unwrap();
        let mut identity = (*identity).clone();
        identity.id = IdentityId(71);
        state.identities.insert(identity.id, identity);
        let policy = state.policies.get_mut(&PolicyId(1)).unwrap();
        for row in &mut policy.rows {
            row.peer = row
                .peer
                .map(|it| if it.0 == 70 { IdentityId(71) } else { it });
        }
    })
    .unwrap();
    assert!(may_by_name(&mut rig, 6));
}

#[test]
fn an_announced_address_that_the_agent_does_not_know_is_not_outside() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let to_fresh = |rig: &mut Rig, port| {
        let mut spec = syn(port, 80);
        spec.dst = ip("10.0.1.77");
        let before = rig.dropped(VF0, "identity-unknown");
        rig.send(VF0, &spec);
        rig.dropped(VF0, "identity-unknown") - before
    };
    assert_eq!(to_fresh(&mut rig, 1), 0, "nobody said it is a pod's");
    rig.control
        .announce_binding(&b, ip("10.0.1.77"), "u-fresh".into());
    rig.step();
    assert_eq!(to_fresh(&mut rig, 1), 1, "the flow ends");
    assert_eq!(to_fresh(&mut rig, 2), 1);
    rig.control
        .withdraw_binding(&b, ip("10.0.1.77"), &"u-fresh".into());
    rig.step();
    assert_eq!(to_fresh(&mut rig, 3), 0);
    // A node that leaves the cluster leaves nothing withheld behind.
    rig.control
        .announce_binding(&b, ip("10.0.1.77"), "u-fresh".into());
    rig.step();
    assert_eq!(to_fresh(&mut rig, 4), 1);
    rig.change(|next| {
        next.peers.clear();
        let of_b = |it: &Place| matches!(it, Place::RemotePod(_) | Place::RemoteNode(_));
        next.prefixes.retain(|_, it| !of_b(&it.place));
    })
    .unwrap();
    rig.step();
    assert_eq!(to_fresh(&mut rig, 5), 0);
    // What the agent says of an address of its own a peer can't take away.
    rig.control
        .announce_binding(&b, ip("10.0.0.2"), "u-fresh".into());
    rig.step();
    let before = rig.counters(VF1).tx_frames;
    rig.send(VF0, &syn(9, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, before + 1);
}

#[test]
fn a_peer_that_announces_without_end_holds_up_no_generation() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let mut next = rig.control.state().clone();
    next.generation.0 += 1;
    let tx = rig.control.state().delta_to(&next);
    let mut taken = false;
    for turn in 0..6 {
        let uid = format!("u-{turn}");
        rig.control
            .announce_binding(&b, ip("10.0.1.1"), uid.as_str().into());
        rig.control
            .announce_binding(&b, ip("10.0.1.1"), "u-web".into());
        rig.control
            .announce_binding(&b, ip("10.0.1.1"), uid.as_str().into());
        rig.worker.poll(NOW);
        rig.control.poll();
        if !taken {
            taken = rig.control.program(&tx).is_ok();
        }
    }
    assert!(taken);
    assert_eq!(rig.step(), [Event::Applied(next.generation)]);
    assert_eq!(rig.control.state().generation, next.generation);
}
