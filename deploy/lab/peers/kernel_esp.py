"""The Linux kernel's ESP and ours, both ways, in every combination."""

from collections import Counter

import traffic
from daemons import DaemonError, risen
from netns import End, leave_to_dataplane, remove_all
from peers.bed import ECHO_PORT, PATIENCE_SECONDS, Bed
from peers.hosts import DATAPLANE, POD, POD_NETS, hosts
from peers.image import build
from peers.machine import Machine
from shell import ENDED_EARLY
from wire import frames, kind

TAP = "tap0"
GUEST_MAC = "02:51:02:00:01:00"
# Several segments, the longest that fit among them, and one datagram.
TCP_BYTES = 30_000
UDP_BYTES = 400
# The guest's kernel tells the link which groups it is in, behind a hop-by-hop header.
MLD = "IPv6 next header 0"
# For what must not arrive.
SILENCE_SECONDS = 0.5


class Guest:
    """The guest with its eight hosts, next to a dataplane."""

    def __init__(self, binary, folder):
        self.hosts = hosts()
        self.bed = Bed(binary, folder, TAP)
        self.machine = None
        node = self.bed.node
        node.ip("tuntap", "add", "dev", TAP, "mode", "tap")
        node.ip("link", "set", TAP, "up", "mtu", "1500")
        leave_to_dataplane(End(node, TAP, ""))
        kernel, initrd = build(folder)
        self.machine = Machine(node, kernel, initrd, TAP, GUEST_MAC, folder)

    def prepare(self):
        """Has both ends know each other; how long the guest took to come up, in seconds."""
        every = self.hosts
        self.bed.configure(
            manifests=[it for host in every for it in host.manifest()],
            peers=[{"node": host.name, "tunnel_ips": [host.address]} for host in every],
            sas=[sa for host in every for sa in host.sas()],
            keys={
                f"{host.name}-{way}.hex": key for host in every for way, key in host.keys.items()
            },
        )
        took = self.machine.wait_until_up()
        for knob in ("accept_dad", "accept_ra", "addr_gen_mode"):
            value = "1" if knob == "addr_gen_mode" else "0"
            for scope in ("default", "eth0"):
                path = f"/proc/sys/net/ipv6/conf/{scope}/{knob}"
                self.machine.must("write", path=path, text=value)
        links = ["link set lo up", "link set eth0 up mtu 1500"]
        links += [line for host in every for line in host.link()]
        links += [f"route add {POD_NETS[it]} via {DATAPLANE[it]} dev eth0" for it in POD]
        self.machine.must("ip", lines=links)
        protection = [line for host in every for line in host.states() + host.policies()]
        self.machine.must("ip", lines=protection)
        addresses = [it for host in every for it in host.speaks_as().values()]
        self.machine.must("serve", ports=[ECHO_PORT], addresses=addresses)
        self.bed.start()
        return took

    def guest_asks(self, kind, own, pod, length, timeout=PATIENCE_SECONDS):
        return self.machine.do(
            "ask", kind=kind, source=own, host=pod, port=ECHO_PORT, length=length, timeout=timeout
        )

    def close(self):
        if self.machine:
            self.machine.stop()
        self.bed.close()


def exchanges(guest, host):
    """Pod and host ask each other; what went wrong, and how many exchanges there were."""
    wrong, count = [], 0
    for family, own in host.speaks_as().items():
        for protocol, length in (("tcp", TCP_BYTES), ("udp", UDP_BYTES)):
            outcomes = {
                f"pod to {own}": guest.bed.pod_asks(protocol, own, length),
                f"{own} to pod": guest.guest_asks(protocol, own, POD[family], length),
            }
            count += len(outcomes)
            wrong += [
                f"{protocol} {way}: {it.get('why', it)}"
                for way, it in outcomes.items()
                if not it.get("ok")
            ]
    return wrong, count


def check_exchanges(guest, report):
    for host in guest.hosts:
        wrong, count = exchanges(guest, host)
        inside = " and ".join(host.speaks_as())
        said = f"{host}: {count} exchanges of {inside}, half begun at each end"
        report.check(not wrong, "; ".join([said, *wrong]))


