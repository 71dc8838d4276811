#!/usr/bin/env python3
"""ESP between Sluice and scapy, both ways. No one here wrote scapy's ESP.

    python3 sim/tests/scapy_wire.py --bin target/release/sluice-sim

1. Real runs of the simulator, one for each algorithm, outer family, ESN on and off, plain
   and in UDP 4500. scapy opens every ESP frame of their wire.pcap with the keys of esp_sa;
   with ESN also those of SAs whose lower half of the number begins anew.
2. scapy seals, `sluice-sim esp open` opens: the same combinations, IPv4 and IPv6 inside.
3. The same in transport mode, which only foreign peers speak: what ESP carries opens. Ours to
   scapy is shown by dataplane/daemon/tests/scapy_static.py.
4. What scapy sealed is forged, cut, replayed and misdirected; nothing of it may open, and
   what is good must open after it.

One line a case. Exit 1 if any fails.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    from scapy.all import Ether, rdpcap, wrpcap
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
except ImportError as error:
    # Debian's scapy belongs to Debian's python, which may not be the first on the path.
    debian = "/usr/bin/python3"
    if os.path.realpath(sys.executable) != os.path.realpath(debian):
        os.execv(debian, [debian, *sys.argv])
    print(f"scapy can't be loaded ({error}): apt-get install python3-scapy", file=sys.stderr)
    sys.exit(2)

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "sim/manifests/quickstart"
# Stands in the payload of every probe between pods; sim/src/world/wire_check.rs.
MARKER = b"sluice-payload-marker"

KEY_LEN = {"aes128gcm16": 16, "aes256gcm16": 32, "chacha20poly1305": 32}
# Wireshark's names.
ESP_SA_ALGORITHM = {
    name: "ChaCha20 with Poly1305 [RFC7634]"
    if "chacha" in name
    else "AES-GCM with 16 octet ICV [RFC4106]"
    for name in KEY_LEN
}
SCAPY = {name: "CHACHA20-POLY1305" if "chacha" in name else "AES-GCM" for name in KEY_LEN}
FAMILIES = ("ipv4", "ipv6")
SPI = 0x51C0_0001
OUTER = {"ipv4": ("198.18.0.1", "198.18.0.2"), "ipv6": ("fd5c::1", "fd5c::2")}
INNER = {"ipv4": ("10.244.1.10", "10.244.2.11"), "ipv6": ("fd00:1::10", "fd00:2::11")}

# Allowed between the quickstart's nodes: TCP and UDP, both families.
PROBES = """
  - probe: {from: shop/web, to: shop/cart, protocol: TCP, port: 8080, family: ipv4, expect: allow}
  - probe: {from: shop/web, to: shop/cart, protocol: TCP, port: 8080, family: ipv6, expect: allow}
  - probe: {from: shop/db, to: ops/dns, protocol: UDP, port: 53, family: ipv4, expect: allow}
  - probe: {from: shop/db, to: ops/dns, protocol: UDP, port: 53, family: ipv6, expect: allow}
