//! What every case starts with and ends by.

use std::process::Command;
use std::time::{Duration, Instant};

use sluice_dataplane_core::port::{Frame, HEADROOM_MIN, Port, TAILROOM_MIN};
use sluice_dpdk::device::{Device, DeviceConfig, OpenError};
use sluice_dpdk::eal::{Eal, EalConfig, LogLevel, Memory};
use sluice_dpdk::frame::DpdkFrame;
use sluice_dpdk::pool::{Pool, PoolConfig};
use sluice_dpdk::port::DpdkPort;

pub(crate) const HUGE: &str = "huge";
pub(crate) const NO_HUGE: &str = "nohuge";
pub(crate) const MEMORIES: [&str; 2] = [NO_HUGE, HUGE];

const MIB: u32 = 128;
/// Frames in the pool of a case.
pub(crate) const FRAMES: u32 = 8191;
/// The longest frame of the pool: 1500 bytes of IP, Ethernet, a tag.
pub(crate) const FRAME_LEN_MAX: u16 = 1518;
/// How long something that has to happen may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace, and in it an EAL and a pool once they are asked for.
pub(crate) struct Bench {
    memory: Memory,
    up: Option<(Eal, Pool)>,
    /// Frames that a driver is known to lose when it closes, at most.
    pub(crate) lost_max: u32,
}

impl Bench {
    pub(crate) fn new(memory: &str) -> Self {
        // SAFETY: no precondition; this process has one thread yet.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(left, 0, "a network namespace of our own: root");
        run("ip link set lo up");
        let memory = match memory {
            HUGE => Memory::Hugepages { mib: MIB },
            NO_HUGE => Memory::NoHuge { mib: MIB },
            other => panic!("no memory is called {other}"),
        };
        Self {
            memory,
            up: None,
            lost_max: 0,
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// Starts the EAL if it isn't up.
    pub(crate) fn start(&mut self) -> (Eal, Pool) {
        let memory = self.memory;
        *self.up.get_or_insert_with(|| {
            let mut config = EalConfig::new(memory);
            config.log_level = LogLevel::Warning;
            let eal = Eal::init(&config).expect("the EAL starts");
            let pool = PoolConfig {
                name: "frames",
                frames: FRAMES,
                frame_len_max: FRAME_LEN_MAX,
                cache: 256,
            };
            (eal, Pool::new(&eal, &pool).expect("a pool"))
        })
    }

    pub(crate) fn try_open(
        &mut self,
        devargs: &str,
        config: &DeviceConfig,
    ) -> Result<(Device, DpdkPort), OpenError> {
        let (eal, pool) = self.start();
        let devargs = devargs.parse().expect("devargs");
        let (device, mut ports) = Device::open(&eal, &devargs, config, &pool)?;
        Ok((device, ports.remove(0)))
    }

    pub(crate) fn open(&mut self, devargs: &str) -> (Device, DpdkPort) {
        self.try_open(devargs, &DeviceConfig::default())
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn frame(&mut self, bytes: &[u8]) -> DpdkFrame {
        self.start().1.frame(bytes).expect("a frame")
    }

    /// Every frame is in its pool again and no port is open.
    pub(crate) fn finish(&mut self) {
        if let Some((eal, pool)) = self.up {
            assert_eq!(eal.ports_open(), 0, "ports that are still open");
            let lost = FRAMES - pool.available();
            assert!(lost <= self.lost_max, "{lost} frames did not come back");
        }
    }
}

/// Sends frames by a port, all of which it has to take.
pub(crate) fn send(bench: &mut Bench, port: &mut DpdkPort, frames: &[Vec<u8>]) {
    for bytes in frames {
        let frame = bench.frame(bytes);
        assert!(port.tx(frame).is_ok(), "the port takes the frame");
    }
    until("the driver takes them", || {
        port.flush();
        port.backlog() == 0
    });
}

/// The frames that a port receives in one poll; each has the room that the walk counts on.
pub(crate) fn poll(port: &mut DpdkPort) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    port.rx(&mut |mut frame| {
        let bytes = frame.bytes().to_vec();
        // A tag that the driver put back stands in the headroom.
        let tag = if bytes.get(12..14) == Some(&[0x81, 0]) {
            4
        } else {
            0
        };
        got.push(bytes);
        assert!(frame.grow_front(HEADROOM_MIN - tag), "room for headers");
        assert!(frame.grow_back(TAILROOM_MIN), "room for a trailer");
    });
    got
}

/// The next `n` frames that a port receives and `wanted` likes.
pub(crate) fn receive(
    port: &mut DpdkPort,
    n: usize,
    wanted: impl Fn(&[u8]) -> bool,
) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    until("the frames arrive", || {
        got.extend(poll(port).into_iter().filter(|frame| wanted(frame)));
        got.len() >= n
    });
    got
}

/// Tries until it holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "in {PATIENCE:?} not: {what}");
        std::thread::yield_now();
    }
}

/// Runs a command of blank-separated words, which has to succeed. What it said.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let run = Command::new(program).args(words).output().expect(program);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{line}: {said}");
    String::from_utf8(run.stdout).unwrap()
}

/// A frame of `len` bytes whose content says which it is. Its Ethertype is one for local
/// experiments (IEEE 802a), so no kernel answers.
pub(crate) fn numbered(n: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xee, 2, 0, 0, 0, 0, n, 0x88, 0xb5];
    frame.extend((frame.len()..len).map(|at| (at as u8).wrapping_mul(7) ^ n));
    frame
}

/// Whether a frame is one of [`numbered`].
pub(crate) fn is_numbered(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xb5])
}
