//! The wire and the domain agree, and nonsense is refused by its path.

use proptest::prelude::*;
use prost::Message;

use super::{Assembler, ConvertError, to_requests};
use crate::answer::Answer;
use crate::limits::Limits;
use crate::model::{FlowRecord, FlowVerdict, NameRecord, PairLine, PortCounters, SaRecord, Status};
use crate::proto;
use crate::proto::program_request::Step;
use crate::refusal::{RefusalCode, RefusalReason};
use crate::testing;
use crate::transaction::Transaction;

/// Domain to wire to bytes and back.
fn travel<D, W>(it: D) -> Result<D, ConvertError>
where
    W: Message + Default + From<D>,
    D: TryFrom<W, Error = ConvertError>,
{
    let bytes = W::from(it).encode_to_vec();
    D::try_from(W::decode(bytes.as_slice()).expect("it was encoded here"))
}

fn travel_requests(tx: Transaction) -> Vec<proto::ProgramRequest> {
    let bytes: Vec<_> = to_requests(tx).map(|it| it.encode_to_vec()).collect();
    let decode = |it: &Vec<u8>| proto::ProgramRequest::decode(it.as_slice());
    bytes
        .iter()
        .map(|it| decode(it).expect("it was encoded here"))
        .collect()
}

proptest! {
    #[test]
    fn a_transaction_arrives_as_it_was_sent(tx in testing::transaction()) {
        let mut assembler = Assembler::default();
        let mut made = None;
        for message in travel_requests(tx.clone()) {
            prop_assert!(made.is_none());
            made = assembler.on_message(message).expect("it is well formed");
        }
        prop_assert_eq!(made, Some(tx));
        prop_assert!(!assembler.is_open());
    }

    #[test]
    fn an_answer_arrives_as_it_was_sent(it in testing::answer()) {
        prop_assert_eq!(travel::<Answer, proto::ProgramResponse>(it.clone()), Ok(it));
    }

    #[test]
    fn a_status_arrives_as_it_was_sent(it in testing::status()) {
        prop_assert_eq!(travel::<Status, proto::StatusResponse>(it.clone()), Ok(it));
    }

    #[test]
    fn counters_arrive_as_they_were_sent(it in testing::port_counters()) {
        prop_assert_eq!(travel::<PortCounters, proto::PortCounters>(it.clone()), Ok(it));
    }

    #[test]
    fn a_flow_arrives_as_it_was_sent(it in testing::flow()) {
        prop_assert_eq!(travel::<FlowRecord, proto::Flow>(it.clone()), Ok(it));
    }

    #[test]
    fn a_name_arrives_as_it_was_sent(it in testing::name()) {
        prop_assert_eq!(travel::<NameRecord, proto::Name>(it.clone()), Ok(it));
    }

    #[test]
    fn a_verdict_arrives_as_it_was_sent(it in testing::flow_verdict()) {
        prop_assert_eq!(travel::<FlowVerdict, proto::FlowVerdict>(it.clone()), Ok(it));
    }

    #[test]
    fn an_sa_arrives_as_it_was_sent(it in testing::sa()) {
        prop_assert_eq!(travel::<SaRecord, proto::Sa>(it.clone()), Ok(it));
    }

    #[test]
    fn a_line_about_pairs_arrives_as_it_was_sent(it in testing::pair_line()) {
        prop_assert_eq!(travel::<PairLine, proto::PairLine>(it.clone()), Ok(it));
    }

    /// Bytes that are no message, and messages with bytes changed, end in a refusal or in
    /// a transaction that travels unchanged; never in a panic.
    #[test]
    fn mangled_messages_are_refused_or_valid(
        tx in testing::transaction(),
        mangles in proptest::collection::vec(any::<(prop::sample::Index, prop::sample::Index, u8)>(), 0..6),
        noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..3),
    ) {
        let mut wire: Vec<_> = to_requests(tx).map(|it| it.encode_to_vec()).collect();
        for (message, byte, value) in mangles {
            let message = message.get_mut(&mut wire);
            if !message.is_empty() {
                *byte.get_mut(message) = value;
            }
        }
        let last = wire.len() - 1;
        wire.splice(last..last, noise);
        let mut assembler = Assembler::default();
        let decoded = wire.iter().filter_map(|it| proto::ProgramRequest::decode(it.as_slice()).ok());
        for message in decoded {
            match assembler.on_message(message) {
                Ok(Some(tx)) => {
                    let mut again = Assembler::default();
                    let last = travel_requests(tx.clone()).into_iter().map(|it| again.on_message(it)).last();
                    prop_assert_eq!(last, Some(Ok(Some(tx))));
                }
                Ok(None) => {}
                Err(refusal) => prop_assert!(!refusal.path.is_empty()),
            }
        }
    }

    /// Whatever comes in whatever order, each commit has exactly one answer.
    #[test]
    fn each_commit_is_answered_once(steps in proptest::collection::vec(0u8..6, 0..40)) {
        let mut assembler = Assembler::new(Limits { ops: 3, ..Limits::MAX });
        let mut answered = 0;
        for step in steps {
            let commits = step == 4;
            let result = assembler.on_message(step_of(step));
            answered += u32::from(!matches!(result, Ok(None)));
            if commits {
                prop_assert_eq!(answered, 1);
                prop_assert!(!assembler.is_open());
                answered = 0;
            }
            prop_assert!(answered <= 1);
        }
    }
}

