//! What a daemon says and writes has no key in it.

use std::path::{Path, PathBuf};

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

/// Every file of a folder and of those in it.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|it| it.unwrap().path());
    paths
        .flat_map(|it| if it.is_dir() { files_in(&it) } else { vec![it] })
        .filter(|it| it.is_file())
        .collect()
}

#[test]
fn no_file_has_a_key_in_it_but_the_laboratorys_where_that_is_asked_for() {
    let (files_a, files_b, ca) = (Files::new(), Files::new(), Ca::new());
    let svids = [ca.node("node-a"), ca.node("node-b")];
    let pair = Pairing::with([&files_a, &files_b], &ca, svids, false);
    until("keys have been renewed", || {
        (pair.epochs() >= 2).then_some(())
    });
    pair.cut();
    // What the one says is what the other has, too.
    let keys = agreed(&files_a);
    assert!(keys.len() >= 2);
    let all = [&files_a, &files_b].map(|it| files_in(it.0.path()));
    let with_key = all.iter().flatten().filter(|path| {
        let text = std::fs::read(path).unwrap();
        keys.iter().any(|it| has_key(&text, it))
    });
    assert_eq!(with_key.collect::<Vec<_>>(), [&files_a.path(LAB_KEYS)]);
    assert!(all.iter().all(|it| it.len() >= 3), "{all:?}");
}
