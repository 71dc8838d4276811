"""A policy that comes while a flow runs."""

import json
import time

from daemons import wait_for

# A policy comes into force, or goes, no later than this.
SECONDS_MAX = 5

DENY = json.dumps(
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "shut", "namespace": "ops"},
        "spec": {"podSelector": {"matchLabels": {"app": "toolbox"}}, "policyTypes": ["Ingress"]},
    }
)


def run(lab, report):
    monitor, toolbox = lab.pods["ops/monitor"], lab.pods["ops/toolbox"]
    report.section("policy: a file added while a flow runs ends it")
    flow, _ = monitor.start("hold", toolbox.ipv4, "7001", "--timeout", "5", "--until", "4")
    time.sleep(0.5)
    added = time.monotonic()
    for plane in lab.planes:
        plane.put_manifest("shut.yaml", DENY)
    text, _ = flow.communicate(timeout=30)
    ran = json.loads(text.splitlines()[-1])["last_ok"] - added
    # It ran when the file came or just before, as far as two busy cores let it, and not for long.
    report.check(-1 < ran <= SECONDS_MAX, f"the flow's last answer came {ran * 1000:.0f} ms after the file")
    report.check(not monitor.ask(toolbox.ipv4, "tcp 7001", 0.5), "a new flow is denied")
    for plane in lab.planes:
        plane.remove_manifest("shut.yaml")
    took = wait_for(
        "the flow", lambda: monitor.ask(toolbox.ipv4, "tcp 7001", 0.5), SECONDS_MAX
    )
    report.check(True, f"removed again: a new flow passes after {took * 1000:.0f} ms")
