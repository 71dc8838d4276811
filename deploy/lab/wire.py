"""What is seen on the wire: a capture of both directions, and what was in it."""

import re
import subprocess
from collections import Counter

import traffic
from daemons import wait_for
from shell import CommandError, run

# A wire of the lab may carry these, by IP protocol or EtherType.
ALLOWED = ("ESP", "ARP", "ND")
# So that dumpcap, which shares two cores with all others, misses nothing.
BUFFER_MIB = 128
# iperf3's hundred thousands of frames would take tshark minutes.
DISSECTED_MAX = 5000


class Capture:
    """Frames that arrive at either end of the wire.

    DPDK's af_packet bypasses a sender's packet taps (PACKET_QDISC_BYPASS), so each
    direction is captured where it arrives.
    """

    def __init__(self, ends, folder, part):
        """`ends` are the namespaces whose p0 the wire joins."""
        self.files, self.processes = [], []
        # Frames that the kernel could not keep for the capture, once it is stopped.
        self.missed = None
        for netns in ends:
            file = folder / f"wire-{part}-to-{netns.name}.pcap"
            process = netns.popen(
                "dumpcap", "-q", "-P", "-B", BUFFER_MIB, "-i", "p0", "-w", file,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            self.files.append(file)
            self.processes.append(process)
        # The file's header is written when the socket is open.
        for file in self.files:
            wait_for(f"capture {file.name}", lambda f=file: f.exists() and f.stat().st_size >= 24)

    def stop(self):
        """Ends it, and learns what it missed from dumpcap's last words.

        Until then the last record of a file may be half written.
        """
        if self.missed is not None:
            return
        self.missed = 0
        for process in self.processes:
            process.terminate()
            _, said = process.communicate(timeout=30)
            counts = re.search(r"received/dropped on interface 'p0': (\d+)/(\d+)", said)
            if counts is None:
                raise CommandError(f"dumpcap said nothing of what it missed: {said.strip()}")
            self.missed += int(counts[2])


def frames(file):
    """The frames of a pcap file, as bytes; none of a record that isn't whole yet."""
    data = file.read_bytes()
    order = "little" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else "big"
    at = 24
    while at + 16 <= len(data):
        length = int.from_bytes(data[at + 8 : at + 12], order)
        if at + 16 + length > len(data):
            return
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def kind(frame):
    """What a frame is, as far as the lab tells it apart."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x06":
        return "ARP"
    if ethertype == b"\x08\x00":
        return "ESP" if frame[23] == 50 else f"IPv4 protocol {frame[23]}"
    if ethertype == b"\x86\xdd":
        if frame[20] == 50:
            return "ESP"
        if frame[20] == 58 and frame[54] in (135, 136):
            return "ND"
        return f"IPv6 next header {frame[20]}"
    return f"EtherType 0x{ethertype.hex()}"


def summary(files):
    """Frames by kind, and how many carry the marker in clear."""
    kinds, clear = Counter(), 0
    for file in files:
        for frame in frames(file):
            kinds[kind(frame)] += 1
            clear += traffic.MARKER in frame
    return kinds, clear


def dissect(file, config_dir, *fields, display_filter):
    """tshark's view, with the keys in `config_dir`, of the first DISSECTED_MAX frames."""
    words = [word for field in fields for word in ("-e", field)]
    return run(
        "env", f"WIRESHARK_CONFIG_DIR={config_dir}", "tshark", "-r", file, "-c", DISSECTED_MAX,
        "-o", "esp.enable_encryption_decode:TRUE", "-Y", display_filter, "-T", "fields", *words,
    )
