"""A paced stream of numbered datagrams between two pods, and what was lost of it."""

import subprocess

# A run is void when the kernel itself lost frames between two programs that share a core;
# it is done again this often, and each time is shown.
RUNS_MAX = 3
PORT = 7002
RATE = 1000


class Stream:
    """1,000 datagrams a second from one pod to another, for a while."""

    def __init__(self, source, target, seconds):
        self.target = target
        self.receiver, _ = target.start("receive", PORT, stdin=subprocess.PIPE)
        self.sender = source.netns.popen(
            *source.command("send", target.ipv4, PORT, "--rate", RATE, "--seconds", seconds,
                            "--bytes", 200),
            stdout=subprocess.PIPE, text=True,
        )

    def end(self):
        """Waits for the sender; what was sent and received."""
        sent, _ = self.sender.communicate(timeout=120)
        return self.target.last_line(sent), self.target.tell_to_stop(self.receiver)


def undisturbed(lab, report, seconds, source, target, during):
    """Sends a stream while `during()` happens, and again if the kernel's rings lost frames
    meanwhile; what was sent and received."""
    for left in reversed(range(RUNS_MAX)):
        before = sum(plane.lost_in_kernel() for plane in lab.planes)
        stream = Stream(source, target, seconds)
        during(stream)
        sent, received = stream.end()
        lost = sum(plane.lost_in_kernel() for plane in lab.planes) - before
        missing = sent["sent"] - received["received"]
        # Only what the kernel lost is forgiven: no more than it counted, nothing twice.
        kernels = 0 < missing <= lost and not received["twice"] and not sent["refused"]
        if not kernels or not left:
            return sent, received
        report.note(f"void: the kernel's packet rings lost {lost:.0f} frames; again")
    raise AssertionError("RUNS_MAX is 0")


def say(sent, received):
    return f"{sent['sent']} sent, {received['received']} received, {received['twice']} twice"


def nothing_lost(sent, received):
    return sent["refused"] == 0 and received["received"] == sent["sent"] and not received["twice"]