"""


class Failed(Exception):
    """A case did not come out as it must."""


def check(condition, message):
    if not condition:
        raise Failed(message)


class Combination:
    """What an SA is made of."""

    def __init__(self, algorithm, outer, esn, udp, mode="tunnel"):
        self.algorithm, self.outer, self.esn, self.udp = algorithm, outer, esn, udp
        self.mode = mode

    def __str__(self):
        esn = "on " if self.esn else "off"
        udp = "udp  " if self.udp else "plain"
        mode = "transport " * (self.mode == "transport")
        return f"{mode}{self.algorithm} outer {self.outer} {udp} esn {esn}"


COMBINATIONS = [
    Combination(*parts)
    for parts in itertools.product(KEY_LEN, FAMILIES, (False, True), (False, True))
]


def ip_header(family, addresses):
    source, destination = addresses
    if family == "ipv4":
        return IP(src=source, dst=destination)
    return IPv6(src=source, dst=destination)


def security_association(combination, spi, keymat, addresses):
    nat_t = UDP(sport=4500, dport=4500) if combination.udp else None
    return SecurityAssociation(
        ESP,
        spi=spi,
        crypt_algo=SCAPY[combination.algorithm],
        crypt_key=keymat,
        tunnel_header=(
            ip_header(combination.outer, addresses) if combination.mode == "tunnel" else None
        ),
        nat_t_header=nat_t,
        esn_en=combination.esn,
    )


def family_of(packet):
    return "ipv4" if isinstance(packet, IP) else "ipv6"


class Simulator:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def run(self, *args, exit_code):
        """Runs the simulator, checks its exit code and returns its JSON."""
        command = [str(self.binary), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        check(
            done.returncode == exit_code,
            f"exit {done.returncode}, not {exit_code}: {' '.join(command)}\n{done.stderr}",
        )
        return json.loads(done.stdout)

    def play(self, combination, first=1):
        """A run of a cluster under these settings, whose SAs number from `first`: its folder."""
        out = self.folder / str(combination).replace(" ", "-")
        out.mkdir()
        scenario = out / "scenario.yaml"
        scenario.write_text(
            f"name: scapy\nseed: 7\nmanifests: {json.dumps(str(MANIFESTS))}\n"
            f"algorithm: {combination.algorithm}\nunderlay: {combination.outer}\n"
            f"esn: {json.dumps(combination.esn)}\nudp_encap: {json.dumps(combination.udp)}\n"
            f"sa: {{first: {first}}}\n"
            f"steps:{PROBES}"
        )
        self.run("run", scenario, "--out", out, "--output", "json", exit_code=0)
        return out

    def open(self, pcap, keys, esn, exit_code):
        esn = ["--esn"] if esn else []
        return self.run("esp", "open", "--pcap", pcap, "--keys", keys, *esn, exit_code=exit_code)


def keys_of(path, wanted):
    """(destination, SPI) to (source, key material), from Wireshark's table."""
    table = {}
    for line in path.read_text().splitlines():
        if not line.startswith('"'):
            continue
        _, source, destination, spi, algorithm, key, _, _ = line[1:-1].split('","')
        check(algorithm == ESP_SA_ALGORITHM[wanted], f"algorithm {algorithm}")
        table[destination, int(spi, 16)] = source, bytes.fromhex(key.removeprefix("0x"))
    return table


def outer_of(frame):
    """The outer packet, parsed anew: scapy's decrypt changes what it is given."""
    ether = Ether(frame)
    return ether[IP] if ether.haslayer(IP) else ether[IPv6]


def scapy_opens(simulator, combination, inner):
    """Every ESP frame of a run. Returns how many of the inner family."""
    out = simulator.play(combination)
    keys = keys_of(out / "esp_sa", combination.algorithm)
    check(
        {len(key) for _, key in keys.values()} == {KEY_LEN[combination.algorithm] + 4},
        "key material of another length",
    )
    pods = {
        address
        for pod in json.loads((out / "report.json").read_text())["cluster"]["pods"]
        for address in pod["ips"]
    }
    frames = [bytes(frame) for frame in rdpcap(str(out / "wire.pcap"))]
    ours = simulator.open(out / "wire.pcap", out / "esp_sa", combination.esn, exit_code=0)
    ours = {opened["frame"]: opened["inner"] for opened in ours["opened"]}
    counts, marked = dict.fromkeys(FAMILIES, 0), dict.fromkeys(FAMILIES, 0)
    for number, frame in enumerate(frames, 1):
        check(MARKER not in frame, f"frame {number} shows pods' payload")
        if not Ether(frame).haslayer(ESP):
            check(number not in ours, f"scapy sees no ESP in frame {number}, we do")
            continue
        outer = outer_of(frame)
        check(outer.haslayer(UDP) == combination.udp, f"frame {number}: UDP or not")
        check(family_of(outer) == combination.outer, f"frame {number}: outer family")
        spi = outer[ESP].spi
        check((outer.dst, spi) in keys, f"frame {number}: no key for SPI {spi:#x} to {outer.dst}")
        source, keymat = keys[outer.dst, spi]
        check(source == outer.src, f"frame {number}: from {outer.src}, the SA is {source}'s")
        addresses = outer.src, outer.dst
        opened = security_association(combination, spi, keymat, addresses).decrypt(outer)
        check(bytes(opened).hex() == ours.get(number), f"frame {number}: we open it otherwise")
        check({opened.src, opened.dst} <= pods, f"frame {number}: {opened.summary()}")
        rebuilt = opened.copy()
        for layer in (IP, TCP, UDP):
            if rebuilt.haslayer(layer):
                del rebuilt[layer].chksum
        check(bytes(rebuilt) == bytes(opened), f"frame {number}: a checksum inside is wrong")
        counts[family_of(opened)] += 1
        marked[family_of(opened)] += MARKER in bytes(opened)
        # The two settings of ESN authenticate different bytes: neither may pass for the other.
        other = Combination(
            combination.algorithm, combination.outer, not combination.esn, combination.udp
        )
        try:
            security_association(other, spi, keymat, addresses).decrypt(outer_of(frame))
            raise Failed(f"frame {number} opens with ESN the other way too")
        except IPSecIntegrityError:
            pass
    check(sum(counts.values()) == len(ours), f"scapy opened {counts}, we {len(ours)}")
    check(marked[inner] > 0, f"no {inner} payload among {counts}")
    return counts[inner]