fn message(step: Step) -> proto::ProgramRequest {
    proto::ProgramRequest { step: Some(step) }
}

fn snapshot() -> Step {
    let mode = Some(proto::begin::Mode::Snapshot(proto::Unit {}));
    Step::Begin(proto::Begin { mode })
}

fn identity(id: u32) -> Step {
    let label = "x".to_owned();
    let object = Some(proto::add::Object::Identity(proto::Identity {
        id,
        label,
        domain: None,
        encryption: proto::Encryption::Required.into(),
    }));
    Step::Add(proto::Add { object })
}

const fn commit() -> Step {
    Step::Commit(proto::Commit { generation: 9 })
}

fn step_of(number: u8) -> proto::ProgramRequest {
    let object = Some(proto::keep::Object::Policy(3));
    match number {
        0 => message(snapshot()),
        1 => message(identity(1)),
        2 => message(Step::Keep(proto::Keep { object })),
        3 => message(Step::Del(proto::Del { object: None })),
        4 => message(commit()),
        _ => proto::ProgramRequest { step: None },
    }
}

/// The refusal of the last of `steps`, the others being taken.
fn refusal(steps: Vec<Option<Step>>) -> (String, RefusalReason) {
    let mut assembler = Assembler::default();
    let mut results: Vec<_> = steps
        .into_iter()
        .map(|step| assembler.on_message(proto::ProgramRequest { step }))
        .collect();
    let last = results.pop().expect("there are steps");
    for result in results {
        assert_eq!(result, Ok(None));
    }
    let refusal = last.expect_err("it is refused");
    // The rest is skipped, and the next transaction is taken.
    assert_eq!(assembler.on_message(message(identity(1))), Ok(None));
    assert_eq!(assembler.on_message(message(snapshot())), Ok(None));
    assert_eq!(assembler.on_message(message(commit())), Ok(None));
    assert_eq!(assembler.on_message(message(snapshot())), Ok(None));
    assert!(assembler.is_open());
    assert!(matches!(
        assembler.on_message(message(commit())),
        Ok(Some(_))
    ));
    (refusal.path, refusal.why)
}

#[test]
fn steps_out_of_sequence_are_refused() {
    let not_open = |step| refusal(vec![Some(step)]);
    let keep = Step::Keep(proto::Keep { object: None });
    let del = Step::Del(proto::Del { object: None });
    assert_eq!(
        not_open(identity(1)),
        ("add".to_owned(), RefusalReason::NotOpen)
    );
    assert_eq!(not_open(keep), ("keep".to_owned(), RefusalReason::NotOpen));
    assert_eq!(not_open(del), ("del".to_owned(), RefusalReason::NotOpen));
    let twice = refusal(vec![Some(snapshot()), Some(identity(1)), Some(snapshot())]);
    assert_eq!(twice, ("begin".to_owned(), RefusalReason::AlreadyOpen));
}

#[test]
fn a_commit_alone_is_refused_and_skips_nothing() {
    let mut assembler = Assembler::default();
    let refusal = assembler
        .on_message(message(commit()))
        .expect_err("nothing is open");
    assert_eq!(refusal.path, "commit");
    assert_eq!(refusal.code(), RefusalCode::Sequence);
    assert_eq!(assembler.on_message(message(snapshot())), Ok(None));
    assert!(assembler.is_open());
}

