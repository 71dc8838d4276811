//! DPDK's own IPsec gateway, ipsec-secgw, beside ours: the same frames out of a `net_pcap` that
//! repeats itself, sealed or opened on one core and dropped by a `net_null`, in turn.
//!
//! It has libipsec-mb (`crypto_aesni_gcm`) for the cipher. It takes one of its SAs by a policy for
//! the destination, and holds what it opened against one; ours tracks the flow and judges it by
//! identity besides.

pub mod report;
mod sealed;
mod secgw;

use std::iter;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use serde::Serialize;
use sluice_crypto::key::Algorithm;

use self::report::Gateway;
use self::secgw::SECONDS;
use crate::bed::{Agreed, Side, WINDOW};
use crate::devices::{ROUND, Spans, opening, sealing};
use crate::esp::{SIZES, Size};
use crate::frames::udp;
use crate::timing::median;

/// What our part of its speed is to be, at least.
const TARGET: f64 = 1.0;
/// Flows of them: one after the other, or all of one.
const FLOWS: [u16; 2] = [1, 64];
/// Of how long what we take is measured with `quick`.
const MOMENT: Duration = Duration::from_millis(20);
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// What both do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Direction {
    /// From a pod to the wire
    Seal,
    /// From the wire to a pod
    Open,
    /// One after the other
    Both,
}

impl Direction {
    const fn ways(self) -> &'static [Way] {
        match self {
            Self::Seal => &[Way::Seal],
            Self::Open => &[Way::Open],
            Self::Both => &[Way::Seal, Way::Open],
        }
    }
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From a pod to the wire.
    Seal,
    /// From the wire to a pod.
    Open,
}

impl Way {
    /// `seal` or `open`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
        }
    }

    /// Packets of our replay window and of ipsec-secgw's.
    const fn windows(self) -> [Option<usize>; 2] {
        match self {
            Self::Seal => [None; 2],
            Self::Open => [Some(WINDOW), Some(0)],
        }
    }
}

/// By what both seal and open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Cipher {
    /// AES-GCM with a key of 128 bits
    #[value(name = "aes128gcm16")]
    Aes128,
    /// With one of 256
    #[value(name = "aes256gcm16")]
    Aes256,
}

impl Cipher {
    const fn ours(self) -> Algorithm {
        match self {
            Self::Aes128 => Algorithm::Aes128Gcm16,
            Self::Aes256 => Algorithm::Aes256Gcm16,
        }
    }

    /// As ipsec-secgw's rules have it.
    const fn theirs(self) -> &'static str {
        match self {
            Self::Aes128 => "aes-128-gcm",
            Self::Aes256 => "aes-256-gcm",
        }
    }
}

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The program ipsec-secgw.
    pub secgw: &'a Path,
    /// Sealing, opening or both.
    pub direction: Direction,
    /// By which cipher.
    pub cipher: Cipher,
    /// Turns of each of the two.
    pub turns: u32,
    /// One size, one turn, a moment of ours.
    pub quick: bool,
}

/// Measures each size, so many times in turn.
///
/// # Errors
/// DPDK or its devices, or an ipsec-secgw that can't be run or sends nothing: with its last
/// words.
pub fn run(wanted: &Wanted<'_>, mut progress: impl FnMut(&str)) -> anyhow::Result<Vec<Gateway>> {
    ensure!(
        wanted.secgw.is_file(),
        "there is no {}; bench/ipsec-secgw.sh builds it and says where",
        wanted.secgw.display()
    );
    let sizes = if wanted.quick {
        &SIZES[3..4]
    } else {
        &SIZES[..]
    };
    let mut all = Vec::new();
    for way in wanted.direction.ways() {
        for size in sizes {
            for flows in FLOWS {
                let (doing, by, name) = (way.name(), wanted.cipher.ours(), size.name());
                progress(&format!("{doing}, {by}, {name} bytes, flows: {flows}"));
                all.push(compare(wanted, *way, *size, flows)?);
            }
        }
    }
    Ok(all)
}

