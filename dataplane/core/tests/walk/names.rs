//! What resolvers' answers teach pods, and what the worker makes of it.

use core::net::{IpAddr, Ipv4Addr};

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::command::{Command, NamePage, Reply};
use sluice_dataplane_core::names::DomainId;
use sluice_dataplane_core::names::learned::{LearnLimits, PATTERNS_PER_ADDR_MAX};
use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::table::policy::Direction;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{FrameSpec, fragments};
use sluice_dataplane_core::worker::WorkerConfig;

use crate::rig::*;
use crate::soak;

const NAME: &str = "db.example.com";
/// The resolver is the pod at vf1.
const RESOLVER: usize = 1;

fn host(n: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, n).into()
}

fn named() -> Policy {
    Policy::naming(NAME, 1, 200)
}

fn plan(policy: Policy) -> Plan {
    let mut plan = Plan::open(Side::A);
    plan.pod(0).policy = policy;
    plan
}

fn node(policy: Policy, limits: LearnLimits) -> Node {
    let config = WorkerConfig {
        names: limits,
        ..WorkerConfig::new(FLOWS, HASH_KEY)
    };
    let mut node = Node::configured(plan(policy), &config, 256);
    node.publish();
    node.poll();
    // The outside's next hop must be known for frames to leave.
    node.deliver(UPLINK, &gateway_answers());
    node.poll();
    node.take(UPLINK);
    node.rebase();
    node
}

fn standard() -> Node {
    node(named(), LearnLimits::default())
}

fn vf_port(vf: usize) -> PortIndex {
    Side::vf_port(vf)
}

fn ask(node: &mut Node, vf: usize, port: u16, query: Vec<u8>) {
    let spec = Side::A.pod_sends(vf, Side::A.pod(RESOLVER, true), udp(port, 53));
    node.push_one(vf_port(vf), &with_payload(spec, query).build(), VF1);
}

fn say(vf: usize, port: u16, answer: Vec<u8>) -> FrameSpec {
    let spec = Side::A.pod_sends(RESOLVER, Side::A.pod(vf, true), udp(53, port));
    with_payload(spec, answer)
}

fn hear(node: &mut Node, vf: usize, port: u16, answer: Vec<u8>) {
    let said = say(vf, port, answer.clone()).build();
    let heard = node.push_one(VF1, &said, vf_port(vf));
    assert!(heard.ends_with(&answer), "the pod hears what was said");
}

/// The pod at a VF resolves a name.
fn resolve(node: &mut Node, vf: usize, name: &str, ips: &[IpAddr], ttl_s: u32) {
    ask(node, vf, 4000, dns_query(7, name, 1));
    let records: Vec<_> = ips
        .iter()
        .map(|ip| dns_addr(&QUESTION, *ip, ttl_s))
        .collect();
    hear(node, vf, 4000, dns_answer(7, name, 1, &records));
}

fn https(vf: usize, to: IpAddr, port: u16, flags: u8) -> Vec<u8> {
    let spec = Side::A.pod_sends(vf, to.into(), tcp(port, 443, flags));
    with_payload(spec, b"plain".to_vec()).build()
}

/// What leaves by the uplink for a host when the pod at a VF says something to it; the
/// gateway answers for itself meanwhile.
fn leaves(node: &mut Node, vf: usize, to: IpAddr, frame: &[u8]) -> usize {
    node.deliver(UPLINK, &gateway_answers());
    node.deliver(vf_port(vf), frame);
    node.drain();
    let is_for = |it: &Vec<u8>| meta(it).dst == Addr::from(to);
    node.take(UPLINK).iter().filter(|it| is_for(it)).count()
}

/// Whether the pod at a VF may begin a connection.
fn may(node: &mut Node, vf: usize, to: IpAddr, port: u16) -> bool {
    leaves(node, vf, to, &https(vf, to, port, SYN)) == 1
}

/// Whether a segment of its connection leaves.
fn goes_on(node: &mut Node, to: IpAddr, port: u16) -> bool {
    leaves(node, 0, to, &https(0, to, port, ACK)) == 1
}

fn gateway_answers() -> Vec<u8> {
    arp(
        2,
        [Side::A.uplink_mac(), GATEWAY_MAC],
        (GATEWAY_MAC, gateway(true)),
        (Side::A.uplink_mac(), Side::A.tunnel(true)),
    )
}