def check_counters(guest, report):
    """Nothing was dropped anywhere, and every SA was used."""
    text = guest.machine.must("read", path="/proc/net/xfrm_stat")["text"]
    errors = {name: int(n) for name, n in (it.split() for it in text.splitlines()) if int(n)}
    report.check(not errors, f"the kernel counts no error of its ESP: {errors or 'none'}")
    drops = {key: n for key, n in guest.bed.drops().items() if key[0] == "uplink"}
    report.check(not drops, f"the dataplane drops nothing from the wire: {drops or 'none'}")
    metrics = guest.bed.metrics()
    sealed, opened = metrics["sluice_sealed_frames_total"], metrics["sluice_opened_frames_total"]
    report.check(sealed > 0 and opened > 0, f"it sealed {sealed:.0f} frames and opened {opened:.0f}")


def check_plaintext_refused(guest, report):
    """A host that forgets to protect what it says is not heard."""
    host = next(it for it in guest.hosts if it.mode == "transport" and it.family == "ipv4")
    outward = [it for it in host.policies("delete") if "dir out" in it]
    guest.machine.must("ip", lines=outward)
    before = guest.bed.drops().get(("uplink", "plaintext"), 0)
    heard = guest.guest_asks("udp", host.address, POD["ipv4"], UDP_BYTES, SILENCE_SECONDS)
    risen(lambda: guest.bed.drops().get(("uplink", "plaintext"), 0), before)
    refused = guest.bed.drops().get(("uplink", "plaintext"), 0) - before
    guest.machine.must("ip", lines=[it for it in host.policies() if "dir out" in it])
    report.check(
        not heard.get("ok") and refused == 1,
        f"a datagram in clear from {host.address} is dropped as plaintext ({refused})",
    )
    return 1


def check_other_key_refused(guest, report):
    """A host with another key is a forger."""
    host = next(it for it in guest.hosts if it.mode == "tunnel" and not it.esn)
    true_key, own = host.keys["inbound"], host.speaks_as()["ipv4"]
    (state,) = [it for it in host.states() if f"src {host.address} " in it]
    delete = state.replace(" add ", " delete ").split(" mode ")[0]
    other = bytes([true_key[0] ^ 1]) + true_key[1:]
    # With a number that no window has seen.
    forging = state.replace(true_key.hex(), other.hex()) + " replay-oseq 0x10000"
    guest.machine.must("ip", lines=[delete, forging])
    before = guest.bed.drops().get(("uplink", "esp-forged"), 0)
    heard = guest.guest_asks("udp", own, POD["ipv4"], UDP_BYTES, SILENCE_SECONDS)
    risen(lambda: guest.bed.drops().get(("uplink", "esp-forged"), 0), before)
    forged = guest.bed.drops().get(("uplink", "esp-forged"), 0) - before
    report.check(
        not heard.get("ok") and forged == 1,
        f"a datagram under another key is dropped as forged ({forged})",
    )


def check_wire(guest, report):
    """What the guest's card saw: ESP of every SA, questions for neighbours, one datagram in
    clear that nobody heard."""
    kinds, spis, clear = Counter(), set(), 0
    for frame in frames(guest.machine.wire):
        what = kind(frame)
        kinds[what] += 1
        if what == "ESP":
            at = 34 if frame[12:14] == b"\x08\x00" else 54
            spis.add(int.from_bytes(frame[at : at + 4], "big"))
        clear += traffic.MARKER in frame
    known = {host.spi(way) for host in guest.hosts for way in host.keys}
    report.check(spis == known, f"ESP of {len(spis & known)} SAs on the wire, of {len(known)}")
    others = {name: n for name, n in kinds.items() if name not in ("ESP", "ARP", "ND", MLD)}
    report.check(
        clear == 1 and others == {"IPv4 protocol 17": 1},
        f"in clear only what was said so on purpose: {others}",
    )


def run_all(binary, folder, report):
    """Every check; `folder` is empty and stays so as evidence."""
    guest = None
    try:
        guest = Guest(binary, folder)
        took = guest.prepare()
        report.section(f"the Linux kernel's ESP in a guest, up after {took:.1f} s")
        check_exchanges(guest, report)
        check_counters(guest, report)
        check_plaintext_refused(guest, report)
        check_other_key_refused(guest, report)
        check_wire(guest, report)
    except (DaemonError, *ENDED_EARLY) as error:
        report.check(False, f"the checks ended early: {error}")
    finally:
        if guest:
            guest.close()
        remove_all()
