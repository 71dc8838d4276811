//! What a node announces, its peers know; through rekeys and restarts.

use std::net::IpAddr;

use sluice_node_channel::{BINDINGS_MAX, Binding, Command};
use sluice_offload_api::model::PodUid;

use crate::ca::{Ca, Papers};
use crate::node::{Node, Sas, config, introduce, own_address};

fn binding(last: u8, pod: &str, number: u64) -> Binding {
    Binding {
        addr: IpAddr::from([10, 0, 0, last]),
        pod: PodUid::from(pod),
        number,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_reach_every_peer_now_later_and_after_a_restart() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let mut of_a = config(&pa);
    of_a.listen = own_address();
    let (a, b) = (Node::start_with(of_a).await, Node::start(&pb).await);
    let early = binding(1, "early", 1);
    a.say(Command::AnnounceBinding(early.clone())).await;
    introduce(&[&a, &b]).await;
    let name = a.name.clone();
    let of_a = move |wanted: &[Binding]| {
        let (name, wanted) = (name.clone(), wanted.to_vec());
        move |s: &Sas| s.bindings.get(&name).is_some_and(|got| *got == wanted)
    };
    b.until_sas("the early one", of_a(std::slice::from_ref(&early)))
        .await;

    let late = binding(2, "late", 2);
    a.say(Command::AnnounceBinding(late.clone())).await;
    b.until_sas("both", of_a(&[early.clone(), late.clone()]))
        .await;

    // Its pod's address goes to another pod; an old announcement can't bring the first back.
    let next = binding(1, "next", 3);
    a.say(Command::AnnounceBinding(next.clone())).await;
    a.say(Command::AnnounceBinding(early)).await;
    b.until_sas("the next one", of_a(&[late.clone(), next.clone()]))
        .await;
    a.until_sas("a refusal", |s| s.refused.len() == 1).await;
    assert!(a.sas.lock().unwrap().refused[0].contains("not newer"));

    let node = b.name.clone();
    a.say(Command::Rekey { node }).await;
    b.until_settled(&a, 2).await;
    let (addr, number) = (late.addr, late.number);
    a.say(Command::WithdrawBinding { addr, number }).await;
    b.until_sas("the late one gone", of_a(&[next])).await;

    let listen = a.listen;
    a.stop().await;
    let mut config = config(&pa);
    config.listen = listen;
    let a = Node::start_with(config).await;
    // A new pod at the address, and a count that begins again.
    let fresh = binding(1, "fresh", 1);
    a.say(Command::AnnounceBinding(fresh.clone())).await;
    a.add(&b.name, b.listen).await;
    b.until_sas("only what the new life has", of_a(&[fresh]))
        .await;
    b.until("counted", |s| s.peers[&a.name].bindings == 1).await;

    let node = a.name.clone();
    b.say(Command::PeerRemoved { node }).await;
    b.until_sas("none of a peer that is gone", of_a(&[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_bindings_as_a_node_may_have_arrive_and_one_more_is_refused() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    for i in 0..=u32::try_from(BINDINGS_MAX).unwrap() {
        let binding = Binding {
            addr: IpAddr::from((0x0a00_0000 + i).to_be_bytes()),
            ..binding(0, "pod", 1)
        };
        a.say(Command::AnnounceBinding(binding)).await;
    }
    a.until_sas("one refused", |s| s.refused.len() == 1).await;
    assert!(a.sas.lock().unwrap().refused[0].contains("at most"));
    introduce(&[&a, &b]).await;
    let all = |s: &Sas| s.bindings.get(&a.name).map(Vec::len) == Some(BINDINGS_MAX);
    b.until_sas("all", all).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
}

/// As a node that starts with hundreds of pods says it, on one thread as in the daemon.
#[tokio::test]
async fn a_thousand_at_once_end_no_session() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    for number in 1..=1_000u16 {
        let [high, low] = number.to_be_bytes();
        let new = Binding {
            addr: IpAddr::from([10, 1, high, low]),
            pod: PodUid::from("p"),
            number: number.into(),
        };
        a.say(Command::AnnounceBinding(new)).await;
    }
    let name = a.name.clone();
    let all = |s: &Sas| s.bindings.get(&name).is_some_and(|it| it.len() == 1_000);
    b.until_sas("all of them", all).await;
    for node in [&a, &b] {
        let status = node.status();
        assert!(status.refused.is_empty(), "{:?}", status.refused);
    }
    assert_eq!(a.peer(&b).established, 1);
}
