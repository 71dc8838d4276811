"""A denied flow is counted by reason, and told with the rule that denied it."""

import json

from daemons import DaemonError, risen, wait_for


def run(lab, report):
    web, cart, monitor = (lab.pods[name] for name in ("shop/web", "shop/cart", "ops/monitor"))
    report.section("denied: counted by port and reason, with the rule's name")
    for source, target, direction, reason, rule in (
        (cart, web, "egress", "policy-egress", "shop/default-deny isolates egress"),
        (monitor, web, "ingress", "policy-ingress", "shop/default-deny isolates ingress"),
    ):
        plane = lab.plane(source)
        before = drops(plane, reason)
        source.ask(target.ipv4, "tcp 7001", 0.3)
        what = f"{source.name} to {target.name}"
        risen(lambda plane=plane, reason=reason: drops(plane, reason), before)
        counted = round(drops(plane, reason) - before)
        report.check(counted > 0, f"{what}: {counted} frames counted as {reason}")

        def told(source=source, target=target, direction=direction):
            return any(
                line.get("verdict") == "deny"
                and line.get("direction") == direction
                and {line.get("pod"), line.get("peer")} == {source.name, target.name}
                and line.get("rule") == rule
                for line in plane.logged_verdicts()
            )

        try:
            wait_for("verdict", told, 5)
            held = True
        except DaemonError:
            held = False
        report.check(held, f"{what}: the verdict log names `{rule}`")
        trace = plane.ctl("trace", source.name, target.name, "--port", "7001", check=False)
        report.check(rule in json.dumps(trace), f"{what}: sluicectl trace says why beforehand")


def drops(plane, reason):
    """Frames dropped for a reason, all ports of a node together."""
    return sum(
        value
        for name, value in plane.metrics().items()
        if "drop" in name and f'reason="{reason}"' in name
    )
