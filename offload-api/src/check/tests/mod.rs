//! Every refusal, by the path it names, on the sample state.

mod blame;
mod endpoints;
mod names;
mod policies;
mod ports;
mod prefixes;

use crate::limits::Limits;
use crate::model::{
    Endpoint, Generation, Identity, IdentityId, IpPrefix, Peer, Policy, PolicyId, Port, Prefix,
};
use crate::state::State;
use crate::testing::sample;
use crate::transaction::{Key, Mode, Object, Op, Transaction};

/// A change to the sample's state.
fn delta(ops: Vec<Op>) -> Transaction {
    Transaction {
        mode: Mode::Delta {
            base: Generation(7),
        },
        ops,
        generation: Generation(8),
    }
}

/// What the sample's state says to a transaction that it must refuse.
fn refuse(tx: &Transaction) -> String {
    refuse_within(tx, &Limits::MAX)
}

fn refuse_within(tx: &Transaction, limits: &Limits) -> String {
    let state = sample();
    let refusal = state.apply_within(tx, limits).expect_err("it is refused");
    assert_eq!(state, sample(), "a refusal changes nothing");
    refusal.to_string()
}

/// What the sample's state says to operations that it must refuse as a delta.
fn refuse_ops(ops: Vec<Op>) -> String {
    refuse(&delta(ops))
}

/// The sample after operations that it must take as a delta.
fn accept(ops: Vec<Op>) -> State {
    let state = sample().apply(&delta(ops)).expect("it is taken");
    assert_eq!(state.validate(&Limits::MAX), Ok(()));
    state
}

fn changed<T: Clone + Into<Object>>(it: Option<&T>, change: impl FnOnce(&mut T)) -> Op {
    let mut it = it.expect("the sample has it").clone();
    change(&mut it);
    Op::Add(it.into())
}

fn port(name: &str, change: impl FnOnce(&mut Port)) -> Op {
    changed(sample().ports.get(&name.into()), change)
}

fn endpoint(uid: &str, change: impl FnOnce(&mut Endpoint)) -> Op {
    changed(sample().endpoints.get(&uid.into()), change)
}

fn identity(id: u32, change: impl FnOnce(&mut Identity)) -> Op {
    changed(sample().identities.get(&IdentityId(id)), change)
}

fn policy(id: u32, change: impl FnOnce(&mut Policy)) -> Op {
    changed(sample().policies.get(&PolicyId(id)), change)
}

fn peer(change: impl FnOnce(&mut Peer)) -> Op {
    changed(sample().peers.get(&"b".into()), change)
}

fn prefix(text: &str, change: impl FnOnce(&mut Prefix)) -> Op {
    changed(sample().prefixes.get(&net(text)), change)
}

fn net(text: &str) -> IpPrefix {
    text.parse().expect("it is a prefix")
}

fn ip(text: &str) -> core::net::IpAddr {
    text.parse().expect("it is an address")
}

fn del_prefix(text: &str) -> Op {
    Op::Del(Key::Prefix(net(text)))
}

fn del_endpoint(uid: &str) -> Op {
    Op::Del(Key::Endpoint(uid.into()))
}
