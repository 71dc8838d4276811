//! What ESP costs over the cipher: an SA seals and opens packets, beside the fastest bare AEAD on
//! the same bytes in the same rounds, `openssl speed`, ten thousand SAs in place of one, and rekeys
//! between the packets.

mod backends;
mod bare;
mod bursts;
mod channel;
pub mod openssl;
mod rekeys;
pub mod report;
mod sas;

use std::time::Duration;

use anyhow::ensure;
use sluice_crypto::key::Algorithm;

use crate::esp::bare::Way;
use crate::esp::bursts::PACKETS;
use crate::esp::rekeys::Nodes;
use crate::esp::report::Case;
use crate::esp::sas::{Receivers, Senders};
use crate::machine;
use crate::timing::Pair;

/// SAs of the case with many: those of a large cluster's node.
const MANY: u32 = 10_000;
/// How fast an SA is to be, beside the fastest bare AEAD: the part of its speed, at [`TARGET_BYTES`].
const BARE_TARGET: f64 = 0.85;
const TARGET_BYTES: usize = 1420;
/// What a packet may cost among many SAs, beside one: by bytes of the inner packet.
const MANY_TARGETS: [(usize, f64); 2] = [(60, 2.0), (1420, 1.3)];

/// What can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Group {
    /// Sealing and opening beside the bare cipher and openssl
    Packets,
    /// Ten thousand SAs beside one
    ManySas,
    /// Rekeys under load
    Rekeys,
}

/// Inner packets of a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// All of so many bytes.
    Bytes(usize),
    /// 64, 594 and 1518 bytes, 7 to 4 to 1.
    Imix,
}

impl Size {
    /// Bytes of the packets, in turn.
    pub(crate) const fn lens(self) -> &'static [usize] {
        match self {
            Self::Bytes(64) => &[64],
            Self::Bytes(256) => &[256],
            Self::Bytes(512) => &[512],
            Self::Bytes(8192) => &[8192],
            Self::Bytes(60) => &[60],
            Self::Bytes(_) => &[TARGET_BYTES],
            Self::Imix => &[64, 594, 64, 64, 594, 64, 594, 64, 64, 594, 64, 1518],
        }
    }

    /// Bytes of one packet, on average.
    #[allow(clippy::cast_precision_loss, reason = "small")]
    fn mean(self) -> f64 {
        let lens = self.lens();
        lens.iter().sum::<usize>() as f64 / lens.len() as f64
    }

    /// `1420` or `imix`.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Bytes(bytes) => bytes.to_string(),
            Self::Imix => "imix".to_owned(),
        }
    }
}

/// Inner packets of all measurements of ESP; the gateway has some of them in jumbo frames.
pub(crate) const SIZES: [Size; 6] = [
    Size::Bytes(64),
    Size::Bytes(256),
    Size::Bytes(512),
    Size::Bytes(1420),
    Size::Bytes(8192),
    Size::Imix,
];

