"""New keys every second, under traffic."""

from stream import nothing_lost, say, undisturbed

SECONDS = 6


def run(lab, report):
    monitor, toolbox = lab.pods["ops/monitor"], lab.pods["ops/toolbox"]
    report.section("rekey: every second under traffic")
    plane = lab.plane(monitor)
    before = plane.sas()
    seen = set()

    def watch(stream):
        # A void run's rekeys don't count for the next.
        seen.clear()
        while stream.sender.poll() is None:
            seen.update(plane.sas())

    sent, received = undisturbed(lab, report, SECONDS, monitor, toolbox, watch)
    rekeys = len(seen - before) // 2
    report.check(rekeys >= SECONDS // 2, f"{rekeys} rekeys in {SECONDS} s")
    report.check(nothing_lost(sent, received), say(sent, received))