def inner_packets(family, rng, addresses=None):
    """Packets of every residue of padding, and of a full MTU."""
    header = ip_header(family, addresses or INNER[family])
    echo = ICMP() if family == "ipv4" else ICMPv6EchoRequest()
    yield header / echo
    for length in (*range(9), 63, 64, 65, 1300):
        payload = bytes(rng.getrandbits(8) for _ in range(length))
        # No port of a protocol that scapy would read the random payload as.
        yield header / UDP(sport=1024, dport=9) / payload
        yield header / TCP(sport=1024, dport=80, flags="PA") / payload


class Sealed:
    """Frames that scapy sealed, and the key file that goes with them."""

    def __init__(self, simulator, combination, name):
        self.simulator, self.combination = simulator, combination
        self.pcap = simulator.folder / f"{name}.pcap"
        self.keys = simulator.folder / f"{name}.esp_sa"
        rng = random.Random(name)
        length = KEY_LEN[combination.algorithm] + 4
        self.keymat = bytes(rng.getrandbits(8) for _ in range(length))
        addresses = OUTER[combination.outer]
        self.sa = security_association(combination, SPI, self.keymat, addresses)
        source, destination = addresses
        family = "IPv4" if combination.outer == "ipv4" else "IPv6"
        fields = [family, source, destination, f"{SPI:#010x}", ESP_SA_ALGORITHM[combination.algorithm]]
        fields += ["0x" + self.keymat.hex(), "NULL", ""]
        self.keys.write_text(",".join(f'"{field}"' for field in fields) + "\n")

    def seal(self, packet, seq, high=0):
        sealed = self.sa.encrypt(packet, seq_num=seq, esn=high)
        return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / sealed)

    def open(self, frames, exit_code):
        wrpcap(str(self.pcap), [Ether(frame) for frame in frames])
        return self.simulator.open(self.pcap, self.keys, self.combination.esn, exit_code)


def we_open(simulator, combination, inner):
    """Returns how many frames."""
    name = f"sealed-{combination}-{inner}".replace(" ", "-")
    sealed = Sealed(simulator, combination, name)
    packets = list(inner_packets(inner, random.Random(name)))
    frames = [sealed.seal(packet, seq) for seq, packet in enumerate(packets, 1)]
    record = sealed.open(frames, exit_code=0)
    check(record["other"] == 0, f"{record['other']} frames aren't seen as ESP")
    check(len(record["opened"]) == len(packets), "not every frame opened")
    for number, (packet, opened) in enumerate(zip(packets, record["opened"]), 1):
        expected = {
            "frame": number,
            "src": OUTER[combination.outer][0],
            "dst": OUTER[combination.outer][1],
            "spi": SPI,
            "seq": number,
            "next_header": 4 if inner == "ipv4" else 41,
            "inner": bytes(packet).hex(),
        }
        check(opened == expected, f"frame {number}: {opened}, not {expected}")
    return len(packets)


