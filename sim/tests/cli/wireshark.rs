//! tshark, from Debian, sees the inside of wire.pcap with the key file that a run writes.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{scratch, sluice_sim, text};

/// Addresses and ports of the inside that tshark sees with or without the keys.
fn tshark(out: &Path, decode: bool) -> String {
    let wire = out.join("wire.pcap");
    let decode = format!("esp.enable_encryption_decode:{decode}");
    let fields = ["ip.src", "ipv6.src", "tcp.dstport", "udp.dstport"];
    let mut args = vec![
        "-r",
        text(&wire),
        "-o",
        &decode,
        "-Y",
        "esp",
        "-T",
        "fields",
    ];
    fields.iter().for_each(|field| args.extend(["-e", field]));
    let run = Command::new("tshark")
        .args(args)
        .env("WIRESHARK_CONFIG_DIR", out)
        .output()
        .expect("tshark is needed: apt-get install tshark");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn tshark_sees_the_inside_only_with_the_key_file() {
    let out = scratch("tshark");
    let args = ["run", "sim/scenarios/quickstart.yaml", "--out", text(&out)];
    let json = sluice_sim(&[&args[..], &["--output", "json"]].concat()).json();
    let inside = tshark(&out, true);
    let lines: Vec<_> = inside.lines().collect();
    assert_eq!(json["wire"]["esp"], lines.len());
    // TCP of web to cart in both families and UDP of db to dns; policies.yaml allows them.
    for expected in [
        "10.244.1.10\t\t8080\t",
        "fd00:10:244:1::10\t8080\t",
        "fd00:10:244:2::12\t\t53",
    ] {
        assert!(
            lines.iter().any(|line| line.ends_with(expected)),
            "no {expected:?} in {inside}"
        );
    }
    let outside = tshark(&out, false);
    assert_eq!(outside.lines().count(), lines.len());
    assert!(!outside.contains("10.244."), "{outside}");
    fs::remove_file(out.join("esp_sa")).unwrap();
    assert!(!tshark(&out, true).contains("10.244."));
}
