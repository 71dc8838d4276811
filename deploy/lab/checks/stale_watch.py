"""A pod in place of another with its name, address and VF, while the peer's watch is late."""

from checks.denied import drops
from daemons import wait_for

# What a node announces must count at its peer no later than this.
SECONDS_MAX = 5


def run(lab, report):
    monitor, toolbox = lab.pods["ops/monitor"], lab.pods["ops/toolbox"]
    report.section("a late watch: an address that its node gave to another pod is nobody's")
    own, peer = lab.plane(monitor), lab.plane(toolbox)
    cluster = (own.manifests / "cluster.yaml").read_text()
    name = "metadata: {name: monitor, "
    report.check(name in cluster, "the pod has no UID so far")

    def know(plane, uid):
        plane.put_manifest("cluster.yaml", cluster.replace(name, f"{name}uid: {uid}, "))
        wait_for("the change", plane.in_step)

    def passes():
        return monitor.ask(toolbox.ipv4, "tcp 7001", 0.3)

    for plane in lab.planes:
        know(plane, "monitor-1")
    report.check(wait_for("both nodes know it", passes, SECONDS_MAX) >= 0, "known to both: allowed")
    know(own, "monitor-2")
    took = wait_for("its node's word", lambda: not passes(), SECONDS_MAX)
    report.check(True, f"its node says it is another pod: denied after {took * 1000:.0f} ms")
    before = drops(peer, "identity-unknown")

    def counted_more():
        passes()
        return drops(peer, "identity-unknown") > before

    wait_for("a frame of it counted", counted_more, SECONDS_MAX)
    counted = round(drops(peer, "identity-unknown") - before)
    report.check(counted > 0, f"{counted} frames of it counted as identity-unknown at the peer")
    back = toolbox.ask(monitor.ipv4, "tcp 7001", 0.3)
    report.check(not back, "and nothing is sent to it either")
    know(peer, "monitor-2")
    took = wait_for("the watch", passes, SECONDS_MAX)
    report.check(True, f"the watch has caught up: allowed after {took * 1000:.0f} ms")
    for plane in lab.planes:
        plane.put_manifest("cluster.yaml", cluster)
        wait_for("the change", plane.in_step)
    took = wait_for("all as it was", passes, SECONDS_MAX)
    report.check(True, f"all as it was after {took * 1000:.0f} ms")
