//! `run --pcap-per-link`: a capture of each link, by what others say of the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sluice_sim::pcap::read_timed;
use sluice_sim::world::MARKER;

use super::{scratch, sluice_sim, text};

/// How long a frame takes over a wire on which nothing happens to it.
const LINK_NS: u64 = 5_000;

/// A time and a frame, and how often there are both.
type Frames = BTreeMap<(u64, Vec<u8>), usize>;

fn frames(path: &Path) -> Frames {
    let bytes = fs::read(path).unwrap();
    let mut frames = Frames::new();
    for (at, frame) in read_timed(&bytes).unwrap() {
        *frames.entry((at, frame.to_vec())).or_default() += 1;
    }
    frames
}

/// All of several captures.
fn together(paths: &[PathBuf]) -> Frames {
    let mut all = Frames::new();
    for (frame, count) in paths.iter().flat_map(|it| frames(it)) {
        *all.entry(frame).or_default() += count;
    }
    all
}

/// The captures of a folder's folders, by what they are called there: `node-a/host`.
fn captures(links: &Path) -> BTreeMap<String, PathBuf> {
    let mut captures = BTreeMap::new();
    for node in fs::read_dir(links).unwrap() {
        let node = node.unwrap().path();
        for file in fs::read_dir(&node).unwrap() {
            let file = file.unwrap().path();
            let name = |it: &Path| it.file_stem().unwrap().to_str().unwrap().to_owned();
            let folder = node.file_name().unwrap().to_str().unwrap();
            captures.insert(format!("{folder}/{}", name(&file)), file);
        }
    }
    captures
}

/// A run with captures of its links: its folder, and those.
fn run(name: &str, scenario: &str) -> (PathBuf, BTreeMap<String, PathBuf>) {
    let out = scratch(name);
    let scenario = format!("sim/scenarios/{scenario}.yaml");
    let ran = sluice_sim(&["run", &scenario, "--out", text(&out), "--pcap-per-link"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("/links "), "{}", ran.stdout);
    let captures = captures(&out.join("links"));
    (out, captures)
}

/// Those whose name ends so.
fn ending(captures: &BTreeMap<String, PathBuf>, end: &str) -> Vec<PathBuf> {
    let its = captures.iter().filter(|it| it.0.ends_with(end));
    its.map(|it| it.1.clone()).collect()
}

fn has_marker(frame: &[u8]) -> bool {
    frame.windows(MARKER.len()).any(|it| it == MARKER)
}

#[test]
fn what_went_onto_the_links_of_the_wire_is_the_wire() {
    let (out, captures) = run("links-wire", "quickstart");
    let sent = ending(&captures, "tx");
    assert!(sent.len() >= 2, "{captures:?}");
    let sent = together(&sent);
    assert!(sent.len() > 50, "{}", sent.len());
    assert!(
        sent == frames(&out.join("wire.pcap")),
        "other frames or times"
    );
    // Nothing happens on this wire: what came was put there just before.
    let came = together(&ending(&captures, "rx"));
    let put = |(at, frame): &(u64, Vec<u8>)| sent.contains_key(&(at - LINK_NS, frame.clone()));
    assert!(came.len() > 50 && came.keys().all(put));
}

#[test]
fn a_link_of_the_wire_has_the_frames_of_its_end() {
    let (_, captures) = run("links-ends", "quickstart");
    let sources = |end: &str| -> BTreeSet<Vec<u8>> {
        let frames = frames(&captures[end]);
        frames.keys().map(|it| it.1[6..12].to_vec()).collect()
    };
    let [a, b] = ["node-a/uplink-tx", "node-b/uplink-tx"].map(sources);
    assert_eq!((a.len(), b.len()), (1, 1));
    assert_ne!(a, b);
    let heard = sources("node-a/uplink-rx");
    assert!(heard.is_superset(&b) && heard.is_disjoint(&a));
}

#[test]
fn a_pod_s_link_is_plain_where_the_uplink_has_esp() {
    let (out, captures) = run("links-plain", "quickstart");
    let web = frames(&captures["node-a/vf2-shop_web"]);
    let asked: Vec<_> = web
        .keys()
        .map(|it| &it.1)
        .filter(|it| has_marker(it))
        .collect();
    assert!(!asked.is_empty());
    for uplink in ending(&captures, "uplink-tx") {
        let clear = frames(&uplink)
            .keys()
            .filter(|it| has_marker(&it.1))
            .count();
        assert_eq!(clear, 0, "{uplink:?}");
    }
    // With the keys, what node-a sealed has payloads that its pods' links have.
    let args = [
        "esp",
        "open",
        "--esn",
        "--pcap",
        text(&captures["node-a/uplink-tx"]),
    ];
    let keys = out.join("esp_sa");
    let opened = sluice_sim(&[&args[..], &["--keys", text(&keys)]].concat());
    assert_eq!(opened.code, Some(0), "{}", opened.stderr);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|it| format!("{it:02x}")).collect() };
    let its: Vec<_> = captures
        .iter()
        .filter(|it| it.0.starts_with("node-a/vf"))
        .collect();
    let plain: Vec<_> = its
        .iter()
        .flat_map(|it| frames(it.1))
        .map(|it| hex(&it.0.1))
        .collect();
    let json = opened.json();
    let inner = json["opened"].as_array().unwrap().iter();
    let inner = inner.map(|it| it["inner"].as_str().unwrap().to_owned());
    let payload = inner.filter_map(|it| it.find(&hex(MARKER)).map(|at| it[at..].to_owned()));
    let payloads: BTreeSet<_> = payload.collect();
    assert!(payloads.len() > 3, "{payloads:?}");
    for payload in payloads {
        assert!(plain.iter().any(|it| it.contains(&payload)), "{payload}");
    }
}

/// How many frames were put on a link of the wire and came by none.
fn lost(captures: &BTreeMap<String, PathBuf>) -> usize {
    let came: BTreeSet<_> = together(&ending(captures, "rx"))
        .into_keys()
        .map(|it| it.1)
        .collect();
    let sent = together(&ending(captures, "tx"));
    sent.keys().filter(|it| !came.contains(&it.1)).count()
}

#[test]
fn what_a_wire_loses_is_at_its_one_end_only() {
    let (_, whole) = run("links-whole", "quickstart");
    let (_, lossy) = run("links-lossy", "lossy-wires");
    assert_eq!(lost(&whole), 0);
    assert!(lost(&lossy) > 10, "{}", lost(&lossy));
}

#[test]
fn links_of_a_run_before_are_gone_and_nothing_else() {
    let (out, _) = run("links-again", "quickstart");
    let folder = out.join("links/node-a");
    let (old, mine) = (folder.join("vf9-shop_gone.pcap"), folder.join("notes.txt"));
    fs::write(&old, "").unwrap();
    fs::write(&mine, "").unwrap();
    let scenario = "sim/scenarios/quickstart.yaml";
    let args = ["run", scenario, "--out", text(&out), "--pcap-per-link"];
    assert_eq!(sluice_sim(&args).code, Some(0));
    assert!(!old.exists() && mine.exists());
}

#[test]
fn without_the_option_there_are_no_links() {
    let out = scratch("links-none");
    let args = ["run", "sim/scenarios/quickstart.yaml", "--out", text(&out)];
    let ran = sluice_sim(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!out.join("links").exists() && !ran.stdout.contains("/links "));
}
