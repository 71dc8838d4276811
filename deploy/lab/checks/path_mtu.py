"""A narrow link between the nodes: a router says so, and pods are told what passes sealed."""

import json
import re
import subprocess
import sys
from pathlib import Path

from checks.reach import INNER_MAX

ROUTER = str(Path(__file__).parents[1] / "router.py")
NARROW = 1400
# As much less as the link is narrower.
INNER_NARROW = INNER_MAX - (1500 - NARROW)
# IPv4's header and ICMP's.
HEADERS = 28


def run(lab, report):
    monitor, toolbox = lab.pods["ops/monitor"], lab.pods["ops/toolbox"]
    report.section(f"a router says that no more than {NARROW} bytes pass between the nodes")
    passes, _ = ping(monitor, toolbox, INNER_MAX)
    report.check(passes, f"before: {INNER_MAX} bytes of a pod pass")
    said = router(monitor, toolbox, "--forged")
    passes, _ = ping(monitor, toolbox, INNER_MAX)
    report.check(said and passes, "who quotes an SPI that isn't one is not believed")
    # What was quoted is out of use when new keys have come meanwhile.
    for _ in range(5):
        said = router(monitor, toolbox)
        passes, mtu = ping(monitor, toolbox, INNER_MAX)
        if mtu:
            break
    report.check(said and not passes, f"then {INNER_MAX} bytes don't")
    report.check(mtu == INNER_NARROW, f"and the pod is told that {mtu} would")
    passes, _ = ping(monitor, toolbox, INNER_NARROW)
    report.check(passes, f"{INNER_NARROW} bytes pass")
    seen = monitor.run("tcp", toolbox.ipv4, 7001, "--bytes", 100_000, "--timeout", 5)
    mss = seen.get("mss", 0)
    report.check(
        seen.get("ok") and 0 < mss <= INNER_NARROW - 40, f"TCP passes by segments of {mss} bytes"
    )


def router(source, target, *words):
    """Says so of a packet between the two pods; whether there was one."""
    netns, wire = target.node.netns, target.node.uplink.name
    process = netns.popen(
        sys.executable, ROUTER, wire, NARROW, *words, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    source.ask(target.ipv4, "udp 7001", 1)
    text, _ = process.communicate(timeout=30)
    return json.loads(text)["said"] == NARROW


def ping(source, target, size):
    """Whether a packet of so many bytes comes back whole, and which size the pod was told."""
    text = source.netns.exec(
        "ping", "-n", "-M", "do", "-c", 1, "-W", 5, "-s", size - HEADERS, target.ipv4, check=False
    )
    told = re.search(r"mtu ?= ?(\d+)", text)
    return " 0% packet loss" in text, told and int(told[1])
