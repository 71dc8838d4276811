"""What crossed the wire while pods talked."""

import wire


def run(lab, report, files):
    report.section("the wire: nothing of pods but ESP")
    kinds, clear = wire.summary(files)
    seen = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    report.check(kinds["ESP"] > 100 and set(kinds) <= set(wire.ALLOWED), f"frames: {seen}")
    report.check(clear == 0, f"frames with the payload's marker in clear: {clear}")
    inside(lab, report, files)


def inside(lab, report, files):
    """With the lab's own keys tshark shows what a pod said; without them it can't."""
    profile = lab.folder / "wireshark"
    profile.mkdir(mode=0o700)
    sealed = sum(inner_flows(file, profile) for file in files)
    keys = "".join(plane.keys.read_text() for plane in lab.planes)
    (profile / "esp_sa").write_text(keys)
    opened = [inner_flows(file, profile) for file in files]
    report.check(
        sealed == 0 and all(opened),
        f"tshark shows {sum(opened)} packets of TCP port 7001 inside with the lab's keys, "
        f"{sealed} without",
    )


def inner_flows(file, profile):
    """Packets between the pods' port 7001 and shop/web that tshark can show."""
    text = wire.dissect(
        file, profile, "frame.number", display_filter="esp && tcp.port == 7001 && ip.addr == 10.244.1.10"
    )
    return len(text.splitlines())