#[test]
fn operations_and_bytes_are_bounded() {
    let limits = Limits {
        ops: 2,
        ..Limits::MAX
    };
    let mut assembler = Assembler::new(limits);
    assert_eq!(assembler.on_message(message(snapshot())), Ok(None));
    assert_eq!(assembler.on_message(message(identity(1))), Ok(None));
    assert_eq!(assembler.on_message(message(identity(2))), Ok(None));
    let refusal = assembler
        .on_message(message(identity(3)))
        .expect_err("it is one too many");
    assert_eq!(
        refusal.to_string(),
        "ops[2]: 3 operations are too many; at most 2 fit"
    );

    let limits = Limits {
        transaction_bytes: 20,
        ..Limits::MAX
    };
    let mut assembler = Assembler::new(limits);
    assert_eq!(assembler.on_message(message(snapshot())), Ok(None));
    assert_eq!(assembler.on_message(message(identity(1))), Ok(None));
    let refusal = assembler
        .on_message(message(identity(2)))
        .expect_err("it is too long");
    assert_eq!(refusal.path, "ops[1]");
    assert_eq!(refusal.code(), RefusalCode::Capacity);
}

/// What is said of `add` as the second operation.
fn add(object: proto::add::Object) -> String {
    let object = Some(object);
    let steps = [snapshot(), identity(1), Step::Add(proto::Add { object })];
    let (path, why) = refusal(steps.into_iter().map(Some).collect());
    assert_eq!(why.code(), RefusalCode::Malformed);
    format!("{path}: {why}")
}

fn wire(key: &crate::Key) -> proto::add::Object {
    let object = testing::sample().object(key).expect("the sample has it");
    proto::Add::from(object).object.expect("it was just set")
}

const ABSENT: &str = "is absent, or is a choice this side does not know; it must be given";

#[test]
fn absent_steps_and_choices_are_refused_by_path() {
    let empty = |step| {
        let (path, why) = refusal(vec![Some(snapshot()), step]);
        format!("{path}: {why}")
    };
    assert_eq!(empty(None), format!("ops[0]: {ABSENT}"));
    let step = Step::Add(proto::Add { object: None });
    assert_eq!(empty(Some(step)), format!("ops[0].add.object: {ABSENT}"));
    let step = Step::Keep(proto::Keep { object: None });
    assert_eq!(empty(Some(step)), format!("ops[0].keep.object: {ABSENT}"));
    let step = Step::Del(proto::Del { object: None });
    assert_eq!(empty(Some(step)), format!("ops[0].del.object: {ABSENT}"));
    let (path, _) = refusal(vec![Some(Step::Begin(proto::Begin { mode: None }))]);
    assert_eq!(path, "begin.mode");
    let (path, _) = refusal(vec![None]);
    assert_eq!(path, "step");
}