/// All there is to measure, or one group of it. `progress` gets a line now and then.
///
/// # Errors
/// A packet that an SA doesn't take, where it must, or a rekey that fails.
pub fn run(
    quick: bool,
    only: Option<Group>,
    share: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Vec<Case>> {
    let sizes = if quick { &SIZES[3..4] } else { &SIZES[..] };
    let mut all = Vec::new();
    let wanted = |group| only.is_none_or(|it| it == group);
    let algorithms = Algorithm::ALL.into_iter();
    for algorithm in algorithms.filter(|_| wanted(Group::Packets)) {
        for &size in sizes {
            progress(&format!("{algorithm}, {} bytes", size.name()));
            all.push(seal(algorithm, size, share)?);
            all.push(open(algorithm, size, share)?);
            if let Size::Bytes(bytes) = size {
                all.extend(bare::measure(Way::Seal, algorithm, size, share)?);
                all.extend(bare::measure(Way::Open, algorithm, size, share)?);
                all.push(openssl::measure(algorithm, bytes));
            }
        }
    }
    let many_targets = MANY_TARGETS.into_iter();
    for (bytes, target) in many_targets.filter(|_| wanted(Group::ManySas)) {
        progress(&format!("{MANY} SAs, {bytes} bytes"));
        all.extend(many(bytes, target, if quick { 100 } else { MANY }, share)?);
    }
    if wanted(Group::Rekeys) {
        progress("rekeys");
        all.push(rekeys(share)?);
        all.push(whole_rekeys(share)?);
        all.push(loaded_rekeys(share)?);
    }
    let machine = machine::describe();
    for case in &mut all {
        case.machine.clone_from(&machine);
    }
    Ok(all)
}

fn seal(algorithm: Algorithm, size: Size, share: Duration) -> anyhow::Result<Case> {
    let mut ours = Senders::new(algorithm, size.lens(), 1)?;
    let case = beside_fastest(Way::Seal, algorithm, size, share, || ours.pass())?;
    let refused = ours.refused;
    ensure!(refused == 0, "{refused} packets were not sealed");
    Ok(case)
}

fn open(algorithm: Algorithm, size: Size, share: Duration) -> anyhow::Result<Case> {
    let mut ours = Receivers::new(algorithm, size.lens(), 1)?;
    let case = beside_fastest(Way::Open, algorithm, size, share, || ours.pass())?;
    let refused = ours.refused;
    ensure!(refused == 0, "{refused} packets were not opened");
    Ok(case)
}

/// Our passes in turn with those of whose cipher is the fastest at this.
fn beside_fastest(
    way: Way,
    algorithm: Algorithm,
    size: Size,
    share: Duration,
    ours: impl FnMut() -> Duration,
) -> anyhow::Result<Case> {
    let (who, mut bare) = bare::fastest(way, algorithm, size, share)?;
    let pair = Pair::measure(share, (PACKETS, || bare.pass(way)), (PACKETS, ours));
    let refused = bare.refused;
    ensure!(refused == 0, "{refused} packets were refused by bare {who}");
    let case = Case::new(way.name(), "sluice", algorithm, &size.name(), 1);
    let case = case.taking(pair.large, size.mean());
    // The part of the bare AEAD's speed: its time over ours.
    let target = (size == Size::Bytes(TARGET_BYTES)).then_some(BARE_TARGET);
    Ok(case.beside(&format!("bare {who}"), pair.small, 1.0 / pair.ratio, target))
}

/// Packets sealed and opened with a rekey in the midst of each pass, beside none.
fn rekeys(share: Duration) -> anyhow::Result<Case> {
    let (algorithm, bytes) = (Algorithm::Aes256Gcm16, TARGET_BYTES);
    let mut calm = Nodes::new(algorithm, &[bytes])?;
    let mut busy = Nodes::new(algorithm, &[bytes])?;
    let pair = Pair::measure(
        share,
        (PACKETS, || calm.pass(false)),
        (PACKETS, || busy.pass(true)),
    );
    let refused = calm.refused + busy.refused;
    ensure!(refused == 0, "{refused} packets were lost in rekeys");
    ensure!(busy.failed == 0, "{} rekeys failed", busy.failed);
    let size = Size::Bytes(bytes);
    let case = Case::new("rekey", "sluice", algorithm, &size.name(), 2);
    let case = case.taking(pair.large, size.mean());
    let case = case.beside("no rekey", pair.small, pair.ratio, None);
    let note = format!("one every {PACKETS} packets sealed and opened; TLS is not in it");
    Ok(case.rekeying(pair.large, PACKETS).noting(note))
}

/// Rekeys with all that two nodes do for them, TLS too, and no packets.
fn whole_rekeys(share: Duration) -> anyhow::Result<Case> {
    let each = channel::rekey(share)?;
    let case = Case::new("rekey/whole", "sluice", Algorithm::Aes256Gcm16, "none", 2);
    let note = format!(
        "TLS and both ends: {:.1} ms of a core",
        each.as_secs_f64() * 1e3
    );
    Ok(case.rekeys(1.0 / each.as_secs_f64()).noting(note))
}

/// The same while the core seals and opens packets, beside what a packet takes by itself.
fn loaded_rekeys(share: Duration) -> anyhow::Result<Case> {
    let (algorithm, bytes) = (Algorithm::Aes256Gcm16, TARGET_BYTES);
    let mut nodes = Nodes::new(algorithm, &[bytes])?;
    let mut by_packets = Duration::ZERO;
    let loaded = channel::rekey_under(share, || by_packets += nodes.pass(false))?;
    ensure!(nodes.refused == 0, "{} packets were lost", nodes.refused);
    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    let ns =
        |took: Duration| took.as_secs_f64() * 1e9 / (f64::from(loaded.passes) * PACKETS as f64);
    let (with, without) = (ns(loaded.took), ns(by_packets));
    let size = Size::Bytes(bytes);
    let case = Case::new("rekey/loaded", "sluice", algorithm, &size.name(), 2);
    let case = case.taking(with, size.mean());
    let case = case.beside("no rekey", without, with / without, None);
    let case = case.rekeys(f64::from(loaded.rekeys) / loaded.took.as_secs_f64());
    Ok(case.noting("TLS and both ends, on the core that seals and opens".to_owned()))
}

/// Packets of many SAs in turn, beside one's.
fn many(bytes: usize, target: f64, count: u32, share: Duration) -> anyhow::Result<[Case; 2]> {
    let algorithm = Algorithm::Aes128Gcm16;
    let lens = Size::Bytes(bytes).lens();
    let case = |what, pair: Pair| {
        let case = Case::new(what, "sluice", algorithm, &bytes.to_string(), count);
        let case = case.taking(pair.large, Size::Bytes(bytes).mean());
        case.beside("one SA", pair.small, pair.ratio, Some(target))
    };

    let mut one = Senders::new(algorithm, lens, 1)?;
    let mut all = Senders::new(algorithm, lens, count)?;
    let sealed = Pair::measure(share, (PACKETS, || one.pass()), (PACKETS, || all.pass()));
    ensure!(one.refused + all.refused == 0, "packets were not sealed");

    let mut one = Receivers::new(algorithm, lens, 1)?;
    let mut all = Receivers::new(algorithm, lens, count)?;
    let opened = Pair::measure(share, (PACKETS, || one.pass()), (PACKETS, || all.pass()));
    ensure!(one.refused + all.refused == 0, "packets were not opened");
    Ok([case("seal/many-sas", sealed), case("open/many-sas", opened)])
}