def we_open_transport(simulator, algorithm, family, esn, udp):
    """Returns how many frames."""
    combination = Combination(algorithm, family, esn, udp, "transport")
    name = f"sealed-{combination}".replace(" ", "-")
    sealed = Sealed(simulator, combination, name)
    source, destination = OUTER[family]
    packets = list(inner_packets(family, random.Random(name), (source, destination)))
    # scapy puts ESP into the packet it is given.
    whole = [bytes(packet) for packet in packets]
    frames = [
        sealed.seal(packet.__class__(data), seq)
        for seq, (packet, data) in enumerate(zip(packets, whole), 1)
    ]
    record = sealed.open(frames, exit_code=0)
    check(record["other"] == 0, f"{record['other']} frames aren't seen as ESP")
    check(len(record["opened"]) == len(packets), "not every frame opened")
    header_len = 20 if family == "ipv4" else 40
    for number, (data, opened) in enumerate(zip(whole, record["opened"]), 1):
        expected = {
            "frame": number,
            "src": source,
            "dst": destination,
            "spi": SPI,
            "seq": number,
            "next_header": data[9 if family == "ipv4" else 6],
            "inner": data[header_len:].hex(),
        }
        check(opened == expected, f"frame {number}: {opened}, not {expected}")
    return len(packets)


def over_2_to_32(simulator, combination):
    """The low half turns over. Only with ESN is what follows new."""
    name = f"wrap-{combination}".replace(" ", "-")
    sealed = Sealed(simulator, combination, name)
    packet = ip_header("ipv4", INNER["ipv4"]) / UDP(dport=53) / b"payload"
    last = 0xFFFF_FFF0
    high = 1 if combination.esn else 0
    frames = [sealed.seal(packet, last), sealed.seal(packet, 3, high), sealed.seal(packet, last)]
    record = sealed.open(frames, exit_code=1)
    seqs = [opened["seq"] for opened in record["opened"]]
    expected = [last, 2**32 + 3] if combination.esn else [last]
    check(seqs == expected, f"opened {seqs}, not {expected}")
    reasons = {refused["frame"]: refused["reason"] for refused in record["refused"]}
    check("already accepted" in reasons.get(3, ""), f"the replay: {reasons}")
    if not combination.esn:
        check("left of the replay window" in reasons.get(2, ""), f"the old number: {reasons}")
    return len(frames)


def ours_over_2_to_32(simulator, combination):
    """scapy opens what we seal on both sides of it. Returns how many frames past it."""
    first = 2**32 - 2
    out = simulator.play(combination, first)
    keys = keys_of(out / "esp_sa", combination.algorithm)
    past = 0
    for frame in map(bytes, rdpcap(str(out / "wire.pcap"))):
        if not Ether(frame).haslayer(ESP):
            continue
        outer = outer_of(frame)
        spi, high = outer[ESP].spi, int(outer[ESP].seq < first)
        _, keymat = keys[outer.dst, spi]
        sa = security_association(combination, spi, keymat, (outer.src, outer.dst))
        sa.decrypt(outer_of(frame), esn=high)
        try:
            sa.decrypt(outer_of(frame), esn=1 - high)
            raise Failed("a number opens with the other upper half too")
        except IPSecIntegrityError:
            past += high
    check(past > 0, "no number went past 2^32")
    return past


def flipped(frame, at, mask=0x01):
    at %= len(frame)
    return frame[:at] + bytes([frame[at] ^ mask]) + frame[at + 1 :]


def refused(simulator, combination, inner):
    """Bad frames among good ones. Returns how many bad ones."""
    name = f"refused-{combination}-{inner}".replace(" ", "-")
    sealed = Sealed(simulator, combination, name)
    packet = ip_header(inner, INNER[inner]) / UDP(sport=1024, dport=53) / b"a payload"
    good = [sealed.seal(packet, seq) for seq in range(1, 6)]
    esp = good[0].index(SPI.to_bytes(4, "big"))
    other_key = Sealed(simulator, combination, f"{name}-other")
    misdirected = ip_header(combination.outer, OUTER[combination.outer][::-1])
    sealed.sa.tunnel_header, kept = misdirected, sealed.sa.tunnel_header
    backwards = sealed.seal(packet, 9)
    sealed.sa.tunnel_header = kept
    elsewhere = Ether(good[4])
    layer = IP if combination.outer == "ipv4" else IPv6
    elsewhere[layer].src = "198.18.0.9" if combination.outer == "ipv4" else "fd5c::9"
    if combination.outer == "ipv4":
        del elsewhere[IP].chksum
    bad = [
        (good[0], "already accepted"),
        (flipped(good[1], esp), "no key for SPI"),
        (flipped(good[1], esp + 7), "integrity check"),
        # Far ahead: a forger must not be able to push the window over what is to come.
        (flipped(good[1], esp + 4, 0x40), "integrity check"),
        (flipped(good[1], esp + 8), "integrity check"),
        (flipped(good[1], esp + 16), "integrity check"),
        (flipped(good[1], -17), "integrity check"),
        (flipped(good[1], -1), "integrity check"),
        (other_key.seal(packet, 2), "integrity check"),
        (backwards, "no key for SPI"),
        (bytes(elsewhere), "its SA is that of"),
    ]
    frames = [good[0], *(frame for frame, _ in bad), *good[1:], *good]
    record = sealed.open(frames, exit_code=1)
    opened = [entry["frame"] for entry in record["opened"]]
    first = len(bad) + 2
    check(opened == [1, *range(first, first + 4)], f"frames {opened} opened")
    replayed = range(first + 4, first + 9)
    expected = {number: reason for number, (_, reason) in enumerate(bad, 2)}
    expected |= dict.fromkeys(replayed, "already accepted")
    reasons = {entry["frame"]: entry["reason"] for entry in record["refused"]}
    check(reasons.keys() == expected.keys(), f"refused {sorted(reasons)}")
    for number, reason in expected.items():
        check(reason in reasons[number], f"frame {number}: {reasons[number]}, not {reason}")
    return len(expected)


