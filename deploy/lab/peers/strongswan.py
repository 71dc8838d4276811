"""strongSwan at the other end: IKEv2, and ESP in UDP by its own libipsec.

    pod namespace            node namespace                     peer namespace
    +---------+  veth  +----------------------------+ veth +------------------------+
    |  eth0   |========| vf0r  dataplane  p0        |======| p0  charon, its ESP    |
    +---------+        |       charon     198.51... |      | lo  the inner address  |
                       +----------------------------+      +------------------------+

A charon beside the dataplane, on its address, negotiates for it: IKE is its, ESP the
dataplane's. VICI begins it and tells of the child SA; the keys come through charon's own log of
the group CHD at level 4, into a pipe. Neither `list-sas` nor the updown script has them, which is
checked; nothing is written to disk but what static mode reads. `peers/rekeys.py` has a program do that, and go on with it.

VICI's `initiate` would stream the same log at level 4, and did here at first: charon 5.9.8 comes
to a standstill in one of some twenty, holding the lock of its loggers while it logs what it sends.
"""

import os
import re
import secrets
import subprocess
from dataclasses import dataclass

import traffic
from daemons import DaemonError, wait_for
from netns import End, create, remove_all, veth
from peers.bed import ECHO_PORT, UPLINK_MAC, Bed, asks
from peers.hosts import DATAPLANE, POD
from pods import TRAFFIC
from shell import ENDED_EARLY, CommandError, run
from wire import Capture, frames

CHARON = "/usr/sbin/charon-systemd"
PEER = "198.51.100.20"
INNER = {"ipv4": "10.9.0.1", "ipv6": "fd00:9::1"}
TCP_BYTES, UDP_BYTES = 100_000, 400
PORT_NAT_T = 4500
PLUGINS = (
    "random nonce aes sha1 sha2 hmac kdf gcm ctr chapoly curve25519 openssl pem x509 pubkey pkcs1"
    " pkcs8 kernel-libipsec kernel-netlink socket-default vici updown"
)
# What of charon's log has the keys.
KEY_LOG = "chd = 4"
# The proposal's name and ours.
CIPHERS = {it: it for it in ("aes128gcm16", "aes256gcm16", "chacha20poly1305")}


