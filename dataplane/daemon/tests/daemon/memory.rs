//! A key that is no longer in use is nowhere in the process's memory.
//!
//! Both nodes of a pair run in this process and agree on keys over TLS; the laboratory's key file
//! says which. Keys for the SA socket come from another process. The test keeps what it looks for
//! inverted, and so never finds itself.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::Instant;

use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::{
    ExporterSecret, Limits, PeerConfig, SaAction, SaEvent, SaLifecycle, SessionId, SpiBlock,
    TimeMs, Timing,
};

use super::channel::{LAB_KEYS, Pairing};
use super::live;
use super::rig::pki::Ca;
use super::rig::{Files, PATIENCE, until};

/// A cipher's key, every bit inverted. The first bytes of AES's expanded key are the key itself.
type Inverted = Vec<u8>;

/// The sending SAs' keys, in the order in which they were agreed on.
fn agreed(files: &Files) -> Vec<Inverted> {
    let text = std::fs::read_to_string(files.path(LAB_KEYS)).unwrap();
    text.lines()
        .map(|line| {
            let hex = line.split('"').nth(11).unwrap();
            let digits: Vec<_> = hex.trim_start_matches("0x").bytes().collect();
            let inverted = digits.chunks_exact(2).map(|it| {
                let digit = |at: usize| char::from(it[at]).to_digit(16).unwrap();
                !u8::try_from(digit(0) << 4 | digit(1)).unwrap()
            });
            let mut key: Inverted = inverted.collect();
            // The salt is no secret of its own.
            key.truncate(key.len() - 4);
            key
        })
        .collect()
}

/// What this process can read of its own, with the names of the regions.
fn regions() -> Vec<(Range<u64>, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let region = |line: &str| {
        let mut words = line.split_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let readable = words.next()?.starts_with('r');
        let name = words.nth(3).unwrap_or("anonymous").to_owned();
        let address = |hex| u64::from_str_radix(hex, 16).ok();
        (readable && !name.starts_with("[v")).then_some((address(from)?..address(to)?, name))
    };
    maps.lines().filter_map(region).collect()
}

const CHUNK: usize = 1 << 20;

/// Where which of the keys are: a key's place in the list, and the name of the region.
fn found(keys: &[Inverted]) -> BTreeSet<(usize, String)> {
    let memory = File::open("/proc/self/mem").unwrap();
    let longest = keys.iter().map(Vec::len).max().unwrap();
    let firsts: [Vec<usize>; 256] = core::array::from_fn(|byte| {
        let begins = |it: &usize| usize::from(!keys[*it][0]) == byte;
        (0..keys.len()).filter(begins).collect()
    });
    let mut buffer = vec![0; CHUNK + longest];
    // What was read of others stands in it too.
    let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
    let mut found = BTreeSet::new();
    for (range, name) in regions() {
        let mut at = range.start;
        while at < range.end {
            let want = usize::try_from(range.end - at).unwrap().min(buffer.len());
            let Ok(read) = memory.read_at(&mut buffer[..want], at) else {
                break;
            };
            for start in 0..read.min(CHUNK) {
                for &key in &firsts[usize::from(buffer[start])] {
                    let there = buffer[start..read].iter().take(keys[key].len());
                    let same = there.len() == keys[key].len()
                        && there
                            .zip(&keys[key])
                            .all(|(byte, inverted)| *byte == !inverted);
                    if same && !own.contains(&(at + start as u64)) {
                        found.insert((key, name.clone()));
                    }
                }
            }
            at += CHUNK as u64;
        }
    }
    found
}

#[test]
fn keys_that_are_out_of_use_are_nowhere_in_memory() {
    let (files_a, files_b, ca) = (Files::new(), Files::new(), Ca::new());
    let svids = [ca.node("node-a"), ca.node("node-b")];
    let pair = Pairing::new([&files_a, &files_b], &ca, svids);
    until("keys have been renewed", || {
        (pair.epochs() >= 4).then_some(())
    });
    for files in [&files_a, &files_b] {
        let deadline = Instant::now() + PATIENCE;
        // On a busy machine all that were in use may be gone before the search is at its end.
        let old = loop {
            let old = agreed(files);
            if !found(&old).is_empty() {
                break old;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "the search finds no key in use");
        };
        // A receiving SA stays until the sender is silent; then its key has to go as well.
        let deadline = Instant::now() + PATIENCE;
        let mut left = found(&old);
        while !left.is_empty() {
            assert!(Instant::now() < deadline, "of {} keys: {left:?}", old.len());
            left = found(&old);
        }
    }
    pair.cut();
}

