//! The walk over DPDK's virtual devices: `net_pcap` with `infinite_rx` as the source,
//! `net_null` as the sink. Both copy or free each frame on this core, which the baseline,
//! forwarding on the same ports, takes out again. Virtual devices are no NIC.

mod opening;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs, iter, process};

use anyhow::{Context, ensure};
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::flow::quota::Quotas;
use sluice_dataplane_core::port::{BURST_MAX, Port};
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::{Worker, WorkerConfig, WorkerHandle};
use sluice_dpdk::devargs::Devargs;
use sluice_dpdk::device::{Device, DeviceConfig};
use sluice_dpdk::eal::{Eal, EalConfig, EalError, Memory};
use sluice_dpdk::frame::DpdkFrame;
use sluice_dpdk::pool::{Pool, PoolConfig};
use sluice_dpdk::port::DpdkPort;

use crate::aead::Bare;
use crate::bed::{self, Agreed, Side, UPLINK, VF0};
use crate::frames::udp;
use crate::memory::{FLOWS, seal};
use crate::report::Measured;
use crate::timing::{Medians, timed};

pub(crate) use self::opening::{ROUND, opening};

/// Frames in the capture file that repeats itself, at least: as many as are in whole rounds of them,
/// so that none comes more often than another.
const FILE_FRAMES: usize = 64;
/// Bytes of the longest frame, and of the longest that a jumbo frame's buffer has room for.
const FRAME_LEN: usize = 1518;
const JUMBO_LEN: usize = 9018;
/// Mebibytes of ordinary pages.
const MIB: u32 = 512;
/// Polls that are timed together.
const POLLS: usize = 32;

/// Pod to pod on one node, and to the wire as ESP, for frames of `len` bytes. ESP that comes
/// in is measured by [`opening`] alone: a file that repeats itself is a replay.
///
/// # Errors
/// DPDK or a device that does not come up; frames that were lost, since then the time of a
/// packet would be that of a drop.
pub fn walk(len: usize, share: Duration) -> anyhow::Result<Vec<Measured>> {
    let (eal, pool) = start()?;
    let local = [udp(Side::A.source(), Side::A.pod(1), 1, len)];
    let remote = [udp(Side::A.source(), Side::B.pod(0), 1, len)];
    let algorithm = Algorithm::Aes128Gcm16;
    let mut noop = Noop::open(&eal, &pool, &local)?;
    let mut plain = Node::open(&eal, &pool, "1", &local, algorithm)?;
    let mut sealing = Node::open(&eal, &pool, "2", &remote, algorithm)?;
    let mut bare = Bare::new(len);
    let mut medians = Medians::<4>::new(share);
    while let Some(mut round) = medians.next_round() {
        round.measure(0, BURST_MAX * POLLS, || noop.forward());
        round.measure(1, BURST_MAX, || seal(&mut bare));
        round.measure(2, BURST_MAX * POLLS, || plain.poll());
        round.measure(3, BURST_MAX * POLLS, || sealing.poll());
    }
    plain.check(false)?;
    sealing.check(true)?;
    let [noop, bare, plain, sealed] = medians.ns();
    Ok(vec![
        Measured::new("pcap-to-null/vf-to-vf", len, plain, noop),
        Measured::new("pcap-to-null/vf-to-uplink-esp", len, sealed, noop).beside(bare),
    ])
}

/// What is measured in a turn: so many times, for so long each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans {
    pub(crate) count: usize,
    pub(crate) each: Duration,
}

impl Spans {
    /// Nanoseconds a packet in each, after one to warm up. `once` says how long it took for so many.
    fn measure(self, packets: usize, mut once: impl FnMut() -> Duration) -> Vec<f64> {
        let mut span = || {
            let (mut spent, mut rounds) = (Duration::ZERO, 0u32);
            while spent < self.each {
                spent += once();
                rounds += 1;
            }
            #[allow(clippy::cast_precision_loss, reason = "few are polled together")]
            let packets = f64::from(rounds) * packets as f64;
            spent.as_secs_f64() * 1e9 / packets
        };
        (0..=self.count).map(|_| span()).skip(1).collect()
    }
}