class Charon:
    """strongSwan's daemon in a namespace, with a socket and a configuration of its own.

    `log` is what it writes to its standard output, `before` the words of a program that starts
    it, `child` more of the child's configuration.
    """

    def __init__(self, netns, name, folder, other, cipher, secret, log=KEY_LOG, before=(), child=""):
        self.netns, self.folder = netns, folder / name
        self.folder.mkdir()
        self.vici = f"unix://{self.folder}/vici"
        self.updown = self.folder / "updown.env"
        script = self.folder / "updown"
        script.write_text(f"#!/bin/sh\nenv > {self.updown}\n")
        script.chmod(0o755)
        ends = {"local": (DATAPLANE["ipv4"], POD), "peer": (PEER, INNER)}
        (own, inside), (far, beyond) = ends[name], ends[other]
        ts = lambda it: ",".join(f"{ip}/{128 if ':' in ip else 32}" for ip in it.values())
        (self.folder / "strongswan.conf").write_text(
            f"charon-systemd {{\n load = {PLUGINS}\n"
            f" filelog {{\n all {{\n path = {self.folder}/charon.log\n default = 1\n flush_line = yes\n }}\n"
            f" keys {{\n path = /dev/stdout\n default = -1\n {log}\n flush_line = yes\n }}\n }}\n"
            # libipsec has to be there before the kernel's own interface is.
            f" plugins {{\n vici {{ socket = {self.vici} }}\n"
            f" kernel-libipsec {{\n load = yes\n allow_peer_ts = yes\n }}\n }}\n}}\n"
        )
        config = self.folder / "swanctl.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"connections {{ c {{\n version = 2\n encap = yes\n mobike = no\n"
            f" local_addrs = {own}\n remote_addrs = {far}\n"
            f" proposals = aes128gcm16-prfsha256-x25519\n"
            f" local {{\n auth = psk\n id = {name}\n }}\n remote {{\n auth = psk\n id = {other}\n }}\n"
            f" children {{ c {{\n local_ts = {ts(inside)}\n remote_ts = {ts(beyond)}\n"
            f" esp_proposals = {cipher}-noesn\n updown = {script}\n {child}\n }} }}\n }} }}\n"
            f"secrets {{ ike {{\n id-1 = {name}\n id-2 = {other}\n secret = 0x{secret}\n }} }}\n"
        )
        with open(self.folder / "out", "w") as out:
            self.process = netns.popen(
                "env", f"STRONGSWAN_CONF={self.folder}/strongswan.conf", *before, CHARON,
                stdout=subprocess.PIPE, stderr=out,
            )  # fmt: skip
        wait_for(f"charon {name}", self._answers)
        run("swanctl", "--load-all", "--file", config, "--uri", self.vici)

    def _answers(self):
        if self.process.poll() is not None:
            raise CommandError(f"charon ended: {(self.folder / 'out').read_text()}")
        return bool(self.ask("--version", check=False))

    def ask(self, *words, check=True):
        """swanctl's answer."""
        if not (self.folder / "vici").exists():
            return ""
        return run("swanctl", *words, "--uri", self.vici, check=check, timeout=60)

    def logged(self):
        """What its log of keys has had to say since the last call; the pipe holds 64 KiB."""
        os.set_blocking(self.process.stdout.fileno(), False)
        return (self.process.stdout.read() or b"").decode(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass
class Child:
    """What IKE agreed on, as the initiator has it."""

    spis: dict
    keys: dict


def handed_over(log):
    """The SPIs and keys in charon's log of the group CHD at level 4.

    An initiator sends under the initiator's key and receives under the responder's (RFC 7296
    section 2.17). The bytes stand in a dump: an offset, at most 16 bytes, the same as text.
    """
    lines = [line.split("[CHD] ", 1)[1] for line in log.splitlines() if "[CHD] " in line]
    keys, spis = {}, {}
    for at, line in enumerate(lines):
        named = re.match(r"encryption (initiator|responder) key => (\d+) bytes", line)
        if named:
            length = int(named[2])
            dump = lines[at + 1 : at + 1 + (length + 15) // 16]
            key = bytes.fromhex("".join(it.split(": ", 1)[1][:48] for it in dump))
            keys[{"initiator": "outbound", "responder": "inbound"}[named[1]]] = key
            if len(key) != length:
                raise CommandError(f"{len(key)} bytes of key, of {length}")
        added = re.match(r"adding (inbound|outbound) ESP SA", line)
        if added:
            spis[added[1]] = int(re.match(r"\s*SPI 0x([0-9a-f]+)", lines[at + 1])[1], 16)
    if len(keys) != 2 or len(spis) != 2:
        raise CommandError(f"IKE agreed on nothing, or charon doesn't say it: {log[-500:]}")
    return Child(spis, keys)


class Swan:
    """A dataplane whose IKE strongSwan speaks, and strongSwan as its peer."""

    def __init__(self, binary, folder, cipher):
        self.cipher, self.charons, self.server = cipher, {}, None
        self.capture = None
        self.folder = folder
        self.bed = Bed(binary, folder, "p0")
        node, self.peer = self.bed.node, create("esp-peer")
        veth(End(node, "p0", UPLINK_MAC), End(self.peer, "p0", "02:51:02:00:01:00"))
        node.ip("address", "add", f"{DATAPLANE['ipv4']}/24", "dev", "p0")
        self.peer.ip("address", "add", f"{PEER}/24", "dev", "p0")
        for address in INNER.values():
            self.peer.ip("address", "add", address, "dev", "lo")

    def negotiate(self):
        """IKE, begun on behalf of the dataplane; what it agreed on."""
        secret = secrets.token_hex(32)
        folder = self.folder
        self.charons["peer"] = Charon(self.peer, "peer", folder, "local", self.cipher, secret)
        self.charons["local"] = Charon(self.bed.node, "local", folder, "peer", self.cipher, secret)
        ask, node = self.charons["local"].ask, self.bed.node
        # charon installs a child SA only where its inner addresses are. Without them its own
        # libipsec, which gets every packet too, has nobody to hand one to, and is silent.
        for address in POD.values():
            node.ip("address", "add", address, "dev", "lo")
        ask("--initiate", "--child", "c", check=False)
        for address in POD.values():
            node.ip("address", "del", f"{address}/{128 if ':' in address else 32}", "dev", "lo")
        return handed_over(self.charons["local"].logged())

    def start(self, child=None, sa_socket=None):
        """Gives the dataplane the SAs, or a socket for them, and starts it."""
        manifests = [
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "swan"}},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "swan", "namespace": "lab"},
                "spec": {"nodeName": "swan"},
                "status": {"podIPs": [{"ip": it} for it in INNER.values()]},
            },
        ]
        sas = [
            {
                "direction": direction, "peer": "swan", "spi": child.spis[direction],
                "algorithm": CIPHERS[self.cipher], "key_file": f"keys/{direction}.hex",
                "esn": False, "udp_encap": direction == "outbound",
            }
            for direction in (child.keys if child else ())
        ]  # fmt: skip
        keys = {f"{it}.hex": key for it, key in child.keys.items()} if child else {}
        peers = [{"node": "swan", "tunnel_ips": [PEER]}]
        self.bed.configure(manifests, peers, sas, keys, sa_socket)
        self.capture = Capture((self.bed.node, self.peer), self.folder, "all")
        self.bed.start()
        words = ["/usr/bin/python3", TRAFFIC, "serve", ECHO_PORT, "--at", *INNER.values()]
        self.server = self.peer.popen(*words, stdout=subprocess.PIPE, text=True)
        self.server.stdout.readline()

    def close(self):
        if self.server:
            self.server.terminate()
            self.server.wait()
        self.bed.close()
        for charon in self.charons.values():
            charon.stop()
        if self.capture:
            self.capture.stop()


def check_who_has_the_keys(swan, child, report):
    local = swan.charons["local"]
    wait_for("the updown script", lambda: local.updown.exists() and local.updown.stat().st_size)
    listed = local.ask("--list-sas", "--raw") + local.updown.read_text()
    shown = [way for way, key in child.keys.items() if key[:8].hex() in listed.lower()]
    report.check(
        not shown and f"{child.spis['inbound']:08x}" in listed.lower(),
        "IKEv2 agreed on keys; charon's log hands them over, list-sas and updown don't",
    )


def check_exchanges(swan, report):
    wrong, count = [], 0
    for family, inner in INNER.items():
        for protocol, length in (("tcp", TCP_BYTES), ("udp", UDP_BYTES)):
            count += 2
            outcomes = {
                f"pod to {inner}": swan.bed.pod_asks(protocol, inner, length),
                f"{inner} to pod": asks(swan.peer, protocol, POD[family], length),
            }
            wrong += [
                f"{protocol} {way}: {it.get('why', it)}"
                for way, it in outcomes.items()
                if not it.get("ok")
            ]
    said = f"{swan.cipher}, ESP in UDP: {count} exchanges of ipv4 and ipv6, half begun at each end"
    report.check(not wrong, "; ".join([said, *wrong]))


def check_counters(swan, report):
    drops = {key: n for key, n in swan.bed.drops().items() if "esp" in key[1] or "spi" in key[1]}
    report.check(not drops, f"the dataplane refuses no ESP of strongSwan's: {drops or 'none'}")
    text = swan.charons["peer"].ask("--list-sas", "--raw")
    counts = {way: int(re.search(rf"packets-{way}=(\d+)", text)[1]) for way in ("in", "out")}
    report.check(min(counts.values()) > 0, f"strongSwan counts packets of the child SA: {counts}")


def check_wire(swan, report):
    esp = clear = 0
    swan.capture.stop()
    for file in swan.capture.files:
        for frame in frames(file):
            clear += traffic.MARKER in frame
            # IPv4, UDP, port 4500, no non-ESP marker.
            if frame[12:14] == b"\x08\x00" and frame[23] == 17:
                nat_t = int.from_bytes(frame[36:38], "big") == PORT_NAT_T
                esp += nat_t and len(frame) > 60 and frame[42:46] != bytes(4)
    report.check(esp > 0 and not clear, f"{esp} frames of ESP in UDP on the wire, {clear} in clear")


def run_all(binary, folder, report):
    """Every check, for each cipher."""
    for cipher in CIPHERS:
        part = folder / f"strongswan-{cipher}"
        part.mkdir()
        swan = None
        try:
            swan = Swan(binary, part, cipher)
            child = swan.negotiate()
            report.section("strongSwan: IKEv2 on behalf of the dataplane, its ESP at the peer")
            check_who_has_the_keys(swan, child, report)
            swan.start(child)
            check_exchanges(swan, report)
            check_counters(swan, report)
            check_wire(swan, report)
        except (DaemonError, *ENDED_EARLY) as error:
            report.check(False, f"the checks ended early: {error}")
        finally:
            if swan:
                swan.close()
            remove_all()
