"""New keys every second, under traffic, and a new certificate meanwhile."""

from daemons import wait_for
from stream import Load, nothing_lost, say, undisturbed

SECONDS = 8


def epochs(plane):
    """How often SAs came into use both ways: the first, and each rekey."""
    counted = plane.metrics().items()
    return sum(value for name, value in counted if name.startswith("sluice_channel_epochs_total"))


def expires(plane):
    return plane.metrics()["sluice_channel_svid_expires_timestamp_seconds"]


def run(lab, report):
    monitor, toolbox = lab.pods["ops/monitor"], lab.pods["ops/toolbox"]
    report.section(f"rekey: every second under traffic, {Load.MBIT} Mbit/s the other way")
    plane = lab.plane(monitor)
    # Of the last run; a void one's don't count.
    rekeys, load = 0, (0, 0)

    def watch(stream):
        nonlocal rekeys, load
        before = epochs(plane)
        # The other way: SAs of both directions are renewed under traffic.
        beside = Load(toolbox, monitor, SECONDS)
        # For the same key, good for as long from now on: the next sessions are begun with it.
        good_until = expires(plane)
        plane.certify(lab.authority)
        wait_for("the new certificate", lambda: expires(plane) > good_until)
        stream.sender.wait()
        load = beside.end()
        rekeys = epochs(plane) - before
        return load[1]

    sent, received = undisturbed(lab, report, SECONDS, monitor, toolbox, watch)
    # Each begins a second after the one before was done, whenever that had a core to run on.
    report.check(rekeys >= SECONDS / 2, f"{rekeys:.0f} rekeys in {SECONDS} s")
    report.check(nothing_lost(sent, received), f"{say(sent, received)}; a new certificate meanwhile")
    packets, lost = load
    wanted = Load.MBIT * 1_000_000 / 8 / Load.BYTES * SECONDS
    report.check(
        packets > wanted / 2 and not lost, f"iperf3: {packets} datagrams sent, {lost} of them lost"
    )
