"""What the guest is: eight hosts in one, each with SAs of its own with the dataplane.

    pod namespace                                        guest: Linux's own ESP
    +---------+  veth  +------------------+  tap0   +--------------------------------+
    |  eth0   |========| vf0r  dataplane  |=========| eth0  host-0 ... host-7        |
    +---------+        +------------------+         | lo    an inner address of each |
    10.244.1.10         198.51.100.1                |       that speaks by tunnel    |
    fd00:10:244:1::10   2001:db8:51::1              +--------------------------------+

Tunnel mode and transport mode, over IPv4 and over IPv6, with and without extended sequence
numbers: every combination is a host, with a cipher out of three.
"""

import itertools
import secrets
from dataclasses import dataclass, field

POD = {"ipv4": "10.244.1.10", "ipv6": "fd00:10:244:1::10"}
POD_NETS = {"ipv4": "10.244.1.0/24", "ipv6": "fd00:10:244:1::/64"}
DATAPLANE = {"ipv4": "198.51.100.1", "ipv6": "2001:db8:51::1"}
PREFIX = {"ipv4": 24, "ipv6": 64}
FAMILIES = ("ipv4", "ipv6")
WINDOW = 1024
# Ours, the kernel's, and the length of key and salt in bytes.
CIPHERS = (
    ("aes128gcm16", "rfc4106(gcm(aes))", 20),
    ("aes256gcm16", "rfc4106(gcm(aes))", 36),
    ("chacha20poly1305", "rfc7539esp(chacha20,poly1305)", 36),
)


@dataclass
class Host:
    """One of the guest's hosts."""

    number: int
    mode: str
    family: str
    esn: bool
    cipher: tuple
    # To the dataplane and from it.
    keys: dict = field(default_factory=dict)

    @property
    def name(self):
        return f"host-{self.number}"

    def __str__(self):
        esn = "with" if self.esn else "without"
        return f"{self.mode}, {self.family}, {esn} ESN, {self.cipher[0]}"

    @property
    def address(self):
        """Where its ESP comes from and goes to."""
        net = {"ipv4": "198.51.100.", "ipv6": "2001:db8:51::"}[self.family]
        return f"{net}{10 + self.number}"

    def speaks_as(self):
        """Its addresses as the pod sees them, by family."""
        if self.mode == "transport":
            return {self.family: self.address}
        return {
            "ipv4": f"10.244.{100 + self.number}.1",
            "ipv6": f"fd00:10:244:{100 + self.number}::1",
        }

    def spi(self, direction):
        """The dataplane receives by 0x1nn and sends by 0x2nn."""
        return {"inbound": 0x100, "outbound": 0x200}[direction] + self.number

    def link(self):
        """The guest's `ip` lines for its addresses."""
        lines = [f"address add {self.address}/{PREFIX[self.family]} dev eth0"]
        if self.mode == "tunnel":
            lines += [f"address add {it} dev lo" for it in self.speaks_as().values()]
        return lines

    def states(self):
        """The guest's `ip xfrm` lines for both SAs."""
        there = DATAPLANE if self.mode == "tunnel" else POD
        ways = (
            ("inbound", self.address, there[self.family]),
            ("outbound", there[self.family], self.address),
        )
        lines = []
        for direction, source, destination in ways:
            key = "0x" + self.keys[direction].hex()
            # Inner packets of either family go by one SA.
            flags = ["af-unspec"] * (self.mode == "tunnel") + ["esn"] * self.esn
            lines.append(
                f"xfrm state add src {source} dst {destination} proto esp"
                f" spi {self.spi(direction):#x} mode {self.mode} replay-window {WINDOW if self.esn else 32}"
                f" aead {self.cipher[1]} {key} 128" + "".join(f" flag {it}" for it in flags)
            )
        return lines

    def policies(self, verb="add"):
        """The guest's `ip xfrm` lines for what must be protected: all between it and the pod."""
        lines = []
        for family, own in self.speaks_as().items():
            pod = POD[family]
            ends = (self.address, DATAPLANE[self.family]) if self.mode == "tunnel" else (own, pod)
            for way, (source, destination), (near, far) in (
                ("out", (own, pod), ends),
                ("in", (pod, own), ends[::-1]),
            ):
                selector = f"xfrm policy {verb} src {source} dst {destination} dir {way}"
                template = f" tmpl src {near} dst {far} proto esp mode {self.mode}"
                lines.append(selector + (template if verb == "add" else ""))
        return lines

    def manifest(self):
        """The host as a node of the cluster, and as a pod of it who speaks behind a tunnel."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}}
        if self.mode == "transport":
            addresses = [{"type": "InternalIP", "address": self.address}]
            return [node | {"status": {"addresses": addresses}}]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "lab"},
            "spec": {"nodeName": self.name},
            "status": {"podIPs": [{"ip": it} for it in self.speaks_as().values()]},
        }
        return [node, pod]

    def sas(self):
        """The SAs as sluice-dataplane is told of them."""
        return [
            {
                "direction": direction,
                "peer": self.name,
                "spi": self.spi(direction),
                "algorithm": self.cipher[0],
                "key_file": f"keys/{self.name}-{direction}.hex",
                "esn": self.esn,
                "mode": self.mode,
            }
            | ({"window": WINDOW} if direction == "inbound" else {})
            | ({"pod": POD[self.family]} if self.mode == "transport" else {})
            for direction in self.keys
        ]


def hosts():
    """All eight, with fresh keys."""
    made = []
    ciphers = itertools.cycle(CIPHERS)
    for number, (mode, family, esn) in enumerate(
        itertools.product(("tunnel", "transport"), FAMILIES, (True, False))
    ):
        cipher = next(ciphers)
        keys = {way: secrets.token_bytes(cipher[2]) for way in ("inbound", "outbound")}
        made.append(Host(number, mode, family, esn, cipher, keys))
    return made
