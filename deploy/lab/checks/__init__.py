"""What the lab checks, one file a subject. Each check is one line of the summary."""

from checks import (
    cni_add,
    denied,
    live_changes,
    path_mtu,
    policy_file,
    reach,
    rekey,
    restart,
    stale_watch,
    wire_clean,
)
from daemons import wait_for
from wire import Capture


def run_all(lab, report):
    """Every check, in an order in which none disturbs the next."""
    report.section("pods, by CNI ADD of host-device and sluice-cni")
    for name, node, vf, last in (
        ("shop/web", 0, 0, 10),
        ("shop/cart", 0, 1, 11),
        ("ops/monitor", 0, 2, 15),
        ("shop/api", 1, 0, 12),
        ("ops/toolbox", 1, 1, 13),
    ):
        pod = lab.add_pod(name, node, vf, last)
        pod.serve(7001, 7003)
        report.check(pod.result["ips"], f"{name} on {pod.node.name} {pod.vf.port}")
    for plane in lab.planes:
        wait_for(f"keys on {plane.node.name}", plane.sas)

    reach.run(lab, report)
    denied.run(lab, report)
    lab.capture.stop()
    wire_clean.run(report, lab.capture, "from the daemons' start until here")
    wire_clean.inside(lab, report, lab.capture)
    wire_clean.holds_no_key(lab, report, lab.capture)

    # Between the captures: of the router's words there would be more than ESP.
    path_mtu.run(lab, report)

    lab.capture = Capture([it.netns for it in lab.nodes], lab.folder, "second")
    cni_add.run(lab, report)
    policy_file.run(lab, report)
    live_changes.run(lab, report)
    stale_watch.run(lab, report)
    rekey.run(lab, report)
    restart.agent(lab, report)
    restart.dataplane(lab, report)
    cni_add.delete(lab, report)
    lab.capture.stop()
    wire_clean.run(report, lab.capture, "from there until here, with all that died meanwhile")
    wire_clean.holds_no_key(lab, report, lab.capture)
    wire_clean.keys_once(lab, report)
