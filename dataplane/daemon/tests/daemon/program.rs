//! Programming over the Unix socket: what is acknowledged holds, and nothing else does.

use core::time::Duration;

use sluice_offload_api::convert::to_requests;
use sluice_offload_api::model::{FlowVerdict, Generation, Lease};
use sluice_offload_api::proto::{
    self, CountersRequest, FlowsRequest, ProgramRequest, SasRequest, WatchRequest,
    program_request::Step,
};
use sluice_offload_api::testing::sample;
use sluice_offload_api::{Answer, Mode, Op, RefusalCode, Transaction};
use tonic::Code;

use super::rig::client::{Stream, dropped, program, status, unix, watcher};
use super::rig::frames::{VF0, VF1, cart_to_db, src_port};
use super::rig::{Files, PORTS, Running, run};

fn listening(files: &Files, more: &str) -> Running {
    let text = format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n{more}");
    Running::start(files.config(&text))
}

#[test]
fn before_an_agent_came_everything_is_closed() {
    let files = Files::new();
    let daemon = listening(&files, "");
    daemon.wires.send(VF0, cart_to_db(1, 5432));
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        dropped(&mut agent, "vf0", 1).await;
    });
    let summary = daemon.stop();
    assert_eq!(summary.generation, Generation(0));
    let vf0 = summary.ports.iter().find(|it| it.port.0 == "vf0").unwrap();
    let drops: u64 = vf0.drops.iter().map(|it| it.frames).sum();
    assert_eq!((vf0.rx_frames, drops), (1, 1));
    assert!(summary.ports.iter().all(|it| it.tx_frames == 0));
}

#[test]
fn what_is_acknowledged_is_enforced_and_shown() {
    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        assert_eq!(status(&mut agent).await.unwrap().lease, Lease::Never);
        let mut stream = Stream::open(&mut agent).await.unwrap();
        let answer = stream.program(sample().to_snapshot()).await.unwrap();
        assert_eq!(
            answer,
            Answer::Ack {
                generation: Generation(7)
            }
        );

        daemon.wires.send(VF0, cart_to_db(40_000, 80));
        daemon.wires.send(VF0, cart_to_db(40_001, 5432));
        let frame = daemon.wires.receive(VF1);
        assert_eq!(src_port(&frame), 40_001, "port 80 is denied, 5432 is not");
        let drops = dropped(&mut agent, "vf0", 1).await;
        assert_eq!(drops, [("policy-egress".to_owned(), 1)]);
        assert_eq!(daemon.wires.try_receive(VF1), None);

        let shown = status(&mut agent).await.unwrap();
        assert_eq!(
            (shown.generation, shown.lease),
            (Generation(7), Lease::Held)
        );
        assert!(shown.ports.iter().all(|it| it.link_up));
        let counters = agent
            .counters(CountersRequest {
                port: Some("vf0".to_owned()),
            })
            .await;
        assert_eq!(counters.unwrap().into_inner().ports.len(), 1);

        let mut flows = agent
            .flows(FlowsRequest {
                endpoint: Some("u-db".to_owned()),
            })
            .await
            .unwrap()
            .into_inner();
        let flow = flows.message().await.unwrap().unwrap();
        assert_eq!((flow.src_port, flow.dst_port), (40_001, 5432));
        assert_eq!(flow.rule.as_deref(), Some("shop/db ingress[0]"));
        assert!(flows.message().await.unwrap().is_none());
        let nobody = agent
            .flows(FlowsRequest {
                endpoint: Some("u-x".to_owned()),
            })
            .await;
        assert_eq!(nobody.unwrap_err().code(), Code::NotFound);
        let mut sas = agent
            .sas(SasRequest { peer: None })
            .await
            .unwrap()
            .into_inner();
        assert!(sas.message().await.unwrap().is_none());
        let nothing = agent
            .counters(CountersRequest {
                port: Some("vf9".to_owned()),
            })
            .await;
        assert_eq!(nothing.unwrap_err().code(), Code::NotFound);
    });
    let summary = daemon.stop();
    assert_eq!(summary.generation, Generation(7));
}

