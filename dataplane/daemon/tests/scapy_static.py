#!/usr/bin/env python3
"""ESP between sluice-dataplane's static mode and scapy, both ways, on DPDK ports.

    python3 dataplane/daemon/tests/scapy_static.py --bin target/debug/sluice-dataplane

For each algorithm, outer family, ESN on and off, plain and in UDP 4500, tunnel and transport
mode: scapy seals what goes in by the uplink's pcap file, and opens what comes out by it. No one
here wrote scapy's ESP. One line a case; exit 1 if any fails.
"""

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from scapy.all import ARP, Ether, PcapReader, Raw, wrpcap
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation

MANIFESTS = Path(__file__).resolve().parents[3] / "sim/manifests/quickstart"
KEY_LEN = {"aes128gcm16": 16, "aes256gcm16": 32, "chacha20poly1305": 32}
SCAPY = {name: "CHACHA20-POLY1305" if "chacha" in name else "AES-GCM" for name in KEY_LEN}
IN_SPI, OUT_SPI = 0x1001, 0x2001
UPLINK, PEER, WEB, ROUTER = (
    "02:00:00:00:00:01", "02:00:00:00:00:ee", "02:00:00:00:00:10", "02:53:4c:55:49:43",
)
OUTER = {"ipv4": ("198.51.100.1", "198.51.100.2"), "ipv6": ("fd5c::1", "fd5c::2")}
POD = {  # shop/web on this node, shop/cart on the peer's
    "ipv4": ("10.244.1.10", "10.244.2.11"),
    "ipv6": ("fd00:10:244:1::10", "fd00:10:244:2::11"),
}
MARKER = b"sluice-marker-in-clear"
# For transport mode: node-b is spoken to itself, and the pod may say and hear 8080 only.
HOST = """
apiVersion: v1
kind: Node
metadata: {{name: node-a}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-b}}
status: {{addresses: [{{type: InternalIP, address: "{host}"}}]}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop}}
spec: {{nodeName: node-a}}
status: {{podIPs: [{{ip: 10.244.1.10}}, {{ip: "fd00:10:244:1::10"}}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web, namespace: shop}}
spec:
  podSelector: {{}}
  policyTypes: [Ingress, Egress]
  ingress: [{{ports: [{{protocol: TCP, port: 8080}}]}}]
  egress: [{{ports: [{{protocol: TCP, port: 8080}}]}}]
"""


class Failed(Exception):
    """A case did not come out as it must."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def ip(family, source, destination):
    if family == "ipv4":
        return IP(src=source, dst=destination)
    return IPv6(src=source, dst=destination)


def association(case, spi, keymat, source, destination):
    algorithm, outer, esn, udp, mode = case
    return SecurityAssociation(
        ESP, spi=spi, crypt_algo=SCAPY[algorithm], crypt_key=keymat, esn_en=esn,
        tunnel_header=ip(outer, source, destination) if mode == "tunnel" else None,
        nat_t_header=UDP(sport=4500, dport=4500) if udp else None,
    )


def ends(case):
    """The addresses of the pod and of whom it speaks with, by family."""
    _, outer, _, _, mode = case
    if mode == "tunnel":
        return POD
    return {outer: (POD[outer][0], OUTER[outer][1])}


def from_web(case):
    """What the pod sends: allowed SYNs in both families, one with data (RFC 7413) as nobody
    answers here, and what policy denies."""
    allowed, denied = [], []
    for family, (web, other) in ends(case).items():
        head = ip(family, web, other)
        allowed.append(head / TCP(sport=40000, dport=8080, flags="S"))
        allowed.append(head / TCP(sport=40001, dport=8080, flags="S") / Raw(MARKER))
        denied.append(head / TCP(sport=40000, dport=22, flags="S"))
    return [type(it)(bytes(it)) for it in allowed], denied


def to_web(case):
    """What the peer's pod, or the peer, sends, to the port that everyone may use."""
    packets = []
    for family, (web, other) in ends(case).items():
        head = ip(family, other, web)
        packets.append(head / TCP(sport=50000, dport=8080, flags="S"))
        packets.append(head / TCP(sport=50001, dport=8080, flags="S") / Raw(MARKER))
    return [type(it)(bytes(it)) for it in packets]


def neighbour(outer):
    """The peer's answer to the dataplane's question, as nobody else is on that wire."""
    ours, theirs = OUTER[outer]
    ether = Ether(src=PEER, dst=UPLINK)
    if outer == "ipv4":
        return ether / ARP(op=2, hwsrc=PEER, psrc=theirs, hwdst=UPLINK, pdst=ours)
    answer = ICMPv6ND_NA(tgt=theirs, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=PEER)
    return ether / IPv6(src=theirs, dst=ours, hlim=255) / answer


