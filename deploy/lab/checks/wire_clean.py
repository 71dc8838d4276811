"""What crossed the wire while pods talked."""

import wire

# To look for many keys in long captures takes a minute.
KEYS_SOUGHT = 20


def run(report, capture, when):
    report.section(f"the wire, {when}: nothing of pods but ESP")
    kinds, clear = wire.summary(capture.files)
    seen = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    report.check(kinds["ESP"] > 100 and set(kinds) <= set(wire.ALLOWED), f"frames: {seen}")
    report.check(
        clear == 0 and capture.missed == 0,
        f"frames with the payload's marker in clear: {clear}; missed by the capture: {capture.missed}",
    )


def inside(lab, report, capture):
    """With the lab's own keys tshark shows what a pod said; without them it can't."""
    profile = lab.folder / "wireshark"
    profile.mkdir(mode=0o700)
    sealed = sum(inner_flows(file, profile) for file in capture.files)
    keys = "".join(plane.keys.read_text() for plane in lab.planes)
    (profile / "esp_sa").write_text(keys)
    opened = [inner_flows(file, profile) for file in capture.files]
    report.check(
        sealed == 0 and all(opened),
        f"tshark shows {sum(opened)} packets of TCP port 7001 inside with the lab's keys, "
        f"{sealed} without",
    )


def holds_no_key(lab, report, capture):
    """The newest keys of both nodes are nowhere in it, neither as bytes nor as their hex."""
    keys = [key for plane in lab.planes for key in sent_by(plane)[-KEYS_SOUGHT // 2 :]]
    # Without the salt, which is no secret of its own.
    forms = [form for key in keys for form in (bytes.fromhex(key[2:-8]), key[2:-8].encode())]
    whole = [file.read_bytes() for file in capture.files]
    found = sum(form in data for form in forms for data in whole)
    report.check(
        len(keys) > 1 and not found, f"of {len(keys)} keys {found} are in {len(whole)} captures"
    )


def sent_by(plane):
    """The keys that a node sent by, in their order: `0x` and digits, the salt last."""
    return [line.split('","')[5] for line in plane.keys.read_text().splitlines()]


def inner_flows(file, profile):
    """Packets between the pods' port 7001 and shop/web that tshark can show."""
    text = wire.dissect(
        file,
        profile,
        "frame.number",
        display_filter="esp && tcp.port == 7001 && ip.addr == 10.244.1.10",
    )
    return len(text.splitlines())


def keys_once(lab, report):
    """No key was ever sent by twice, also not by a dataplane that came back: a sequence
    begins at 1 under each."""
    keys = [key for plane in lab.planes for key in sent_by(plane)]
    report.check(
        len(keys) == len(set(keys)) and len(keys) > 10, f"{len(keys)} keys to send by, no two the same"
    )