/// Both at one size, in turn.
fn compare(wanted: &Wanted<'_>, way: Way, size: Size, flows: u16) -> anyhow::Result<Gateway> {
    let algorithm = wanted.cipher.ours();
    // The same for both. ipsec-secgw has 64 bits of sequence numbers only with a replay window.
    let agreed = Agreed {
        algorithm,
        esn: false,
    };
    let frames = match way {
        Way::Seal => frames(Side::A, size, flows),
        Way::Open => sealed::by_the_other(agreed, &round(frames(Side::B, size, flows)))?,
    };
    let (turns, spans) = if wanted.quick {
        (1, spans(MOMENT))
    } else {
        (wanted.turns, spans(Duration::from_secs(1)))
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        ours.extend(match way {
            Way::Seal => sealing(&frames, algorithm, spans)?,
            Way::Open => opening(&frames, agreed, spans)?,
        });
        theirs.extend(secgw::turn(wanted.secgw, way, wanted.cipher, &frames)?);
    }
    let median_ratio = median(&mut theirs) / median(&mut ours);
    let (sluice_ns, secgw_ns) = (least(&ours), least(&theirs));
    let [sluice_window, secgw_window] = way.windows();
    Ok(Gateway {
        direction: way,
        algorithm: algorithm.name().to_owned(),
        inner_bytes: size.name(),
        flows,
        sluice_ns,
        secgw_ns,
        ratio: secgw_ns / sluice_ns,
        target: TARGET,
        median_ratio,
        sluice_window,
        secgw_window,
    })
}

const fn spans(each: Duration) -> Spans {
    Spans {
        count: SECONDS,
        each,
    }
}

/// Frames of one node's pod to the other's, of each length and each flow in turn, until both are at
/// their beginnings at once: each length comes as often as it does in the size.
fn frames(side: Side, size: Size, flows: u16) -> Vec<Vec<u8>> {
    let (from, to) = (side.source(), side.other().pod(0));
    let lens = size.lens();
    let mut turns = lens.iter().cycle().zip((1..=flows).cycle());
    let mut all = Vec::new();
    while all.is_empty() || all.len() % lens.len() != 0 || all.len() % usize::from(flows) != 0 {
        let next = turns.next();
        all.extend(next.map(|(len, port)| udp(from, to, port, len + ETHERNET)));
    }
    all
}

/// A round of them, since each has to have a number of its own once it is sealed.
fn round(frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let rounds = ROUND / frames.len().max(1);
    iter::repeat_n(frames, rounds).flatten().collect()
}

fn least(all: &[f64]) -> f64 {
    all.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use sluice_dataplane_core::port::BURST_MAX;

    use super::*;

    #[test]
    fn each_length_comes_as_often_as_imix_has_it_and_each_flow_as_the_others() {
        for flows in FLOWS {
            let frames = frames(Side::A, Size::Imix, flows);
            let of = |bytes: usize| {
                let same = frames.iter().filter(|it| it.len() == bytes + ETHERNET);
                same.count() * 12
            };
            let all = frames.len();
            assert_eq!([of(64), of(594), of(1518)], [all * 7, all * 4, all]);
            let mut ports: Vec<_> = frames.iter().map(|it| it[34..36].to_vec()).collect();
            ports.sort();
            let runs: Vec<_> = ports.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
            assert_eq!(runs, vec![all / usize::from(flows); usize::from(flows)]);
        }
        assert_eq!(frames(Side::A, Size::Bytes(64), 1).len(), 1);
    }

    #[test]
    fn a_round_has_whole_turns_of_all_and_whole_bursts() {
        for size in SIZES {
            for flows in FLOWS {
                let once = frames(Side::B, size, flows);
                let whole = round(once.clone());
                assert_eq!((whole.len(), ROUND % BURST_MAX), (ROUND, 0));
                assert!(whole.chunks(once.len()).all(|it| it == once));
            }
        }
    }
}
