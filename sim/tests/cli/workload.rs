//! The step `workload`: transfers over bad wires, streams, captures, and what is wrong with them.

use std::fs;

use serde_json::Value;

use super::{Ran, root, scratch, sluice_sim, text};

/// Plays a scenario of sim/scenarios; its workloads' jobs.
fn jobs(scenario: &str, more: &[&str]) -> (Value, Vec<Value>) {
    let out = scratch(&format!("workload-{scenario}"));
    let path = format!("sim/scenarios/{scenario}.yaml");
    let args = ["run", &path, "--out", text(&out), "--output", "json"];
    let ran = sluice_sim(&[&args[..], more].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let report = ran.json();
    let steps = report["steps"].as_array().unwrap();
    let work = steps.iter().filter_map(|it| it["work"].as_array());
    let work = work.flatten().cloned().collect();
    (report, work)
}

fn number(job: &Value, field: &str) -> u64 {
    job[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {job}"))
}

#[test]
fn a_transfer_is_whole_though_wires_lose_one_frame_in_a_hundred() {
    let (_, work) = jobs("transfers", &["--seed", "11"]);
    let [whole, denied, lossy, other, last] = &work[..] else {
        panic!("{work:?}");
    };
    assert_eq!(
        (number(whole, "bytes"), number(whole, "packets")),
        (1_000_000, 0)
    );
    assert_eq!(
        (number(denied, "bytes"), &denied["complete"]),
        (0, &Value::Bool(false))
    );
    for job in [lossy, other, last] {
        assert_eq!(job["complete"], true, "{job}");
        assert!(number(job, "goodput_bps") > 0, "{job}");
    }
    // Some of some hundred frames each way were lost, and whatever was lost was sent again.
    assert!(
        number(lossy, "packets") + number(other, "packets") > 0,
        "{work:?}"
    );
    assert!(number(lossy, "goodput_bps") < number(whole, "goodput_bps"));
}

#[test]
fn imix_has_its_sizes_and_comes_back() {
    let (report, work) = jobs("imix", &[]);
    assert_eq!(
        (number(&work[0], "packets"), number(&work[0], "answered")),
        (600, 600)
    );
    // 599 intervals of 100 us, and the last one's way.
    assert!(
        (59_900_000..61_000_000).contains(&number(&work[0], "took_ns")),
        "{work:?}"
    );
    assert_eq!(number(&work[2], "answered"), 0);
    assert_eq!(report["unaccounted"], 0);
    let out = super::scratch("imix-sizes");
    let args = ["run", "sim/scenarios/imix.yaml", "--out", text(&out)];
    assert_eq!(sluice_sim(&args).code, Some(0));
    let wire = fs::read(out.join("wire.pcap")).unwrap();
    let frames = sluice_sim::pcap::read(&wire).unwrap();
    let long = frames.iter().filter(|it| it.len() > 1_400).count();
    // A twelfth of 1200 datagrams and their answers, and half of the 50 that are denied where
    // they arrive.
    assert_eq!(long, 225);
}

#[test]
fn a_capture_is_played_from_both_sides() {
    let (report, work) = jobs("capture", &[]);
    let told: Vec<_> = work
        .iter()
        .map(|it| ["packets", "answered", "skipped"].map(|field| number(it, field)))
        .collect();
    // 68 frames: 44 of the client's and its datagram, 22 of the server's, a stranger's. Of the
    // client's all but the datagram come to the server; no other is for anyone.
    assert_eq!(told, [[45, 22, 23], [22, 44, 46]]);
    let drops: Vec<_> = report["drops"].as_array().unwrap().iter().collect();
    let told: Vec<_> = drops
        .iter()
        .map(|it| (&it["reason"], &it["frames"]))
        .collect();
    assert_eq!(told, [(&Value::from("policy-ingress"), &Value::from(1))]);
}

fn run(name: &str, workload: &str) -> Ran {
    let folder = scratch(name);
    let manifests = root().join("sim/manifests/changes");
    let text_of = format!(
        "name: x\nmanifests: {}\nsteps:\n  - fault: {{partition: [node-a, node-b]}}\n  - workload: {workload}\n",
        manifests.display()
    );
    let file = folder.join("scenario.yaml");
    fs::write(&file, text_of).unwrap();
    let out = folder.join("out");
    sluice_sim(&["run", text(&file), "--out", text(&out), "--output", "json"])
}

#[test]
fn a_transfer_that_must_be_and_cannot_fails_the_run() {
    let ran = run(
        "workload-parted",
        "[{tcp: {from: shop/cart, to: shop/db, port: 5432, bytes: 1000, expect: allow}}]",
    );
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let checks = ran.json()["failed_checks"].to_string();
    assert!(checks.contains("expected to come to its end"), "{checks}");
}

#[test]
fn jobs_that_make_no_sense_are_refused_at_their_line() {
    let pcap = root().join("sim/captures/database.pcap");
    let capture = |map: &str| {
        format!(
            "[{{pcap: {{file: {}, from: shop/web, map: {map}}}}}]",
            pcap.display()
        )
    };
    for (name, workload, why) in [
        ("none", "[]".to_owned(), "1 to 100 jobs"),
        (
            "nobody",
            "[{tcp: {from: shop/nobody, to: shop/db, port: 1, bytes: 1}}]".to_owned(),
            "no pod shop/nobody",
        ),
        (
            "sizes",
            "[{udp: {from: shop/web, to: shop/db, port: 1, packets: 1, rate: 1, sizes: []}}]"
                .to_owned(),
            "frame sizes are",
        ),
        (
            "unmapped",
            capture("{192.0.2.10: shop/db}"),
            "map gives no address",
        ),
        (
            "missing",
            "[{pcap: {file: nowhere.pcap, from: shop/web, map: {192.0.2.1: shop/web}}}]".to_owned(),
            "can't read nowhere.pcap",
        ),
        (
            "no-capture",
            "[{pcap: {file: scenario.yaml, from: shop/web, map: {192.0.2.1: shop/web}}}]"
                .to_owned(),
            "not a pcap file",
        ),
    ] {
        let ran = run(&format!("workload-{name}"), &workload);
        assert_eq!(ran.code, Some(2), "{name}: {}{}", ran.stdout, ran.stderr);
        assert!(
            ran.stderr.contains(why) && ran.stderr.contains("scenario.yaml:5:"),
            "{name}: {}",
            ran.stderr
        );
    }
}