fn counter(node: &Node, name: &str) -> u64 {
    let c = &node.counted();
    match name {
        "learned" => c.names_learned.read(),
        "full" => c.names_full.read(),
        "malformed" => c.names_malformed.read(),
        "unasked" => c.names_unasked.read(),
        _ => c.names.read(),
    }
}

#[test]
fn an_answer_is_learned_before_it_is_heard_and_only_its_own_counters_move() {
    let mut node = standard();
    ask(&mut node, 0, 4000, dns_query(7, NAME, 1));
    node.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.forwarded", 1),
        ("vf1.tx", 1),
        ("flow.miss", 1),
        ("flows", 1),
    ]);
    let records = [
        dns_addr(&QUESTION, host(1), 60),
        dns_addr(&QUESTION, host(2), 60),
    ];
    hear(&mut node, 0, 4000, dns_answer(7, NAME, 1, &records));
    node.expect_delta(&[
        ("vf1.rx", 1),
        ("vf1.forwarded", 1),
        ("vf0.tx", 1),
        ("flow.hit", 1),
        ("names.learned", 1),
        ("names", 2),
    ]);
    assert!(may(&mut node, 0, host(1), 1) && may(&mut node, 0, host(2), 2));
    assert!(!may(&mut node, 0, host(3), 3));
    assert_eq!(node.last_drop(VF0), "policy-egress");
}

#[test]
fn an_answer_counts_once_and_only_to_its_question() {
    let mut node = standard();
    let records = [dns_addr(&QUESTION, host(1), 60)];
    let answer = dns_answer(7, NAME, 1, &records);
    // The flow is there, the question was another, of another number or another family.
    for query in [
        dns_query(7, "www.example.com", 1),
        dns_query(8, NAME, 1),
        dns_query(7, NAME, 28),
    ] {
        ask(&mut node, 0, 4000, query);
        hear(&mut node, 0, 4000, answer.clone());
    }
    assert_eq!((counter(&node, "unasked"), counter(&node, "names")), (3, 0));
    ask(&mut node, 0, 4000, dns_query(7, NAME, 1));
    hear(&mut node, 0, 4000, answer.clone());
    hear(&mut node, 0, 4000, answer.clone());
    assert_eq!(
        (counter(&node, "unasked"), counter(&node, "learned")),
        (4, 1)
    );
    // Too late.
    ask(&mut node, 0, 4000, dns_query(7, NAME, 1));
    node.now = node.now + 11 * Tick::SECOND;
    hear(&mut node, 0, 4000, answer);
    assert_eq!(counter(&node, "unasked"), 5);
}

#[test]
fn a_connection_outlives_its_names_time_and_ends_with_the_policy() {
    let mut node = standard();
    resolve(&mut node, 0, NAME, &[host(1)], 60);
    assert!(may(&mut node, 0, host(1), 1));
    let back = Side::A.wire_sends(host(1).into(), Side::A.pod(0, true), tcp(443, 1, SYN | ACK));
    let back = with_payload(back, Vec::new());
    node.push_one(UPLINK, &back.build(), VF0);
    assert!(goes_on(&mut node, host(1), 1));
    node.now = node.now + 61 * Tick::SECOND;
    assert!(!may(&mut node, 0, host(1), 2), "a new one is too late");
    // Whatever else changes, the connection stays: with its own generation and a new one.
    assert!(goes_on(&mut node, host(1), 1));
    for _ in 0..3 {
        node.replan(|plan| plan.repolicy(0, named().and_name("www.example.com", 2, 201)));
        assert!(goes_on(&mut node, host(1), 1));
        node.now = node.now + 600 * Tick::SECOND;
    }
    assert!(!may(&mut node, 0, host(1), 3));
    // Another rule that allows it for a while changes nothing.
    let open = Policy::defaulting(true, false)
        .row(Direction::Egress, None, None, 0, true)
        .and_name(NAME, 1, 200);
    for policy in [open, named()] {
        node.replan(|plan| plan.repolicy(0, policy));
        assert!(goes_on(&mut node, host(1), 1));
    }
    // The same identity, but for another name.
    node.replan(|plan| plan.repolicy(0, Policy::naming("www.example.com", 2, 200)));
    assert!(!goes_on(&mut node, host(1), 1));
    assert_eq!(node.last_drop(VF0), "policy-egress");
}

