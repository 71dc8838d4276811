"""What dies, and what goes on meanwhile."""

import json
import subprocess

from daemons import wait_for
from stream import nothing_lost, say, undisturbed

SECONDS_IN_STEP_MAX = 10


def agent(lab, report):
    """The agent is killed: no verdict changes, nothing is lost."""
    web, cart, monitor, toolbox = (
        lab.pods[name] for name in ("shop/web", "shop/cart", "ops/monitor", "ops/toolbox")
    )
    plane = lab.plane(monitor)
    report.section("the agent is killed (SIGKILL)")

    def killed(_):
        plane.agent.kill()
        report.check(not cart.ask(web.ipv4, "tcp 7001", 0.5), "without it, what was denied is denied")
        report.check(web.ask(cart.ipv4, "tcp 7001", 3.0), "without it, what was allowed is allowed")
        plane.agent.start()
        took = wait_for("in step", plane.in_step)
        report.check(took <= SECONDS_IN_STEP_MAX, f"back in step after {took:.1f} s")
        report.check(not cart.ask(web.ipv4, "tcp 7001", 0.5), "then, what was denied is denied")

    sent, received = undisturbed(lab, report, 6, monitor, toolbox, killed)
    report.check(nothing_lost(sent, received), say(sent, received))


def dataplane(lab, report):
    """The dataplane is killed: nothing passes; then policy comes before the first frame."""
    web, cart, monitor, toolbox, api = (
        lab.pods[name]
        for name in ("shop/web", "shop/cart", "ops/monitor", "ops/toolbox", "shop/api")
    )
    plane = lab.plane(monitor)
    report.section("the dataplane is killed (SIGKILL)")
    # Denied on this node and across, from before until after.
    knocking = [
        cart.start("knock", target.ipv4, "7001", "--timeout", "0.05", stdin=subprocess.PIPE)[0]
        for target in (web, api)
    ]
    plane.dataplane.kill()
    before = arrived(lab)
    report.check(not monitor.ask(toolbox.ipv4, "tcp 7001", 1.0), "nothing passes to the other node")
    report.check(not web.ask(cart.ipv4, "tcp 7001", 1.0), "nothing passes between its own pods")
    frames = arrived(lab) - before
    report.check(frames == 0, f"{frames} frames came over the wire meanwhile")
    # No agent either: policy can only come from the checkpoint.
    plane.agent.kill()
    keys = sending_keys(plane)
    plane.dataplane.start()
    took = wait_for("traffic", lambda: monitor.ask(toolbox.ipv4, "tcp 7001", 0.5))
    report.check(
        sending_keys(plane) > keys,
        f"from its checkpoint, without an agent: what is allowed passes after {took:.1f} s, "
        f"by new keys",
    )
    report.check(web.ask(cart.ipv4, "tcp 7001", 3.0), "and on one node")
    report.check(not cart.ask(web.ipv4, "tcp 7001", 0.5), "what is denied is denied")
    plane.agent.start()
    took = wait_for("in step", plane.in_step)
    report.check(True, f"in step {took:.1f} s after the agent's start")
    for process, target in zip(knocking, (web, api)):
        seen = cart.tell_to_stop(process)
        report.check(
            seen["tries"] > 10 and seen["admitted"] == 0,
            f"shop/cart tried {target.name} {seen['tries']} times, {seen['admitted']} let in",
        )


def arrived(lab):
    """Frames that the other node's end of the wire received so far."""
    other = lab.nodes[1]
    text = other.netns.ip("-j", "-s", "link", "show", "dev", "p0")
    return json.loads(text)[0]["stats64"]["rx"]["packets"]


def sending_keys(plane):
    """How many keys the dataplane ever had to send by."""
    return len(plane.keys.read_text().splitlines())
