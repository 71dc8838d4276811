"""A paced stream of numbered datagrams between two pods, a load beside it, and what was lost."""

import json
import subprocess
from pathlib import Path

from daemons import wait_for

# A run is void when the kernel itself lost frames between two programs that share a core;
# it is done again this often, and each time is shown.
RUNS_MAX = 5
PORT = 7002
RATE = 1000


class Stream:
    """1,000 datagrams a second from one pod to another, for a while."""

    def __init__(self, source, target, seconds):
        self.target = target
        self.receiver, _ = target.start("receive", PORT, stdin=subprocess.PIPE)
        self.sender = source.netns.popen(
            *source.command("send", target.ipv4, PORT, "--rate", RATE, "--seconds", seconds,
                            "--bytes", 200),
            stdout=subprocess.PIPE, text=True,
        )

    def end(self):
        """Waits for the sender; what was sent and received."""
        sent, _ = self.sender.communicate(timeout=120)
        return self.target.last_line(sent), self.target.tell_to_stop(self.receiver)


class Load:
    """50 Mbit/s of iperf3's datagrams from one pod to another, for a while."""

    PORT = 5201
    MBIT = 50
    # Below the tunnel's MTU: nothing is too big.
    BYTES = 1200
    BUFFER = 2 << 20

    def __init__(self, source, target, seconds):
        self.server = target.netns.popen(
            "iperf3", "-s", "-1", "-p", self.PORT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_for("iperf3", lambda: f":{self.PORT} " in target.netns.exec("ss", "-Hltn"))
        self.client = source.netns.popen(
            "iperf3", "-c", target.ipv4, "-p", self.PORT, "-u", "-b", f"{self.MBIT}M",
            "-l", self.BYTES, "-t", seconds, "-w", self._buffer(), "-J",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )

    def _buffer(self):
        """What both ends' sockets may hold: iperf3 refuses to start where it gets less."""
        limits = (Path(f"/proc/sys/net/core/{way}mem_max") for way in ("r", "w"))
        return min(self.BUFFER, *(int(it.read_text()) for it in limits))

    def end(self):
        """Waits for it; how many were sent, and how many the other end missed."""
        text, _ = self.client.communicate(timeout=120)
        self.server.terminate()
        self.server.wait()
        sum_ = json.loads(text or "{}").get("end", {}).get("sum", {})
        return sum_.get("packets", 0), sum_.get("lost_packets", 0)


def lost_in_kernel(lab, *pods):
    """Frames that packet rings lost, and datagrams that pods' sockets had no room for."""
    by_sockets = sum(lost_by_sockets(pod.netns) for pod in pods)
    return sum(plane.lost_in_kernel() for plane in lab.planes) + by_sockets


def lost_by_sockets(netns):
    text = netns.exec("cat", "/proc/net/snmp")
    names, values = (it.split() for it in text.splitlines() if it.startswith("Udp:"))
    return int(dict(zip(names, values))["RcvbufErrors"])


def undisturbed(lab, report, seconds, source, target, during):
    """Sends a stream while `during()` happens, and again if the kernel's rings lost frames
    meanwhile; what was sent and received. `during` may say how many others were lost beside it."""
    for left in reversed(range(RUNS_MAX)):
        before = lost_in_kernel(lab, source, target)
        drops = [plane.drops() for plane in lab.planes]
        stream = Stream(source, target, seconds)
        beside = during(stream) or 0
        sent, received = stream.end()
        lost = lost_in_kernel(lab, source, target) - before
        missing = sent["sent"] - received["received"] + beside
        # Only what the kernel lost is forgiven: no more than it counted, nothing twice.
        kernels = 0 < missing <= lost and not received["twice"] and not sent["refused"]
        if missing:
            tell_drops(lab, report, drops)
        if not kernels or not left:
            return sent, received
        report.note(f"void: the kernel lost {lost:.0f} frames by itself; again")
    raise AssertionError("RUNS_MAX is 0")


def tell_drops(lab, report, before):
    """What the dataplanes dropped meanwhile, by their own counters."""
    for plane, counted in zip(lab.planes, before):
        for name, value in sorted(plane.drops().items()):
            if more := value - counted.get(name, 0):
                report.note(f"{plane.node.name}: {name} {more:.0f} more")


def say(sent, received):
    return f"{sent['sent']} sent, {received['received']} received, {received['twice']} twice"


def nothing_lost(sent, received):
    return sent["refused"] == 0 and received["received"] == sent["sent"] and not received["twice"]
