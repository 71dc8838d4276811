//! New keys: on a timer, on request from both ends at once, after a restart.

use std::collections::BTreeSet;

use sluice_crypto::key::Fingerprint;
use sluice_node_channel::{Command, Status};

use crate::ca::{Ca, Papers};
use crate::node::{Node, PATIENCE, Sas, config, introduce, own_address};

/// Seals and opens both ways, in batches that arrive in reverse, until `done`.
pub(crate) async fn traffic(a: &Node, b: &Node, mut done: impl FnMut() -> bool) -> u64 {
    let begun = tokio::time::Instant::now();
    let mut count = 0u64;
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{:#?}", a.status());
        for (from, to) in [(a, b), (b, a)] {
            let mut flight = Vec::new();
            for _ in 0..16 {
                count += 1;
                let packet = from.seal(to, &count.to_be_bytes());
                flight.push((count, packet.expect("always an SA to send by")));
                tokio::task::yield_now().await;
            }
            for (count, packet) in flight.into_iter().rev() {
                assert_eq!(to.open(packet), count.to_be_bytes());
            }
        }
    }
    count
}

/// Traffic both ways from before `change` until both have had new SAs for it.
pub(crate) async fn renewed_under_traffic(a: &Node, b: &Node, change: impl FnOnce()) {
    let renewed = |n: &Node, m: &Node| n.peer(m).established >= 2;
    let mut change = Some(change);
    let done = || match change.take() {
        Some(change) => {
            change();
            false
        }
        None => renewed(a, b) && renewed(b, a),
    };
    traffic(a, b, done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rekeys_on_a_timer_lose_no_packet() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let [ca, cb] = [&pa, &pb].map(|papers| {
        let mut config = config(papers);
        config.limits.soft_ms = 400;
        // Longer than this test's threads are kept waiting between a seal and an open.
        config.timing.drain_ms = 2_000;
        config
    });
    let (a, b) = (Node::start_with(ca).await, Node::start_with(cb).await);
    introduce(&[&a, &b]).await;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let there = |s: &Status| s.peers.get(&other.name).is_some_and(|p| p.established > 0);
        one.until("the first SAs", there).await;
    }
    let epochs = || a.peer(&b).established.min(b.peer(&a).established);
    let packets = traffic(&a, &b, || epochs() >= 8).await;
    assert!(packets > 0);
    let keys = |n: &Node| {
        let sas = n.sas.lock().unwrap();
        let mut keys: Vec<_> = sas.used.iter().map(|(key, _)| *key).collect();
        keys.dedup();
        keys.len()
    };
    assert!(keys(&a) >= 7, "{} keys", keys(&a));
    assert!(a.status().refused.is_empty(), "{:#?}", a.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_keys_come_before_the_packets_of_the_old_are_used_up() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let [ca, cb] = [&pa, &pb].map(|papers| {
        let mut config = config(papers);
        (config.limits.soft_packets, config.limits.hard_packets) = (1_000, 1 << 20);
        config.timing.drain_ms = 2_000;
        config
    });
    let (a, b) = (Node::start_with(ca).await, Node::start_with(cb).await);
    introduce(&[&a, &b]).await;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let there = |s: &Status| s.peers.get(&other.name).is_some_and(|p| p.established > 0);
        one.until("the first SAs", there).await;
    }
    assert_eq!(a.peer(&b).established, 1, "and no more until then");
    traffic(&a, &b, || a.peer(&b).established >= 4).await;
    assert!(a.status().refused.is_empty(), "{:#?}", a.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_that_want_new_keys_at_once_end_with_one_pair() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    tokio::join!(a.add(&b.name, b.listen), b.add(&a.name, a.listen));
    for round in 1..=5 {
        a.until_settled(&b, round).await;
        b.until_settled(&a, round).await;
        a.exchange(&b);
        let (to_b, to_a) = (b.name.clone(), a.name.clone());
        tokio::join!(
            a.say(Command::Rekey { node: to_b }),
            b.say(Command::Rekey { node: to_a })
        );
    }
    a.until_settled(&b, 6).await;
    b.until_settled(&a, 6).await;
    a.exchange(&b);
    let ends = [(&a, &b), (&b, &a)].map(|(n, m)| (n.peer(m).sending, n.peer(m).receiving));
    assert_eq!(ends[0], ends[1], "the same epoch, both ways");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_gets_new_keys_and_the_old_are_retired() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (mut of_a, mut of_b) = (config(&pa), config(&pb));
    (of_a.listen, of_b.listen) = (own_address(), own_address());
    let (a, b) = (Node::start_with(of_a).await, Node::start_with(of_b).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
    let mut used = a.sas.lock().unwrap().used.clone();
    used.extend(&b.sas.lock().unwrap().used);
    // Each in turn: the one that dials, and the one that is dialled.
    let a = restart(&pa, a, &b, &mut used).await;
    let b = restart(&pb, b, &a, &mut used).await;
    a.exchange(&b);
}

async fn restart(
    papers: &Papers,
    node: Node,
    stays: &Node,
    used: &mut BTreeSet<(Fingerprint, u64)>,
) -> Node {
    let mut config = config(papers);
    config.listen = node.listen;
    node.stop().await;
    let node = Node::start_with(config).await;
    let before = stays.peer(&node).established;
    node.add(&stays.name, stays.listen).await;
    node.until_settled(stays, 1).await;
    stays.until_settled(&node, before + 1).await;
    node.exchange(stays);
    let now = node.sas.lock().unwrap().used.clone();
    assert!(used.is_disjoint(&now), "an old key or number is back");
    used.extend(now);
    let one = |s: &Sas| s.inbound.len() == 1;
    stays.until_sas("one receiving SA left", one).await;
    node
}
