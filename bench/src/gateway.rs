//! DPDK's own IPsec gateway, ipsec-secgw, beside ours: the same frames out of a `net_pcap` that
//! repeats itself, sealed on one core and dropped by a `net_null`, in turn.
//!
//! It encrypts by libipsec-mb (`crypto_aesni_gcm`) and takes one of its SAs by a policy for the
//! destination; ours tracks the flow and judges it by identity besides.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use crate::bed::Side;
use crate::devices::{Capture, FILE_FRAMES, FRAME_LEN, sealing};
use crate::frames::udp;
use crate::timing::median;

/// Bytes of the inner packets; the last ones are in jumbo frames.
const SIZES: [usize; 5] = [64, 256, 512, 1420, 8192];
/// Flows of them: one after the other, or all of one.
const FLOWS: [u16; 2] = [1, 64];
const _: () = assert!(FLOWS[1] as usize <= FILE_FRAMES);
/// Seconds that are measured in a turn.
const SECONDS: usize = 2;
/// Seconds that ipsec-secgw runs in a turn. It says how many packets it has sent once a second;
/// from its second word on it is warm.
const RUNS_FOR: &str = "4.5";
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// What one size takes.
#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    /// Bytes of the inner packet.
    pub inner_bytes: usize,
    /// Flows whose packets come in turn.
    pub flows: u16,
    /// Nanoseconds a packet that we take, in the quietest second.
    pub sluice_ns: f64,
    /// Nanoseconds a packet that ipsec-secgw takes, in its quietest.
    pub secgw_ns: f64,
    /// Our part of its speed: more than 1 is ahead.
    pub ratio: f64,
    /// The same of the medians of all seconds, with whatever else the machine did in them.
    pub median_ratio: f64,
}

/// Measures each size, so many times in turn.
///
/// # Errors
/// DPDK or its devices, or an ipsec-secgw that can't be run or sends nothing: with its last
/// words.
pub fn run(
    secgw: &Path,
    turns: u32,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Vec<Gateway>> {
    ensure!(
        secgw.is_file(),
        "there is no {}; bench/ipsec-secgw.sh builds it and says where",
        secgw.display()
    );
    let mut all = Vec::new();
    let cases = SIZES.iter().flat_map(|size| FLOWS.map(|it| (*size, it)));
    for (inner_bytes, flows) in cases {
        progress(&format!("{inner_bytes} bytes, flows: {flows}"));
        let (from, to) = (Side::A.source(), Side::B.pod(0));
        let frame = |port| udp(from, to, port, inner_bytes + ETHERNET);
        let frames: Vec<_> = (1..=flows).map(frame).collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            ours.extend(sealing(&frames, SECONDS)?);
            theirs.extend(turn(secgw, &frames)?);
        }
        let median_ratio = median(&mut theirs) / median(&mut ours);
        let (sluice_ns, secgw_ns) = (least(&ours), least(&theirs));
        all.push(Gateway {
            inner_bytes,
            flows,
            sluice_ns,
            secgw_ns,
            ratio: secgw_ns / sluice_ns,
            median_ratio,
        });
    }
    Ok(all)
}

fn least(all: &[f64]) -> f64 {
    all.iter().copied().fold(f64::INFINITY, f64::min)
}

/// A folder that goes away with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Nanoseconds a packet in the seconds of one turn of ipsec-secgw's.
fn turn(secgw: &Path, frames: &[Vec<u8>]) -> anyhow::Result<Vec<f64>> {
    let name = format!("sluice-bench-secgw-{}", process::id());
    let folder = Folder(std::env::temp_dir().join(&name));
    fs::create_dir_all(&folder.0).context("a folder for ipsec-secgw")?;
    let config = folder.0.join("gateway.cfg");
    fs::write(&config, rules()).context("ipsec-secgw's rules")?;
    let capture = Capture::write("secgw", frames)?;
    let source = format!(
        "net_pcap0,rx_pcap={},infinite_rx=1,tx_pcap=/dev/null",
        capture.path().display()
    );
    let is_jumbo = frames.iter().any(|it| it.len() > FRAME_LEN);
    // SIGINT is how it ends in order.
    let ran = Command::new("timeout")
        .args(["-s", "INT", RUNS_FOR])
        .arg(secgw)
        .args(["-l", "0", "--no-huge", "-m", "1024", "--no-pci"])
        .args(["--file-prefix", &name, "--vdev", &source])
        .args(["--vdev", "net_null1,no-rx=1", "--vdev", "crypto_aesni_gcm0"])
        // Plaintext by port 0, ciphertext by port 1, librte_ipsec, no offloads.
        .args(["--", "-P", "-p", "0x3", "-u", "0x2", "-l"])
        .args(["--config", "(0,0,0),(1,0,0)", "-t", "1"])
        .args(["--rxoffload", "0", "--txoffload", "0"])
        .args(if is_jumbo {
            &["-j", "10240", "--mtu", "9000"][..]
        } else {
            &[]
        })
        .arg("-f")
        .arg(&config)
        .output()
        .context("timeout (coreutils) can't be run")?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let rates = per_second(&said);
    let Some(warm @ [_, ..]) = rates.get(1..) else {
        let complaint = String::from_utf8_lossy(&ran.stderr);
        let last = complaint.lines().rev().take(5).collect::<Vec<_>>();
        bail!("ipsec-secgw sent nothing; its last words: {last:?}");
    };
    let measured = warm.iter().take(SECONDS);
    Ok(measured.map(|rate| 1e9 / rate).collect())
}

/// One SA for what the frames are: AES-128-GCM, tunnel mode, as ours.
fn rules() -> String {
    let (from, to) = (Side::A.pod(0).to_v4(), Side::B.pod(0).to_v4());
    let dotted = |[a, b, c, d]: [u8; 4]| format!("{a}.{b}.{c}.{d}");
    let (from, to) = (dotted(from), dotted(to));
    let key = "2b:7e:15:16:28:ae:d2:a6:ab:f7:15:88:09:cf:4f:3d:de:ad:be:ef";
    let ports = "sport 0:65535 dport 0:65535";
    let sa = format!("aead_algo aes-128-gcm aead_key {key} mode ipv4-tunnel");
    format!(
        "sp ipv4 out esp protect 5 pri 1 dst {to}/32 {ports}\n\
         sp ipv4 in esp protect 105 pri 1 dst {from}/32 {ports}\n\
         sa out 5 {sa} src 172.16.1.5 dst 172.16.2.5\n\
         sa in 105 {sa} src 172.16.2.5 dst 172.16.1.5\n\
         rt ipv4 dst 172.16.2.5/32 port 1\n\
         rt ipv4 dst {from}/32 port 0\n\
         neigh port 1 02:00:00:00:00:02\n"
    )
}

/// Packets sent in each second that it told of.
fn per_second(said: &str) -> Vec<f64> {
    let sent = said.lines().filter_map(|line| {
        let sent = line.strip_prefix("Total packets sent:")?;
        sent.trim().parse::<u32>().ok().map(f64::from)
    });
    let sent: Vec<f64> = sent.collect();
    let pairs = sent.windows(2).filter_map(|it| match it {
        [before, after] => Some(after - before),
        _ => None,
    });
    pairs.filter(|it| *it > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_in_a_second_is_the_difference_of_two_words() {
        let said = "Total packets sent:             100\nTotal packets dropped: 7\n\
                    Total packets sent:             300\nTotal packets sent:   300\n";
        assert_eq!(per_second(said), [200.0]);
        assert_eq!(per_second("nothing"), [0.0; 0]);
    }
}
