//! One turn of ipsec-secgw's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, bail, ensure};
use sluice_dataplane_core::addr::Addr;

use super::{Cipher, Way};
use crate::bed::Side;
use crate::devices::Capture;

/// Seconds that are measured in a turn.
pub(super) const SECONDS: usize = 2;
/// Seconds that it runs in a turn. It says how many packets it has sent once a second; from its
/// second word on it is warm.
const RUNS_FOR: &str = "4.5";

/// A folder that goes away with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Nanoseconds a packet in the seconds of one turn of ipsec-secgw's.
pub(super) fn turn(
    secgw: &Path,
    way: Way,
    cipher: Cipher,
    frames: &[Vec<u8>],
) -> anyhow::Result<Vec<f64>> {
    let name = format!("sluice-bench-secgw-{}", process::id());
    let folder = Folder(std::env::temp_dir().join(&name));
    fs::create_dir_all(&folder.0).context("a folder for ipsec-secgw")?;
    let config = folder.0.join("gateway.cfg");
    fs::write(&config, rules(cipher)).context("ipsec-secgw's rules")?;
    let capture = Capture::write("secgw", frames)?;
    let ports = ports(way, capture.path());
    // SIGINT is how it ends in order.
    let ran = Command::new("timeout")
        .args(["-s", "INT", RUNS_FOR])
        .arg(secgw)
        .args(["-l", "0", "--no-huge", "-m", "1024", "--no-pci"])
        .args(["--file-prefix", &name, "--vdev", "crypto_aesni_gcm0"])
        .args(ports.iter().flat_map(|it| ["--vdev", it]))
        // Plaintext by port 0, ciphertext by port 1, librte_ipsec, no offloads.
        .args(["--", "-P", "-p", "0x3", "-u", "0x2", "-l"])
        .args(["--config", "(0,0,0),(1,0,0)", "-t", "1"])
        // No replay window: at the first packet that comes again, that of 22.11 crashes with one.
        .args(["-w", "0"])
        .args(["--rxoffload", "0", "--txoffload", "0"])
        // For frames of any size: it is a quarter faster for it at the shortest too, as buffers longer
        // than a page don't all begin where one does.
        .args(["-j", "10240", "--mtu", "9000"])
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
    let dropped = counted(&said, DROPPED).last();
    ensure!(
        dropped.is_some_and(|it| it == 0.0),
        "ipsec-secgw dropped packets: {dropped:?}"
    );
    let measured = warm.iter().take(SECONDS);
    Ok(measured.map(|rate| 1e9 / rate).collect())
}

/// Its port of plaintext and its port of ciphertext: frames come by one and go by the other.
fn ports(way: Way, capture: &Path) -> [String; 2] {
    let source = |port| {
        let file = capture.display();
        format!("net_pcap{port},rx_pcap={file},infinite_rx=1,tx_pcap=/dev/null")
    };
    let sink = |port| format!("net_null{port},no-rx=1");
    match way {
        Way::Seal => [source(0), sink(1)],
        Way::Open => [sink(0), source(1)],
    }
}

/// It is node A, with an SA each way in tunnel mode, as ours.
fn rules(cipher: Cipher) -> String {
    let (here, there) = (Side::A, Side::B);
    let ip = |addr: Addr| {
        let [a, b, c, d] = addr.to_v4();
        format!("{a}.{b}.{c}.{d}")
    };
    let (own, other) = (ip(here.pod(0)), ip(there.pod(0)));
    let (from, to) = (ip(here.tunnel()), ip(there.tunnel()));
    let (receives, sends) = (here.spi().0, there.spi().0);
    let algorithm = cipher.theirs();
    let aead = |side: Side| {
        let key = side.keymat(cipher.ours());
        let key: Vec<_> = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = key.join(":");
        format!("aead_algo {algorithm} aead_key {key} mode ipv4-tunnel")
    };
    let (opens, seals) = (aead(here), aead(there));
    let ports = "sport 0:65535 dport 0:65535";
    format!(
        "sp ipv4 out esp protect {sends} pri 1 dst {other}/32 {ports}\n\
         sp ipv4 in esp protect {receives} pri 1 dst {own}/32 {ports}\n\
         sa out {sends} {seals} src {from} dst {to}\n\
         sa in {receives} {opens} src {to} dst {from}\n\
         rt ipv4 dst {to}/32 port 1\n\
         rt ipv4 dst {own}/32 port 0\n\
         neigh port 0 02:00:00:00:00:01\n\
         neigh port 1 02:00:00:00:00:02\n"
    )
}

/// What its words on packets begin with.
const SENT: &str = "Total packets sent:";
const DROPPED: &str = "Total packets dropped:";

/// What it said of one kind, each time.
fn counted(said: &str, kind: &str) -> impl Iterator<Item = f64> {
    said.lines().filter_map(move |line| {
        let count = line.strip_prefix(kind)?;
        count.trim().parse::<u32>().ok().map(f64::from)
    })
}

/// Packets sent in each second that it told of.
fn per_second(said: &str) -> Vec<f64> {
    let sent: Vec<f64> = counted(said, SENT).collect();
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
        assert_eq!(counted(said, DROPPED).collect::<Vec<_>>(), [7.0]);
    }

    #[test]
    fn a_key_and_its_salt_are_as_long_as_ipsec_secgw_wants_them() {
        for (cipher, bytes) in [(Cipher::Aes128, 20), (Cipher::Aes256, 36)] {
            let rules = rules(cipher);
            let keys = rules.split("aead_key ").skip(1);
            let keys = keys.filter_map(|it| it.split(' ').next());
            let lens: Vec<_> = keys.map(|it| it.split(':').count()).collect();
            assert_eq!(lens, [bytes; 2]);
            assert!(rules.contains(cipher.theirs()));
        }
    }

    #[test]
    fn frames_come_by_the_port_of_what_they_are() {
        let file = Path::new("/tmp/it.pcap");
        let [plain, cipher] = ports(Way::Seal, file);
        assert!(plain.starts_with("net_pcap0,rx_pcap=/tmp/it.pcap,infinite_rx=1"));
        assert_eq!(cipher, "net_null1,no-rx=1");
        let [plain, cipher] = ports(Way::Open, file);
        assert_eq!(plain, "net_null0,no-rx=1");
        assert!(cipher.starts_with("net_pcap1,rx_pcap=/tmp/it.pcap,infinite_rx=1"));
    }
}