#[test]
fn an_older_generation_replayed_is_refused_and_changes_nothing() {
    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        let old = sample();
        let mut open = sample();
        open.generation = Generation(8);
        assert!(matches!(
            program(&mut agent, &open).await.unwrap(),
            Answer::Ack { .. }
        ));
        for replayed in [&old, &open] {
            let Answer::Refused(refused) = program(&mut agent, replayed).await.unwrap() else {
                panic!("generation {} was taken again", replayed.generation)
            };
            assert_eq!(refused.path, "commit.generation");
            assert_eq!(
                (refused.code, refused.generation),
                (RefusalCode::Stale, Generation(8))
            );
        }
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(8));
    });
    daemon.stop();
}

#[test]
fn half_a_transaction_and_then_silence_ends_the_stream_and_changes_nothing() {
    let files = Files::new();
    let daemon = listening(&files, "  transaction_ms_max: 2000\n");
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        let mut stream = Stream::open(&mut agent).await.unwrap();
        for message in to_requests(sample().to_snapshot()).take(3) {
            stream.send.send(message).await.unwrap();
        }
        let ended = stream.answer().await.unwrap_err();
        assert_eq!(ended.code(), Code::DeadlineExceeded);
        assert!(
            ended.message().contains("within 2000 ms"),
            "{}",
            ended.message()
        );
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(0));
        // A stream on which nothing has begun may be silent for as long as it likes.
        let mut stream = Stream::open(&mut agent).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3_000)).await;
        let answer = stream.program(sample().to_snapshot()).await.unwrap();
        assert_eq!(
            answer,
            Answer::Ack {
                generation: Generation(7)
            }
        );
    });
    daemon.stop();
}

#[test]
fn half_a_transaction_and_then_a_broken_connection_changes_nothing() {
    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let path = files.path("agent.sock");
        let mut agent = unix(&path).await;
        let stream = Stream::open(&mut agent).await.unwrap();
        for message in to_requests(sample().to_snapshot()).take(5) {
            stream.send.send(message).await.unwrap();
        }
        drop((stream, agent));
        let mut agent = unix(&path).await;
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(0));
    });
    daemon.stop();
}

#[test]
fn a_message_over_the_bound_is_refused_before_it_is_decoded() {
    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        let mut stream = Stream::open(&mut agent).await.unwrap();
        let label = "x".repeat(5 << 20);
        let identity = proto::Identity {
            id: 1,
            label,
            domain: None,
            encryption: proto::Encryption::Required.into(),
        };
        let object = Some(proto::add::Object::Identity(identity));
        let begin = to_requests(sample().to_snapshot()).next().unwrap();
        let add = Step::Add(proto::Add { object });
        stream.send.send(begin).await.unwrap();
        stream
            .send
            .send(ProgramRequest { step: Some(add) })
            .await
            .unwrap();
        let ended = stream.answer().await.unwrap_err();
        assert!(
            matches!(ended.code(), Code::OutOfRange | Code::ResourceExhausted),
            "{ended:?}"
        );
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(0));
    });
    daemon.stop();
}

#[test]
fn an_agent_can_not_touch_ports_that_are_not_its_hosts_or_make_them_another_kind() {
    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        let mut state = sample();
        let mut other = state.ports[&"vf0".into()].clone();
        other.name = "vf7".into();
        other.kind = sluice_offload_api::model::PortKind::Vf { index: 7 };
        other.mac = sluice_offload_api::model::MacAddr([2, 0, 0, 0, 0, 77]);
        state.ports.insert(other.name.clone(), other);
        let Answer::Refused(refused) = program(&mut agent, &state).await.unwrap() else {
            panic!("a port of another host was taken")
        };
        assert_eq!(refused.code, RefusalCode::Unsupported);
        assert!(refused.text.contains("no port vf7"), "{}", refused.text);

        let mut ops = sample().to_snapshot().ops;
        for op in &mut ops {
            if let Op::Add(sluice_offload_api::Object::Port(port)) = op
                && port.name.0 == "host"
            {
                port.kind = sluice_offload_api::model::PortKind::Vf { index: 9 };
            }
        }
        let tx = Transaction {
            mode: Mode::Snapshot,
            ops,
            generation: Generation(9),
        };
        let mut stream = Stream::open(&mut agent).await.unwrap();
        let Answer::Refused(refused) = stream.program(tx).await.unwrap() else {
            panic!("the host's port became a VF")
        };
        assert!(refused.path.ends_with(".add.port.vf"), "{}", refused.path);
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(0));
    });
    daemon.stop();
}

