//! The metrics' endpoint: what it says, and what it puts up with.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use sluice_offload_api::testing::sample;

use super::rig::client::{program, unix};
use super::rig::frames::{VF0, VF1, cart_to_db};
use super::rig::{Files, PATIENCE, PORTS, Running, WORKERS, run, try_until};

fn listening(files: &Files, more: &str) -> Running {
    let text =
        format!("{PORTS}metrics: 127.0.0.1:0\n{more}listen:\n  unix: {{path: agent.sock}}\n");
    Running::start(files.config(&text))
}

fn ask(to: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has heard enough may close before all is written.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

pub(crate) fn get(to: SocketAddr, path: &str) -> String {
    ask(
        to,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
    )
}

#[test]
fn what_a_vfs_quota_cost_it_is_there() {
    if WORKERS > 1 {
        return; // Each has a part of the quota.
    }
    let files = Files::new();
    let ports = PORTS.replace("flows: 1024", "flows: 1024\n  vf_half_open_max: 1");
    let text = format!("{ports}metrics: 127.0.0.1:0\nlisten:\n  unix: {{path: agent.sock}}\n");
    let daemon = Running::start(files.config(&text));
    let to = daemon.metrics.unwrap();
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        program(&mut agent, &sample()).await.unwrap();
    });
    for src_port in [1, 2, 3] {
        daemon.wires.send(VF0, cart_to_db(src_port, 5432));
        daemon.wires.receive(VF1);
    }
    let lines = ["sluice_flows_evicted_total 2", "sluice_flows 1"];
    let mut page = String::new();
    let found = try_until(|| {
        page = get(to, "/metrics");
        lines.iter().all(|line| page.lines().any(|it| it == *line))
    });
    assert!(found, "{page}");
    daemon.stop();
}

#[test]
fn drops_by_port_and_reason_flows_bursts_and_generation_are_there() {
    let files = Files::new();
    let daemon = listening(&files, "");
    let to = daemon.metrics.unwrap();
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        program(&mut agent, &sample()).await.unwrap();
    });
    daemon.wires.send(VF0, cart_to_db(1, 80));
    daemon.wires.send(VF0, cart_to_db(2, 5432));
    daemon.wires.receive(VF1);
    let lines = [
        "sluice_generation 7",
        "sluice_flows 1",
        "sluice_port_drops_total{port=\"vf0\",reason=\"policy-egress\"} 1",
        "sluice_port_rx_frames_total{port=\"vf0\"} 2",
        "sluice_port_tx_frames_total{port=\"vf1\"} 1",
        "sluice_port_link_up{port=\"vf1\"} 1",
        "sluice_sas{direction=\"inbound\"} 0",
        "sluice_worker_frames_total 2",
        "sluice_checkpoint_fault 0",
        "sluice_objects{kind=\"endpoints\"} 2",
    ];
    // The frame is out before the poll that sent it has counted everything.
    let mut page = String::new();
    let found = try_until(|| {
        page = get(to, "/metrics");
        lines.iter().all(|line| page.lines().any(|it| it == *line))
    });
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for line in lines {
        assert!(
            found || page.lines().any(|it| it == line),
            "{line} is not in\n{page}"
        );
    }
    let body = page.split_once("\r\n\r\n").unwrap().1;
    for line in body.lines().filter(|it| !it.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        value.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
    }
    daemon.stop();
}

#[test]
fn healthz_tells_of_a_checkpoint_that_is_broken() {
    let files = Files::new();
    files.write(
        "last",
        "not a checkpoint, but long enough to have a whole header in it....",
    );
    let daemon = listening(&files, "checkpoint: last\n");
    let to = daemon.metrics.unwrap();
    let sick = get(to, "/healthz");
    assert!(sick.starts_with("HTTP/1.1 503 "), "{sick}");
    assert!(sick.contains("not a checkpoint of this version"), "{sick}");
    assert!(get(to, "/metrics").contains("\nsluice_checkpoint_fault 1\n"));
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        program(&mut agent, &sample()).await.unwrap();
    });
    let well = get(to, "/healthz");
    assert!(
        well.starts_with("HTTP/1.1 200 OK\r\n") && well.ends_with("\r\n\r\nok\n"),
        "{well}"
    );
    daemon.stop();
}

#[test]
fn anything_else_is_turned_away() {
    let files = Files::new();
    let daemon = listening(&files, "");
    let to = daemon.metrics.unwrap();
    assert!(get(to, "/").starts_with("HTTP/1.1 404 "));
    assert!(ask(to, b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let long = [b"GET /".to_vec(), vec![b'a'; 4091]].concat();
    assert!(ask(to, &long).starts_with("HTTP/1.1 431 "));
    assert!(ask(to, b"\r\n\r\n").starts_with("HTTP/1.1 405 "));
    daemon.stop();
}