#[test]
fn a_number_that_means_another_name_gives_what_was_learned_no_new_meaning() {
    let mut node = standard();
    resolve(&mut node, 0, NAME, &[host(1)], 600);
    assert!(may(&mut node, 0, host(1), 1));
    node.replan(|plan| plan.repolicy(0, Policy::naming("www.example.com", 2, 200)));
    assert!(!may(&mut node, 0, host(1), 2));
    // Under another identity, but the same name.
    node.replan(|plan| plan.repolicy(0, Policy::naming(NAME, 1, 201)));
    assert!(may(&mut node, 0, host(1), 3));
}

#[test]
fn who_has_the_vf_next_knows_nothing() {
    let mut node = standard();
    resolve(&mut node, 0, NAME, &[host(1)], 600);
    assert!(may(&mut node, 0, host(1), 1));
    let addrs = vec![Side::A.pod(0, true)];
    node.replan(|plan| plan.replace_pod(0, addrs, named()));
    assert!(!may(&mut node, 0, host(1), 2));
    // And what the one before knew is forgotten.
    node.now = node.now + 2 * Tick::MS;
    node.poll();
    assert_eq!(counter(&node, "names"), 0);
    resolve(&mut node, 0, NAME, &[host(1)], 600);
    assert!(may(&mut node, 0, host(1), 3));
}

#[test]
fn a_vf_that_knows_all_it_can_learns_no_more_until_something_is_over() {
    let limits = LearnLimits {
        addresses_per_vf: 3,
        ..LearnLimits::default()
    };
    let mut node = node(named(), limits);
    node.replan(|plan| plan.repolicy(2, named()));
    let many: Vec<_> = (1..=5).map(host).collect();
    resolve(&mut node, 0, NAME, &many[..2], 60);
    resolve(&mut node, 0, NAME, &many[1..], 600);
    assert_eq!((counter(&node, "names"), counter(&node, "full")), (3, 2));
    for (n, to) in (1..).zip(&many) {
        assert_eq!(may(&mut node, 0, *to, n), n <= 3, "{to}");
    }
    // The one whose time is over makes room at once, without a poll in between.
    node.now = node.now + 61 * Tick::SECOND;
    resolve(&mut node, 0, NAME, &many[4..], 600);
    assert!(may(&mut node, 0, host(5), 10) && !may(&mut node, 0, host(1), 11));
}

#[test]
fn what_one_vf_knows_takes_nothing_from_another() {
    let limits = LearnLimits {
        addresses_per_vf: 2,
        ..LearnLimits::default()
    };
    let mut node = node(named(), limits);
    // vf1 is the resolver; the node has another pod that fills what it can.
    let spec = |port| Side::A.pod_sends(2, Side::A.pod(1, true), udp(port, 53));
    node.replan(|plan| plan.repolicy(2, named()));
    let query = with_payload(spec(4000), dns_query(7, NAME, 1));
    node.push_one(VF2, &query.build(), VF1);
    let records: Vec<_> = (1..=9).map(|n| dns_addr(&QUESTION, host(n), 600)).collect();
    let answer = say(2, 4000, dns_answer(7, NAME, 1, &records));
    node.push_one(VF1, &answer.build(), VF2);
    assert_eq!(counter(&node, "names"), 2);
    resolve(&mut node, 0, NAME, &[host(1), host(2)], 600);
    assert_eq!(counter(&node, "names"), 4);
    assert!(may(&mut node, 0, host(2), 1));
}

#[test]
fn an_address_is_known_by_so_many_patterns_and_no_more() {
    const NAMES: [&str; PATTERNS_PER_ADDR_MAX + 1] = [
        "a.example",
        "b.example",
        "c.example",
        "d.example",
        "e.example",
        "f.example",
        "g.example",
        "h.example",
        "i.example",
    ];
    let mut policy = Policy::naming("unused.example", 99, 299);
    for (name, n) in NAMES.into_iter().zip(1..) {
        policy = policy.and_name(name, n, 200 + n);
    }
    let mut node = node(policy, LearnLimits::default());
    for name in NAMES {
        resolve(&mut node, 0, name, &[host(1)], 60);
    }
    assert_eq!((counter(&node, "names"), counter(&node, "full")), (1, 1));
    // Any of them is enough, and each verdict asks about all.
    for n in 1..PATTERNS_PER_ADDR_MAX as u32 {
        let only = Policy::naming(NAMES[n as usize - 1], n, 200 + n);
        node.replan(|plan| plan.repolicy(0, only));
        assert!(may(&mut node, 0, host(1), n as u16), "{n}");
    }
    let last = Policy::naming("i.example", 9, 209);
    node.replan(|plan| plan.repolicy(0, last));
    assert!(!may(&mut node, 0, host(1), 100));
}