/// Nanoseconds a packet of pod to wire as ESP in each of some spans, for these frames in turn:
/// the sealing half of [`walk`].
///
/// # Errors
/// As of [`walk`].
pub(crate) fn sealing(
    frames: &[Vec<u8>],
    algorithm: Algorithm,
    spans: Spans,
) -> anyhow::Result<Vec<f64>> {
    let (eal, pool) = start_jumbo()?;
    let mut node = Node::open(&eal, &pool, "3", frames, algorithm)?;
    let all = spans.measure(BURST_MAX * POLLS, || node.poll());
    node.check(true)?;
    Ok(all)
}

/// The EAL and a pool, once a process.
pub(crate) fn start() -> anyhow::Result<(Eal, Pool)> {
    static UP: OnceLock<(Eal, Pool)> = OnceLock::new();
    if let Some(up) = UP.get() {
        return Ok(*up);
    }
    let no_huge = EalConfig::new(Memory::NoHuge { mib: MIB });
    // On hugepages if there are any: without, a NIC's addresses would cost more too.
    let eal = match Eal::init(&EalConfig::new(Memory::Hugepages { mib: MIB })) {
        Err(EalError::Memory { .. }) => Eal::init(&no_huge)?,
        other => other?,
    };
    let pool = pool(&eal, "bench", 8191, FRAME_LEN)?;
    Ok(*UP.get_or_init(|| (eal, pool)))
}

/// The EAL, and a pool of frames longer than a page, once a process. On ordinary pages DPDK lays a
/// buffer that a page has room for within one, at its beginning: those of a burst have the same few
/// places in the cache then, which takes a tenth of our speed, and a quarter of ipsec-secgw's.
fn start_jumbo() -> anyhow::Result<(Eal, Pool)> {
    static MADE: OnceLock<Pool> = OnceLock::new();
    let (eal, _) = start()?;
    if let Some(made) = MADE.get() {
        return Ok((eal, *made));
    }
    let made = pool(&eal, "jumbo", 4095, JUMBO_LEN)?;
    Ok((eal, *MADE.get_or_init(|| made)))
}

fn pool(eal: &Eal, name: &str, frames: u32, len_max: usize) -> anyhow::Result<Pool> {
    let config = PoolConfig {
        name,
        frames,
        frame_len_max: u16::try_from(len_max)?,
        cache: 256,
    };
    Ok(Pool::new(eal, &config)?)
}

fn open(eal: &Eal, pool: &Pool, devargs: &str) -> anyhow::Result<(Device, DpdkPort)> {
    let devargs: Devargs = devargs.parse()?;
    let (device, mut ports) = Device::open(eal, &devargs, &DeviceConfig::default(), pool)?;
    Ok((device, ports.pop().context("a device of one queue")?))
}

/// A source that gives these frames in turn without an end.
fn source(
    eal: &Eal,
    pool: &Pool,
    n: &str,
    frames: &[Vec<u8>],
) -> anyhow::Result<(Device, DpdkPort)> {
    let file = Capture::write(n, frames)?;
    let path = file.0.to_str().context("a path in UTF-8")?;
    // Read whole when it opens; the file can go.
    open(
        eal,
        pool,
        &format!("net_pcap{n},rx_pcap={path},infinite_rx=1"),
    )
}

/// A capture file that goes away with this.
pub(crate) struct Capture(PathBuf);

impl Capture {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Of these frames in turn.
    pub(crate) fn write(n: &str, frames: &[Vec<u8>]) -> anyhow::Result<Self> {
        let name = format!("sluice-bench-{}-{n}.pcap", process::id());
        let path = Path::new(&env::temp_dir()).join(name);
        let mut file = Vec::new();
        // Version 2.4, UTC, frames of at most 64 KiB, Ethernet.
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0xffff, 1] {
            file.extend(word.to_le_bytes());
        }
        let rounds = FILE_FRAMES.div_ceil(frames.len().max(1));
        for frame in iter::repeat_n(frames, rounds).flatten() {
            let len = u32::try_from(frame.len())?;
            for word in [0, 0, len, len] {
                file.extend(word.to_le_bytes());
            }
            file.extend(frame);
        }
        fs::write(&path, file).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Forwarding and nothing more.
struct Noop {
    from: DpdkPort,
    to: DpdkPort,
}

impl Noop {
    fn open(eal: &Eal, pool: &Pool, frames: &[Vec<u8>]) -> anyhow::Result<Self> {
        let (_, from) = source(eal, pool, "0", frames)?;
        let (_, to) = open(eal, pool, "net_null0,no-rx=1")?;
        Ok(Self { from, to })
    }