#[test]
fn malformed_ports_are_refused_by_path() {
    let base = || match wire(&crate::Key::Port("uplink".into())) {
        proto::add::Object::Port(port) => port,
        other => panic!("{other:?}"),
    };
    let port = |change: fn(&mut proto::Port)| {
        let mut port = base();
        change(&mut port);
        add(proto::add::Object::Port(port))
    };
    fn interface(port: &mut proto::Port) -> &mut proto::Interface {
        match &mut port.kind {
            Some(proto::port::Kind::Uplink(uplink)) => &mut uplink.interfaces[1],
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        port(|it| it.kind = None),
        format!("ops[1].add.port.kind: {ABSENT}")
    );
    assert_eq!(
        port(|it| it.mac = vec![2; 7]),
        "ops[1].add.port.mac: has 7 bytes; a MAC needs 6"
    );
    assert_eq!(
        port(|it| it.mtu = 65_536),
        "ops[1].add.port.mtu: 65536 is over 65535, the highest"
    );
    assert_eq!(
        port(|it| it.vlan = Some(70_000)),
        "ops[1].add.port.vlan: 70000 is over 65535, the highest"
    );
    let vf = |it: &mut proto::Port| {
        it.kind = Some(proto::port::Kind::Vf(proto::Vf { index: 65_536 }));
    };
    assert_eq!(
        port(vf),
        "ops[1].add.port.vf.index: 65536 is over 65535, the highest"
    );
    assert_eq!(
        port(|it| interface(it).addr = vec![]),
        "ops[1].add.port.uplink.interfaces[1].addr: has 0 bytes; an address needs 4 or 16"
    );
    assert_eq!(
        port(|it| interface(it).gateway = Some(vec![1; 5])),
        "ops[1].add.port.uplink.interfaces[1].gateway: has 5 bytes; an address needs 4 or 16"
    );
    assert_eq!(
        port(|it| interface(it).prefix_len = 256),
        "ops[1].add.port.uplink.interfaces[1].prefix_len: 256 is over 255, the highest"
    );
}

#[test]
fn malformed_endpoints_prefixes_and_peers_are_refused_by_path() {
    let endpoint = |change: fn(&mut proto::Endpoint)| {
        let mut it = wire(&crate::Key::Endpoint("u-cart".into()));
        if let proto::add::Object::Endpoint(it) = &mut it {
            change(it);
        }
        add(it)
    };
    assert_eq!(
        endpoint(|it| it.pod = None),
        format!("ops[1].add.endpoint.pod: {ABSENT}")
    );
    assert_eq!(
        endpoint(|it| it.ips[1] = vec![0; 8]),
        "ops[1].add.endpoint.ips[1]: has 8 bytes; an address needs 4 or 16"
    );
    assert_eq!(
        endpoint(|it| it.mac = vec![]),
        "ops[1].add.endpoint.mac: has 0 bytes; a MAC needs 6"
    );

    let prefix = |change: fn(&mut proto::Prefix)| {
        let world = "0.0.0.0/0".parse().expect("it is a prefix");
        let mut it = wire(&crate::Key::Prefix(world));
        if let proto::add::Object::Prefix(it) = &mut it {
            change(it);
        }
        add(it)
    };
    assert_eq!(
        prefix(|it| it.place = None),
        format!("ops[1].add.prefix.place: {ABSENT}")
    );
    assert_eq!(
        prefix(|it| it.prefix = None),
        format!("ops[1].add.prefix.prefix: {ABSENT}")
    );
    let host_bits = |it: &mut proto::Prefix| {
        let (addr, len) = (vec![10, 0, 0, 1], 8);
        it.prefix = Some(proto::IpPrefix { addr, len });
    };
    assert_eq!(
        prefix(host_bits),
        "ops[1].add.prefix.prefix: 10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8"
    );
    let long = |it: &mut proto::Prefix| {
        let (addr, len) = (vec![10, 0, 0, 0], 33);
        it.prefix = Some(proto::IpPrefix { addr, len });
    };
    assert_eq!(
        prefix(long),
        "ops[1].add.prefix.prefix: prefix length 33 is over 32, the longest for 10.0.0.0"
    );

    let encryption = |encryption| {
        let identity = proto::Identity {
            id: 1,
            label: "x".to_owned(),
            domain: None,
            encryption,
        };
        add(proto::add::Object::Identity(identity))
    };
    for number in [4, -1] {
        assert_eq!(
            encryption(number),
            format!(
                "ops[1].add.identity.encryption: {number} is not a known value (0 is unset); \
                 use one that the contract names"
            )
        );
    }

    let peer = proto::Peer {
        node: "b".to_owned(),
        tunnel_ips: vec![vec![0; 4], vec![0; 15]],
        unprotected: false,
    };
    assert_eq!(
        add(proto::add::Object::Peer(peer)),
        "ops[1].add.peer.tunnel_ips[1]: has 15 bytes; an address needs 4 or 16"
    );
}

#[test]
fn malformed_policies_are_refused_by_path() {
    let policy = |change: fn(&mut proto::Policy)| {
        let mut it = wire(&crate::Key::Policy(crate::model::PolicyId(2)));
        if let proto::add::Object::Policy(it) = &mut it {
            change(it);
        }
        add(it)
    };
    let unknown = |value: i32| {
        format!("{value} is not a known value (0 is unset); use one that the contract names")
    };
    assert_eq!(
        policy(|it| it.ingress = None),
        format!("ops[1].add.policy.ingress: {ABSENT}")
    );
    assert_eq!(
        policy(|it| it.egress = Some(proto::Fallback::default())),
        format!("ops[1].add.policy.egress.verdict: {}", unknown(0))
    );
    assert_eq!(
        policy(|it| it.rows[1].peer = None),
        format!("ops[1].add.policy.rows[1].peer: {ABSENT}")
    );
    assert_eq!(
        policy(|it| it.rows[1].ports = None),
        format!("ops[1].add.policy.rows[1].ports: {ABSENT}")
    );
    assert_eq!(
        policy(|it| it.rows[0].direction = 3),
        format!("ops[1].add.policy.rows[0].direction: {}", unknown(3))
    );
    assert_eq!(
        policy(|it| it.rows[0].tier = 0),
        format!("ops[1].add.policy.rows[0].tier: {}", unknown(0))
    );
    assert_eq!(
        policy(|it| it.rows[0].protocol = 0),
        format!("ops[1].add.policy.rows[0].protocol: {}", unknown(0))
    );
    assert_eq!(
        policy(|it| it.rows[0].action = -1),
        format!("ops[1].add.policy.rows[0].action: {}", unknown(-1))
    );
    let odd = |it: &mut proto::Policy| {
        it.rows[0].ports = Some(proto::PortBlock { base: 1, len: 15 });
    };
    assert_eq!(
        policy(odd),
        "ops[1].add.policy.rows[0].ports: 1/15 is not a block of ports: at most 16 bits, \
         and none set past them"
    );
}

#[test]
fn malformed_answers_and_records_are_refused_by_path() {
    let path = |error: ConvertError| error.path;
    let answer = Answer::try_from(proto::ProgramResponse { answer: None });
    assert_eq!(answer.map_err(path), Err("answer".to_owned()));
    let refused = proto::program_response::Answer::Refused(proto::Refused::default());
    let answer = Answer::try_from(proto::ProgramResponse {
        answer: Some(refused),
    });
    assert_eq!(answer.map_err(path), Err("refused.code".to_owned()));
    let status = Status::try_from(proto::StatusResponse::default());
    assert_eq!(status.map_err(path), Err("lease".to_owned()));
    let flow = FlowRecord::try_from(proto::Flow::default());
    assert_eq!(flow.map_err(path), Err("src".to_owned()));
    let verdict = FlowVerdict::try_from(proto::FlowVerdict::default());
    assert_eq!(verdict.map_err(path), Err("src".to_owned()));
    let sa = SaRecord::try_from(proto::Sa::default());
    assert_eq!(sa.map_err(path), Err("fingerprint".to_owned()));
}

#[test]
fn an_identity_that_says_nothing_of_encryption_requires_it() {
    let wire = proto::Identity {
        id: 1,
        label: "x".to_owned(),
        ..proto::Identity::default()
    };
    let read = crate::model::Identity::try_from(wire).unwrap();
    assert_eq!(read.encryption, crate::model::Encryption::Required);
}

#[test]
fn a_line_about_pairs_that_makes_no_sense_is_refused_by_its_field() {
    type Change = fn(&mut proto::Pair);
    let refused = |change: Change| {
        let end = || {
            let label = Some("x".to_owned());
            Some(proto::PairEnd { identity: 1, label })
        };
        let mut pair = proto::Pair {
            from: end(),
            to: end(),
            direction: proto::SaDirection::Outbound.into(),
            crossing: proto::PairCrossing::Clear.into(),
            ..proto::Pair::default()
        };
        change(&mut pair);
        let line = Some(proto::pair_line::Line::Pair(pair));
        let read = PairLine::try_from(proto::PairLine { line });
        read.map(drop).map_err(|error| error.path)
    };
    let cases: [(Change, &str); 7] = [
        (|it| it.from = None, "pair.from"),
        (|it| it.to = None, "pair.to"),
        (|it| it.direction = 0, "pair.direction"),
        (|it| it.direction = 9, "pair.direction"),
        (|it| it.setting = 9, "pair.setting"),
        (|it| it.crossing = 0, "pair.crossing"),
        (|it| it.algorithm = Some(0), "pair.algorithm"),
    ];
    assert_eq!(refused(|_| {}), Ok(()));
    for (change, path) in cases {
        assert_eq!(refused(change), Err(path.to_owned()));
    }
    let nothing = PairLine::try_from(proto::PairLine { line: None });
    assert_eq!(nothing.unwrap_err().path, "line");
}