#[test]
fn what_pods_know_can_be_read() {
    let mut node = node(
        named().and_name("*.example.com", 2, 201),
        LearnLimits::default(),
    );
    let all: Vec<_> = (1..=20).map(host).collect();
    resolve(&mut node, 0, NAME, &all, 60);
    node.now = node.now + 10 * Tick::SECOND;
    let (mut cursor, mut seen) = (0, Vec::new());
    for _ in 0..20 {
        node.command(Command::ReadNames(NamePage {
            cursor,
            names: Vec::with_capacity(12),
            done: false,
        }));
        node.poll();
        let Reply::Names(page) = node.reply() else {
            panic!("an answer of another kind");
        };
        seen.extend(page.names);
        cursor = page.cursor;
        if page.done {
            break;
        }
    }
    assert_eq!(seen.len(), 40);
    for view in &seen {
        assert_eq!((view.port, view.left_ms), (VF0, 50_000));
    }
    let mut addrs: Vec<Addr> = seen.iter().map(|it| it.addr).collect();
    addrs.sort_unstable();
    addrs.dedup();
    assert_eq!(addrs.len(), 20);
    let of = |n| seen.iter().filter(|it| it.domain == DomainId(n)).count();
    assert_eq!((of(1), of(2)), (20, 20));
}

#[test]
fn messages_over_tcp_count_when_they_are_whole_in_a_segment() {
    let framed = |messages: &[Vec<u8>]| -> Vec<u8> {
        let with_len = messages.iter().flat_map(|it| {
            let len = u16::try_from(it.len()).unwrap().to_be_bytes();
            [&len[..], it].concat()
        });
        with_len.collect()
    };
    let resolver = Side::A.pod(RESOLVER, true);
    let asks = |body| Side::A.pod_sends(0, resolver, body);
    let says = |body| Side::A.pod_sends(RESOLVER, Side::A.pod(0, true), body);
    // Both families in one segment, as resolvers' clients ask; the answers in one, or cut.
    for (cut, learned) in [(0, 2), (1, 1)] {
        let mut node = standard();
        let empty = |spec| with_payload(spec, Vec::new()).build();
        node.push_one(VF0, &empty(asks(tcp_at(4000, 53, SYN, 1, 0))), VF1);
        node.push_one(VF1, &empty(says(tcp_at(53, 4000, SYN | ACK, 1, 2))), VF0);
        let queries = framed(&[dns_query(7, NAME, 1), dns_query(8, NAME, 28)]);
        let next = 2 + u32::try_from(queries.len()).unwrap();
        let query = with_payload(asks(tcp_at(4000, 53, ACK, 2, 2)), queries);
        node.push_one(VF0, &query.build(), VF1);
        let v6: IpAddr = "2001:db9::7".parse().unwrap();
        let answers = framed(&[
            dns_answer(7, NAME, 1, &[dns_addr(&QUESTION, host(1), 60)]),
            dns_answer(8, NAME, 28, &[dns_addr(&QUESTION, v6, 60)]),
        ]);
        let whole = answers.len() - cut;
        let answer = with_payload(
            says(tcp_at(53, 4000, ACK, 2, next)),
            answers[..whole].to_vec(),
        );
        node.push_one(VF1, &answer.build(), VF0);
        assert_eq!(counter(&node, "learned"), learned);
        assert!(may(&mut node, 0, host(1), 1));
    }
}