    fn forward(&mut self) -> Duration {
        let Self { from, to } = self;
        timed(|| {
            for _ in 0..POLLS {
                from.rx(&mut |frame| drop(to.tx(frame)));
                to.flush();
            }
        })
    }
}

/// Polls before frames come: in the first the worker learns who it is and asks for the other
/// node's MAC, in the second it is answered.
const QUIET_POLLS: u8 = 2;

/// A port that is quiet at first, then receives one frame of our own, then the device's.
struct Primed {
    quiet: u8,
    first: Option<DpdkFrame>,
    port: DpdkPort,
}

impl Port for Primed {
    type Frame = DpdkFrame;

    #[inline]
    fn rx(&mut self, each: &mut impl FnMut(DpdkFrame)) {
        if self.quiet == 0 {
            return self.port.rx(each);
        }
        self.quiet -= 1;
        if self.quiet == 0 {
            self.first.take().into_iter().for_each(each);
        }
    }

    #[inline]
    fn tx(&mut self, frame: DpdkFrame) -> Result<(), DpdkFrame> {
        self.port.tx(frame)
    }

    #[inline]
    fn flush(&mut self) {
        self.port.flush();
    }

    fn alloc(&mut self, len: usize) -> Option<DpdkFrame> {
        self.port.alloc(len)
    }
}

/// A worker whose first pod is a source, its other pod and its uplink sinks.
struct Node {
    worker: Worker<Primed>,
    handle: WorkerHandle,
    now: Tick,
}

impl Node {
    fn open(
        eal: &Eal,
        pool: &Pool,
        n: &str,
        frames: &[Vec<u8>],
        algorithm: Algorithm,
    ) -> anyhow::Result<Self> {
        let (_, uplink) = open(eal, pool, &format!("net_null{n}0,no-rx=1"))?;
        let (_, pod) = source(eal, pool, n, frames)?;
        let (_, other) = open(eal, pool, &format!("net_null{n}1,no-rx=1"))?;
        Self::over(pool, [uplink, pod, other], algorithm.into())
    }

    /// Over these ports: its uplink, its first pod and its other.
    fn over(pool: &Pool, ports: [DpdkPort; 3], agreed: Agreed) -> anyhow::Result<Self> {
        let answer = bed::introduction(Side::A);
        let first = [pool.frame(&answer), None, None];
        let ports = ports.into_iter().zip(first);
        let primed = |(port, first)| Primed {
            quiet: QUIET_POLLS,
            first,
            port,
        };
        let ports = ports.map(primed).collect();
        // One pod has all the flows there are.
        let config = WorkerConfig {
            quotas: Quotas::NONE,
            ..WorkerConfig::new(FLOWS, [3, 5])
        };
        let (worker, mut handle) = Worker::new(ports, &config)?;
        bed::instruct(&mut handle, Side::A, agreed);
        Ok(Self {
            worker,
            handle,
            now: Tick(Tick::SECOND),
        })
    }

    fn poll(&mut self) -> Duration {
        self.polls(POLLS)
    }

    fn polls(&mut self, count: usize) -> Duration {
        let spent = timed(|| {
            for _ in 0..count {
                self.now = self.now + 1_000;
                self.worker.poll(self.now);
            }
        });
        while self.handle.verdicts.next().is_some() {}
        spent
    }

    /// Every frame of the pod went where it should.
    fn check(&self, sealed: bool) -> anyhow::Result<()> {
        let counters = &self.handle.counters;
        let pod = counters.port(VF0);
        let (came, went) = (pod.rx.read(), pod.forwarded.read());
        let dropped = DropReason::ALL.iter().filter(|r| pod.dropped(**r) > 0);
        let reasons: Vec<_> = dropped.map(|reason| reason.name()).collect();
        ensure!(
            came > 0 && came == went,
            "{went} of {came} frames went on, the others were dropped: {reasons:?}"
        );
        let out = if sealed { UPLINK } else { PortIndex(2) };
        ensure!(counters.port(out).tx.read() >= went, "by another port");
        let expected = if sealed { went } else { 0 };
        ensure!(counters.sealed.read() == expected, "not all were sealed");
        Ok(())
    }
}
