//! What a daemon says and writes has no key in it.

use super::channel::{LAB_KEYS, Pairing};
use super::metrics::get;
use super::rig::pki::Ca;
use super::rig::spelled::{contains, has_key};
use super::rig::{Files, log, until};

/// The keys that were agreed on, without their salts, from the laboratory's file.
fn agreed(files: &Files) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(files.path(LAB_KEYS)).unwrap();
    let hex = text.lines().map(|line| line.split('"').nth(11).unwrap());
    let digit = |it: u8| char::from(it).to_digit(16).unwrap();
    let key = |hex: &str| {
        let digits = hex.trim_start_matches("0x").as_bytes();
        let byte = |it: &[u8]| u8::try_from(digit(it[0]) << 4 | digit(it[1])).unwrap();
        let all: Vec<u8> = digits.chunks_exact(2).map(byte).collect();
        all[..all.len() - 4].to_vec()
    };
    hex.map(key).collect()
}

#[test]
fn log_lines_and_metrics_have_no_key_in_them() {
    log::keep();
    let (files_a, files_b, ca) = (Files::new(), Files::new(), Ca::new());
    let svids = [ca.node("node-a"), ca.node("node-b")];
    let pair = Pairing::new([&files_a, &files_b], &ca, svids);
    until("keys have been renewed", || {
        (pair.epochs() >= 3).then_some(())
    });
    let pages = pair.metrics().map(|to| get(to, "/metrics"));
    pair.cut();
    let log = log::text();
    // What is looked through is what it should be.
    assert!(log.contains("SAs are in use both ways"), "{log}");
    for (page, peer) in pages.iter().zip(["node-b", "node-a"]) {
        let line = format!("sluice_channel_epochs_total{{peer=\"{peer}\"}}");
        assert!(contains(page.as_bytes(), line.as_bytes()), "{page}");
    }
    for files in [&files_a, &files_b] {
        let keys = agreed(files);
        let lab = std::fs::read(files.path(LAB_KEYS)).unwrap();
        assert!(keys.len() >= 3);
        for key in keys {
            assert!(has_key(&lab, &key), "a key isn't found where it is");
            for text in [&log, &pages[0], &pages[1]] {
                assert!(!has_key(text.as_bytes(), &key), "{text}");
            }
        }
    }
}