def write_config(folder, case, keys):
    algorithm, outer, esn, udp, mode = case
    manifests = MANIFESTS
    if mode == "transport":
        manifests = folder / "manifests"
        manifests.mkdir()
        (manifests / "host.yaml").write_text(HOST.format(host=OUTER[outer][1]))
    for name, keymat in keys.items():
        path = folder / f"{name}.hex"
        path.touch(mode=0o600)
        path.write_text(keymat.hex())
    sas = [
        {"direction": way, "peer": "node-b", "spi": spi, "algorithm": algorithm, "esn": esn,
         "key_file": f"{way}.hex", "mode": mode, "udp_encap": udp and way == "outbound"}
        | ({"pod": POD[outer][0]} if mode == "transport" else {})
        for way, spi in (("inbound", IN_SPI), ("outbound", OUT_SPI))
    ]
    port = lambda name, kind, device, mac, **more: dict(
        name=name, kind=kind, device=device, mac=mac, **more)
    files = lambda number, name: (
        f"net_pcap{number},rx_pcap={folder}/{name}-in.pcap,tx_pcap={folder}/{name}-out.pcap")
    config = {
        "node": "node-a",
        "eal": {"no_huge_mib": 64},
        "ports": [
            port("uplink", "uplink", files(0, "uplink"), UPLINK, interfaces=[
                {"address": f"{OUTER['ipv4'][0]}/24"}, {"address": f"{OUTER['ipv6'][0]}/64"}]),
            port("host", "host", "net_null0,no-rx=1", "02:00:00:00:00:02"),
            port("vf0", "vf", files(1, "web"), WEB, mtu=1400, vf=0),
        ],
        "worker": {"flows": 1024, "idle": {"policy": "adaptive"}},
        "static": {
            "manifests": str(manifests),
            "pods": [{"pod": "shop/web", "port": "vf0"}],
            "peers": [{"node": "node-b", "tunnel_ips": [OUTER[outer][1]]}],
            "sas": sas,
            "exit_when_idle": {"after_ms": 200},
        },
    }
    path = folder / "dataplane.yaml"
    path.write_text(json.dumps(config))  # YAML is a superset of JSON
    return path


def esp_alone(case, packet):
    """The packet for scapy to open. Its decrypt leaves the UDP of an IPv6 packet in transport
    mode in place, so that is looked at and taken out here."""
    _, outer, _, udp, mode = case
    if (outer, udp, mode) != ("ipv6", True, "transport"):
        return packet
    found = packet[UDP]
    check((found.sport, found.dport, packet.nh) == (4500, 4500, 17), packet.summary())
    check(found.len == packet.plen == len(bytes(found)), "UDP's length")
    esp, header = packet[ESP], packet.copy()
    header.remove_payload()
    header.nh, header.plen = 50, len(bytes(esp))
    return IPv6(bytes(header) + bytes(esp))


def drops(summary, port):
    found = next(it for it in summary["ports"] if it["port"] == port)
    return {it["reason"]: it["frames"] for it in found["drops"]}


def play(binary, folder, case, rng):
    algorithm, outer, *_ = case
    keys = {way: rng.randbytes(KEY_LEN[algorithm] + 4) for way in ("inbound", "outbound")}
    ours, theirs = OUTER[outer]
    seal = association(case, IN_SPI, keys["inbound"], theirs, ours)
    opener = association(case, OUT_SPI, keys["outbound"], ours, theirs)
    stranger = association(case, IN_SPI + 1, keys["inbound"], theirs, ours)

    arriving = to_web(case)
    ether = Ether(src=PEER, dst=UPLINK)
    sealed = [bytes(ether / seal.encrypt(it.copy())) for it in arriving]
    forged = bytearray(bytes(ether / seal.encrypt(arriving[0].copy())))
    forged[-1] ^= 1
    bad = [sealed[0], bytes(forged), bytes(ether / stranger.encrypt(arriving[0].copy()))]
    wrpcap(str(folder / "uplink-in.pcap"),
           [neighbour(outer)] + [Ether(it) for it in sealed + bad])

    allowed, denied = from_web(case)
    ether = Ether(src=WEB, dst=ROUTER)
    wrpcap(str(folder / "web-in.pcap"), [ether / it for it in allowed + denied])

    config = write_config(folder, case, keys)
    done = subprocess.run([binary, "--config", config, "--output", "json"],
                          capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == 0, f"exit {done.returncode}:\n{done.stderr}")
    summary = json.loads(done.stdout)
    check(summary["ended"] == "idle", f"ended: {summary['ended']}")

    with PcapReader(str(folder / "web-out.pcap")) as reader:
        inside = [bytes(it.payload) for it in reader if not it.haslayer(ARP)]
    check(inside == [bytes(it) for it in arriving], f"the pod got {len(inside)} packets")

    wire = (folder / "uplink-out.pcap").read_bytes()
    check(MARKER not in wire, "the marker is on the wire in clear")
    with PcapReader(str(folder / "uplink-out.pcap")) as reader:
        carried = [it for it in reader if it.haslayer(ESP)]
    numbers = [it[ESP].seq for it in carried]  # decrypt changes the packet in place
    opened = [bytes(opener.decrypt(esp_alone(case, it.payload), esn=0)) for it in carried]
    check(opened == [bytes(it) for it in allowed],
          f"scapy opened {len(opened)} packets and they are not what the pod sent")
    check(numbers == list(range(1, len(allowed) + 1)), f"sequence numbers {numbers}")

    check(drops(summary, "vf0") == {"policy-egress": len(denied)}, f"vf0: {summary}")
    expected = {"esp-duplicate": 1, "esp-forged": 1, "unknown-spi": 1}
    check(drops(summary, "uplink") == expected, f"uplink: {drops(summary, 'uplink')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="sluice-dataplane, built with dpdk")
    binary = str(Path(parser.parse_args().bin).resolve())
    rng, failed = random.Random(8), 0
    modes = ("tunnel", "transport")
    for case in itertools.product(KEY_LEN, OUTER, (False, True), (False, True), modes):
        algorithm, outer, esn, udp, mode = case
        name = f"{mode} {algorithm} {outer} esn {esn} udp {udp}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                play(binary, Path(folder), case, rng)
                print(f"ok   {name}")
            except Failed as error:
                failed += 1
                print(f"FAIL {name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