#[test]
fn an_answer_in_fragments_teaches_nothing_and_arrives() {
    let mut node = standard();
    ask(&mut node, 0, 4000, dns_query(7, NAME, 1));
    let records: Vec<_> = (1..=9).map(|n| dns_addr(&QUESTION, host(n), 60)).collect();
    let answer = say(0, 4000, dns_answer(7, NAME, 1, &records)).build();
    for fragment in fragments(&answer, 5, 64) {
        node.deliver(VF1, &fragment);
    }
    node.drain();
    assert!(node.take(VF0).len() > 1);
    assert_eq!(counter(&node, "names"), 0);
}

#[test]
fn a_pod_whose_policy_names_nothing_learns_nothing() {
    let mut node = node(Policy::OPEN, LearnLimits::default());
    node.replan(|plan| plan.repolicy(2, named()));
    resolve(&mut node, 0, NAME, &[host(1)], 60);
    hear(&mut node, 0, 4000, vec![1, 2, 3]);
    for name in ["learned", "names", "full", "malformed", "unasked"] {
        assert_eq!(counter(&node, name), 0, "{name}");
    }
}

#[test]
fn mutated_answers_teach_nothing_that_the_true_one_doesnt_and_all_arrive() {
    let mut node = standard();
    let mut random = Seeded(0x5eed_0d25);
    let cname = dns_record(&QUESTION, 5, 60, &dns_name("edge.cdn.net"));
    let mut records = vec![cname];
    records.extend((1..=4).map(|n| dns_addr(&dns_name("edge.cdn.net"), host(n), 60)));
    let sound = dns_answer(7, NAME, 1, &records);
    let start = counter(&node, "learned");
    for round in 0..soak::amount("SLUICE_FRAMES", 50_000) {
        ask(&mut node, 0, 4000, dns_query(7, NAME, 1));
        let mut answer = sound.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(answer.len());
            answer[at] = match random.below(3) {
                0 => answer[at] ^ (1 << random.below(8)),
                1 => [0, 0xc0, 0xff, 12, 63, 64][random.below(6)],
                _ => random.next() as u8,
            };
        }
        if random.below(8) == 0 {
            answer.truncate(1 + random.below(answer.len()));
        }
        hear(&mut node, 0, 4000, answer);
        if round % 512 == 0 {
            node.now = node.now + Tick::SECOND;
        }
    }
    let outcomes = ["malformed", "unasked", "learned"].map(|name| counter(&node, name));
    assert!(outcomes.iter().all(|it| *it > start), "{outcomes:?}");
}

/// All that a pod, its resolver and time can do with names, for the test of allocations.
pub(crate) fn busy(node: &mut Node, round: u16) {
    let to = |n: u16| host((n % 200) as u8);
    let port = 5000 + round % 50;
    let send = |node: &mut Node, vf: PortIndex, frame: Vec<u8>| {
        node.deliver(vf, &frame);
        node.poll();
    };
    let query = |id, kind| {
        let spec = Side::A.pod_sends(0, Side::A.pod(1, true), udp(port, 53));
        with_payload(spec, dns_query(id, NAME, kind)).build()
    };
    let answer = |id, kind, records: &[Vec<u8>]| say(0, port, dns_answer(id, NAME, kind, records));
    send(node, VF0, query(round, 1));
    let records: Vec<_> = (0..6)
        .map(|n| dns_addr(&QUESTION, to(round * 7 + n), u32::from(n)))
        .collect();
    send(node, VF1, answer(round, 1, &records).build());
    send(node, VF1, answer(round, 28, &records).build());
    send(node, VF0, query(round, 1));
    let looped = [dns_record(&QUESTION, 5, 1, &QUESTION)];
    send(node, VF1, answer(round, 1, &looped).build());
    send(node, VF1, say(0, port, vec![0xff; 40]).build());
    let https = Side::A.pod_sends(0, to(round * 7).into(), tcp(port, 443, SYN));
    send(node, VF0, https.build());
    let page = NamePage {
        names: Vec::with_capacity(64),
        ..NamePage::default()
    };
    node.command(Command::ReadNames(page));
    node.poll();
    while node.next_reply().is_some() {}
    for port in [VF0, VF1, VF2, HOST, UPLINK] {
        node.take(port);
    }
}

/// A node with little room, so that it is full at times.
pub(crate) fn cramped() -> Node {
    let limits = LearnLimits {
        addresses_per_vf: 20,
        ttl_s: [1, 5],
    };
    node(named(), limits)
}