/// Adds or removes an SA by the socket, in a process of its own; its key's byte `n` is
/// `37 n + 11`, modulo 256.
const ASK: &str = r#"
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
sa = {"direction": "outbound", "peer": "node-b", "spi": 0x9001}
if sys.argv[2] == "add":
    keymat = bytes((37 * n + 11) % 256 for n in range(36)).hex()
    sa |= {"algorithm": "aes256gcm16", "keymat": keymat, "esn": True}
s.sendall(json.dumps({sys.argv[2]: sa}).encode() + b"\n")
print(s.makefile().readline(), end="")
"#;

#[test]
fn a_key_of_the_sa_socket_is_nowhere_once_its_sa_is_removed() {
    let files = Files::new();
    let daemon = live::start(&files);
    let ask = |what: &str| {
        let socket = files.path("sas.sock");
        let mut asking = Command::new("python3");
        asking.args(["-c", ASK]).arg(socket).arg(what);
        let answer = asking.output().expect("python3 is needed");
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "{\"done\":{}}\n");
    };
    let inverted = |n: u8| !(37u8.wrapping_mul(n).wrapping_add(11));
    let raw: Inverted = (0..32).map(inverted).collect();
    let digit = |it: u8| !(b"0123456789abcdef"[usize::from(it)]);
    let hex = raw
        .iter()
        .flat_map(|it| [digit(!it >> 4), digit(!it & 0xf)]);
    let keys = [hex.collect(), raw];
    ask("add");
    let is_there = |it: &BTreeSet<(usize, String)>, form| it.iter().any(|it| it.0 == form);
    let held = found(&keys);
    assert!(is_there(&held, 1), "the search finds no key in use");
    assert!(!is_there(&held, 0), "the request: {held:?}");
    ask("remove");
    until("the key is gone", || found(&keys).is_empty().then_some(()));
    daemon.stop();
}

/// One end's life cycle with the other.
fn life_cycle(local: &str, peer: &str) -> SaLifecycle {
    let config = PeerConfig {
        local: format!("spiffe://test/node/{local}"),
        peer: format!("spiffe://test/node/{peer}"),
        instance: 1,
        jitter_seed: 1,
        lanes: 2,
        algorithms: Algorithm::ALL.to_vec(),
        esn: true,
        limits: Limits::default(),
        timing: Timing::default(),
    };
    SaLifecycle::new(config, TimeMs(0)).unwrap()
}

/// What a session's keys are derived from goes when they are there; the TLS library keeps its own of
/// it until the session ends (docs/encryption.md).
#[test]
fn a_sessions_secret_is_nowhere_once_its_keys_are_in_use() {
    let inverted = |n: u8| !(71u8.wrapping_mul(n).wrapping_add(5));
    let secret: [Inverted; 1] = [(0..).take(ExporterSecret::LEN).map(inverted).collect()];
    let session = SessionId(1);
    let mut ends = [("a", "b", 0x1_0000), ("b", "a", 0x2_0000)].map(|(local, peer, spi)| {
        let mut machine = life_cycle(local, peer);
        // Who dials asks for that first.
        machine.on_deadline(TimeMs(0));
        while machine.next_action().is_some() {}
        let mut bytes: Vec<u8> = secret[0].iter().map(|it| !it).collect();
        let up = SaEvent::SessionUp {
            session,
            secret: ExporterSecret::take_from((&mut *bytes).try_into().unwrap()),
            receive: SpiBlock::new(spi).unwrap(),
        };
        machine.on_event(up, TimeMs(0));
        machine
    });
    assert!(!found(&secret).is_empty(), "the search finds no secret");
    let (mut established, mut keys) = (0, Vec::new());
    for turn in (0..40).map(|it| it % 2) {
        let mut said = Vec::new();
        while let Some(action) = ends[turn].next_action() {
            let done = match action {
                SaAction::Send(session, message) => {
                    said.push(SaEvent::Received { session, message });
                    continue;
                }
                SaAction::InstallInbound(sa) => {
                    keys.push(sa.key);
                    SaEvent::InboundInstalled(sa.spi)
                }
                SaAction::InstallOutbound(sa) => SaEvent::OutboundInstalled(sa.spi),
                SaAction::Established(..) => {
                    established += 1;
                    continue;
                }
                _ => continue,
            };
            ends[turn].on_event(done, TimeMs(1));
        }
        for it in said {
            ends[1 - turn].on_event(it, TimeMs(1));
        }
    }
    assert_eq!((established, keys.len()), (2, 4), "both ends have keys");
    sluice_crypto::scrub_stack();
    assert_eq!(found(&secret), BTreeSet::new());
}
