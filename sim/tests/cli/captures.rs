//! `esp open` on whole, cut, damaged and random captures: it never panics, and says what is
//! wrong and where.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Ran, scratch, sluice_sim, text};

/// Damaged captures of each kind.
const ROUNDS: usize = 60;

/// A run's capture and key file.
fn recorded(name: &str) -> (PathBuf, Vec<u8>) {
    let out = scratch(name);
    let args = ["run", "sim/scenarios/quickstart.yaml", "--out", text(&out)];
    let ran = sluice_sim(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let wire = fs::read(out.join("wire.pcap")).unwrap();
    (out, wire)
}

fn open(out: &Path, bytes: &[u8]) -> Ran {
    let (pcap, keys) = (out.join("damaged.pcap"), out.join("esp_sa"));
    fs::write(&pcap, bytes).unwrap();
    let args = ["esp", "open", "--pcap", text(&pcap), "--keys", text(&keys)];
    sluice_sim(&[&args[..], &["--esn"]].concat())
}

/// An answer or a clear refusal, and nothing else.
fn is_orderly(ran: &Ran) {
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    match ran.code {
        Some(0 | 1) => {
            let json = ran.json();
            let bad = ["refused", "malformed"].map(|it| json[it].as_array().unwrap().len());
            assert_eq!(ran.code == Some(1), bad != [0, 0]);
        }
        Some(2) => {
            assert!(ran.stdout.is_empty(), "{}", ran.stdout);
            assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
            assert!(ran.stderr.contains("damaged.pcap"), "{}", ran.stderr);
        }
        other => panic!("exit {other:?}: {}", ran.stderr),
    }
}

/// A small generator (SplitMix64): the same damage on every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[test]
fn every_esp_frame_of_a_run_opens_once() {
    let (out, wire) = recorded("open-whole");
    let ran = open(&out, &wire);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let opened = ran.json()["opened"].as_array().unwrap().len();
    assert!(opened > 50);
    // The capture twice over: the same frames again are replays, each refused.
    let twice = [&wire[..], &wire[24..]].concat();
    let ran = open(&out, &twice);
    assert_eq!(ran.code, Some(1));
    let json = ran.json();
    let refused = json["refused"].as_array().unwrap();
    assert_eq!(json["opened"].as_array().unwrap().len(), opened);
    assert_eq!(refused.len(), opened);
    assert!(
        refused
            .iter()
            .all(|it| it["reason"].as_str().unwrap().contains("already accepted"))
    );
}

#[test]
fn a_cut_capture_is_an_error_that_names_the_frame() {
    let (out, wire) = recorded("open-cut");
    let mut rng = Rng(1);
    for _ in 0..ROUNDS {
        let cut = rng.below(wire.len());
        let ran = open(&out, &wire[..cut]);
        is_orderly(&ran);
    }
    let ran = open(&out, &wire[..wire.len() - 1]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("ends within frame "), "{}", ran.stderr);
    let ran = open(&out, &wire[..10]);
    assert!(
        ran.stderr.contains("ends within its header"),
        "{}",
        ran.stderr
    );
    let ran = open(&out, b"");
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("ends within its header"),
        "{}",
        ran.stderr
    );
}

#[test]
fn damaged_captures_do_no_harm() {
    let (out, wire) = recorded("open-damaged");
    let mut rng = Rng(2);
    for _ in 0..ROUNDS {
        let mut damaged = wire.clone();
        for _ in 0..=rng.below(200) {
            let at = rng.below(damaged.len());
            damaged[at] = rng.byte();
        }
        is_orderly(&open(&out, &damaged));
    }
}

#[test]
fn random_frames_do_no_harm() {
    let (out, wire) = recorded("open-random");
    let mut rng = Rng(3);
    for _ in 0..ROUNDS {
        let mut random = wire[..24].to_vec();
        for _ in 0..50 {
            let len = rng.below(200);
            let mut frame: Vec<u8> = (0..len).map(|_| rng.byte()).collect();
            // Half of them get past the ethertype.
            let ethertypes = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]];
            if rng.below(2) == 0 && len > 14 {
                frame[12..14].copy_from_slice(&ethertypes[rng.below(4)]);
                frame[14] = [0x45, 0x60][rng.below(2)];
            }
            let len = u32::try_from(len).unwrap().to_le_bytes();
            random.extend([0; 8]);
            random.extend([len, len].concat());
            random.extend(frame);
        }
        let ran = open(&out, &random);
        is_orderly(&ran);
        let json = ran.json();
        assert!(json["opened"].as_array().unwrap().is_empty());
        let lists = ["refused", "malformed"].map(|it| json[it].as_array().unwrap().len());
        let other = usize::try_from(json["other"].as_u64().unwrap()).unwrap();
        assert_eq!(lists[0] + lists[1] + other, 50);
    }
    for _ in 0..ROUNDS {
        let noise: Vec<u8> = (0..rng.below(4_000)).map(|_| rng.byte()).collect();
        is_orderly(&open(&out, &noise));
    }
}

#[test]
fn other_kinds_of_files_are_told_what_they_are() {
    let (out, mut wire) = recorded("open-kinds");
    let pcapng = [0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0];
    let ran = open(&out, &pcapng);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("editcap"), "{}", ran.stderr);
    wire[20] = 113;
    let ran = open(&out, &wire);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("link type 113"), "{}", ran.stderr);
}