#[test]
fn the_newest_program_stream_takes_over() {
    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let path = files.path("agent.sock");
        let (mut old, mut new) = (unix(&path).await, unix(&path).await);
        let mut first = Stream::open(&mut old).await.unwrap();
        for message in to_requests(sample().to_snapshot()).take(3) {
            first.send.send(message).await.unwrap();
        }
        let answer = program(&mut new, &sample()).await.unwrap();
        assert_eq!(
            answer,
            Answer::Ack {
                generation: Generation(7)
            }
        );
        assert_eq!(first.answer().await.unwrap_err().code(), Code::Aborted);
    });
    daemon.stop();
}

#[test]
fn connections_over_the_bound_are_turned_away_and_places_come_back() {
    use super::rig::client::try_unix;
    use sluice_dataplane::serve::CONNECTIONS_MAX;

    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let path = files.path("agent.sock");
        let mut agents = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut agent = unix(&path).await;
            status(&mut agent).await.unwrap();
            agents.push(agent);
        }
        let turned_away = match try_unix(&path).await {
            Ok(mut agent) => status(&mut agent).await.is_err(),
            Err(_) => true,
        };
        assert!(turned_away, "one more than {CONNECTIONS_MAX} was let in");
        agents.clear();
        let deadline = tokio::time::Instant::now() + super::rig::PATIENCE;
        loop {
            if let Ok(mut agent) = try_unix(&path).await
                && status(&mut agent).await.is_ok()
            {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no place came back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    daemon.stop();
}

#[test]
fn verdicts_are_streamed_to_one_reader_and_the_next_takes_over() {
    let files = Files::new();
    let daemon = listening(&files, "");
    run(async {
        let path = files.path("agent.sock");
        let mut agent = unix(&path).await;
        program(&mut agent, &sample()).await.unwrap();
        let mut reader = watcher(&path).await;
        let mut first = reader.watch(WatchRequest {}).await.unwrap().into_inner();
        daemon.wires.send(VF0, cart_to_db(40_000, 80));
        let verdict: FlowVerdict = first.message().await.unwrap().unwrap().try_into().unwrap();
        assert_eq!(verdict.denied.as_deref(), Some("policy-egress"));
        assert_eq!(verdict.egress.as_deref(), Some("shop/cart egress default"));
        assert_eq!(
            (verdict.src_port, verdict.dst_port, verdict.lost),
            (40_000, 80, 0)
        );
        assert_eq!(verdict.port, Some("vf0".into()));

        let mut second = reader.watch(WatchRequest {}).await.unwrap().into_inner();
        daemon.wires.send(VF0, cart_to_db(40_001, 5432));
        let verdict: FlowVerdict = second.message().await.unwrap().unwrap().try_into().unwrap();
        assert_eq!((verdict.denied, verdict.src_port), (None, 40_001));
        assert!(
            first.message().await.unwrap().is_none(),
            "the stream before it ends"
        );
    });
    daemon.stop();
}

#[test]
fn another_user_is_turned_away_even_where_the_sockets_mode_would_let_it_in() {
    use super::rig::mode;
    use std::os::unix::process::CommandExt as _;

    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let files = Files::new();
    let daemon = listening(&files, "");
    let path = files.path("agent.sock");
    mode(files.0.path(), 0o755);
    mode(&path, 0o666);
    // HTTP/2's preface and empty settings: a server that talks answers with its own.
    let script = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(sys.argv[1])
try:
    s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    print(len(s.recv(100)))
except (BrokenPipeError, ConnectionResetError):
    print(0)
";
    let heard_by = |uid| {
        let done = std::process::Command::new("/usr/bin/python3")
            .args(["-c", script])
            .arg(&path)
            .uid(uid)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        String::from_utf8(done.stdout)
            .unwrap()
            .trim()
            .parse::<u32>()
            .expect(&error)
    };
    assert_eq!(heard_by(65_534), 0);
    assert!(heard_by(0) > 0, "root is answered");
    daemon.stop();
}
