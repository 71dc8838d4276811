"""Who reaches whom, by real kernels: IPv4 and IPv6, on one node and across."""

import json
import time

# Nobody waits longer for an answer that must not come.
SECONDS_DENIED = 0.5
SECONDS_ALLOWED = 3.0
# What fits a 1500-byte wire: outer header (IPv4), ESP header 8, IV 8, trailer 2, ICV 16,
# payload padded to 4 bytes (RFC 4303 section 2.4): 1446 bytes of inner packet.
INNER_MAX = 1446


def run(lab, report):
    web, cart, monitor, api, toolbox = (
        lab.pods[name] for name in ("shop/web", "shop/cart", "ops/monitor", "shop/api", "ops/toolbox")
    )
    report.section("reach: what is allowed passes, what is denied does not")
    for family in ("ipv4", "ipv6"):
        for source, target, what, allowed in (
            (web, api, "tcp 7001", True),
            (web, api, "udp 7001", True),
            (web, api, "tcp 7003", False),
            # A rule with ports allows no ICMP.
            (web, api, "ping", False),
            (web, cart, "ping", True),
            (web, cart, "tcp 7003", True),
            (web, cart, "udp 7001", True),
            (cart, web, "tcp 7001", False),
            (cart, web, "ping", False),
            (api, web, "tcp 7001", False),
            (monitor, toolbox, "ping", True),
            (monitor, toolbox, "tcp 7001", True),
            (toolbox, monitor, "udp 7001", True),
            (toolbox, api, "tcp 7001", False),
            (monitor, web, "udp 7001", False),
        ):
            seconds = SECONDS_ALLOWED if allowed else SECONDS_DENIED
            seen = source.ask(target.ip(family), what, seconds)
            say = "allowed" if allowed else "denied"
            report.check(seen == allowed, f"{say}: {source.name} to {target.name}, {what}, {family}")
    full_size(report, web, api)
    iperf(report, web, api)


def full_size(report, web, api):
    """A megabyte both ways in segments as large as the tunnel takes."""
    for family, header in (("ipv4", 20), ("ipv6", 40)):
        seen = web.run("tcp", api.ip(family), 7001, "--bytes", 1_000_000, "--timeout", 5)
        mss_max = INNER_MAX - header - 20
        held = seen.get("ok") and mss_max - 64 <= seen["mss"] <= mss_max
        report.check(
            held, f"full-size TCP {family}: 1 MB there and back, MSS {seen.get('mss')} of {mss_max}"
        )


def iperf(report, web, api):
    """iperf3 between the pods; the figure is shown, not judged."""
    for family in ("ipv4", "ipv6"):
        server = api.netns.popen("iperf3", "-s", "-1", "-p", "5201", stdout=-3, stderr=-3)
        try:
            text = None
            for _ in range(50):
                # Until the server listens, a try is refused at once.
                time.sleep(0.1)
                text = web.netns.exec(
                    "iperf3", "-c", api.ip(family), "-p", "5201", "-t", "2", "-J",
                    "--connect-timeout", "2000", check=False,
                )
                if "sum_received" in text:
                    break
            got = json.loads(text)["end"]["sum_received"] if "sum_received" in text else {}
            report.check(got.get("bytes", 0) > 0, f"iperf3 {family}: {mbit(got)} between the nodes")
        finally:
            server.terminate()
            server.wait()


def mbit(received):
    return f"{received.get('bits_per_second', 0) / 1e6:.0f} Mbit/s"