def cut(simulator, combination, inner):
    """A frame cut at every length, and one whose IP header fits the cut."""
    name = f"cut-{combination}-{inner}".replace(" ", "-")
    sealed = Sealed(simulator, combination, name)
    packet = ip_header(inner, INNER[inner]) / UDP(sport=1024, dport=53) / b"a payload"
    good = sealed.seal(packet, 1)
    esp = good.index(SPI.to_bytes(4, "big"))
    frames = [good[:length] for length in range(14, len(good))]
    for length in range(esp + 4, len(good)):
        shorter = Ether(good[:length])
        if combination.outer == "ipv4":
            del shorter[IP].len, shorter[IP].chksum
        else:
            del shorter[IPv6].plen
        if combination.udp:
            del shorter[UDP].len
        frames.append(bytes(shorter))
    record = sealed.open([*frames, good], exit_code=1)
    opened = [entry["frame"] for entry in record["opened"]]
    check(opened == [len(frames) + 1], f"frames {opened} opened")
    spoken = len(record["refused"]) + len(record["malformed"])
    check(spoken == len(frames), f"{spoken} of {len(frames)} were refused with a reason")
    return len(frames)


def cases(simulator):
    for combination in COMBINATIONS:
        for inner in FAMILIES:
            yield "scapy opens ours ", combination, inner, lambda s, c=combination, i=inner: (
                scapy_opens(Simulator(s.binary, Path(tempfile.mkdtemp(dir=s.folder))), c, i)
            )
    for title, function in (
        ("we open scapy's  ", we_open),
        ("we refuse bad    ", refused),
        ("we refuse cut    ", cut),
    ):
        for combination, inner in itertools.product(COMBINATIONS, FAMILIES):
            yield title, combination, inner, lambda s, f=function, c=combination, i=inner: f(
                s, c, i
            )
    for combination in COMBINATIONS:
        parts = (combination.algorithm, combination.outer, combination.esn, combination.udp)
        yield "we open transport", combination, combination.outer, lambda s, p=parts: (
            we_open_transport(s, *p)
        )
    for combination in COMBINATIONS:
        yield "over 2^32        ", combination, "ipv4", lambda s, c=combination: over_2_to_32(s, c)
        if combination.esn:
            yield "ours over 2^32   ", combination, "both", lambda s, c=combination: (
                ours_over_2_to_32(s, c)
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, type=Path, help="the simulator's binary")
    args = parser.parse_args()
    binary = args.bin.resolve()
    if not binary.is_file():
        print(f"there is no {args.bin}: cargo build --release -p sluice-sim", file=sys.stderr)
        return 2
    count = failures = 0
    with tempfile.TemporaryDirectory(prefix="sluice-scapy-") as folder:
        simulator = Simulator(binary, Path(folder))
        for title, combination, inner, case in cases(simulator):
            label = f"{title} {combination} inner {inner}"
            count += 1
            try:
                print(f"ok    {label}  {case(simulator)} frames", flush=True)
            except Exception as error:  # A case that breaks is a case that fails.
                failures += 1
                print(f"FAIL  {label}  {type(error).__name__}: {error}", flush=True)
    print(f"{count} cases, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
