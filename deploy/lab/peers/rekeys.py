"""strongSwan as in `strongswan.py`, as a service: `sluice-ike` starts the charon beside the
dataplane, reads its log, and programs the dataplane through its socket. Every two seconds the
child SA is rekeyed, by the peer, by us, and by both at the same moment, while numbered datagrams go
both ways: none may be lost, though the dataplane gets each SA 200 ms late.
"""

import contextlib
import json
import re
import secrets
import socket
import subprocess
import threading
import time
from pathlib import Path

import traffic
from daemons import DaemonError, wait_for
from netns import remove_all
from peers.hosts import DATAPLANE, POD
from peers.strongswan import INNER, PEER, PORT_NAT_T, Charon, Swan
from pods import TRAFFIC
from shell import ENDED_EARLY
from stream import lost_by_sockets
from wire import frames

CIPHER = "aes256gcm16"
REKEY_SECONDS = 2
# Where both ends are asked at once: some of these cross.
CROSS_SECONDS = 1
# Two rekeys at least.
SECONDS = 9
RATE = 250
# Of each request to the dataplane.
LATE_SECONDS = 0.2
PORT = 7003
# A run in which the kernel itself lost frames is void, and done again; so is one in which nothing
# crossed that should, and one that lost something after a charon had dropped an answer.
RUNS_MAX = 5
# charon 5.9.8 takes the answer to its request for the peer's request under the same number come
# again, while it answers that. Its own request is sent again after 4 s, and meanwhile the peer
# may renew what it alone has, be told that there is no such child, and end it: by charon's book the
# dataplane then sends by what nobody receives. Only where both ends ask at once their numbers meet,
# and of forty runs one or two do: more in a row than so many are not charon's.
DROPPED_RUNS_MAX = 2
ASKED = re.compile(r"generating \S+ request (\d+) ")
ANSWERED = re.compile(r"parsed \S+ response (\d+) ")
DROPPED = re.compile(r"ignoring request with ID (\d+), already processing")
# Level 3 of ENC: what holds charon back.
LOG = "chd = 4\n enc = 3\n cfg = 1"
# charon has a child SA only where its inner addresses are, and its own libipsec gets every ESP
# packet, too, as the kernel does. What that hands out, and answers, goes nowhere: it would be
# sealed under the key that the dataplane seals under.
SILENCE = """table inet sluice_ike {
 chain inbound {
  type filter hook input priority 0
  iifname "ipsec*" drop
 }
 chain outbound {
  type filter hook output priority 0
  oifname "ipsec*" drop
 }
}
"""


class Late:
    """Stands in front of the dataplane's socket and passes each request on late: a peer that is
    told of an SA before the dataplane has it would lose dozens of datagrams."""

    def __init__(self, path, to):
        self.path, self.to = path, to
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        asker, _ = self.listener.accept()
        with asker, socket.socket(socket.AF_UNIX) as dataplane:
            dataplane.connect(str(self.to))
            answers = dataplane.makefile("rb")
            # Until either end has gone.
            with contextlib.suppress(ConnectionError):
                for line in asker.makefile("rb"):
                    time.sleep(LATE_SECONDS)
                    dataplane.sendall(line)
                    asker.sendall(answers.readline())

    def close(self):
        self.listener.close()


class Service(Swan):
    """The dataplane, and charon under `sluice-ike`."""

    def __init__(self, binary, folder, rekeyed_by):
        super().__init__(binary, folder, CIPHER)
        self.ike = binary.with_name("sluice-ike")
        self.socket = folder / "sas.sock"
        self.rekeyed_by, self.late = rekeyed_by, None
        for address in POD.values():
            self.bed.node.ip("address", "add", address, "dev", "lo")
        self.bed.node.exec("nft", "-f", "-", stdin=SILENCE)

    def agree(self):
        """Starts both charons; returns when the dataplane has SAs."""
        secret = secrets.token_hex(32)

        def child(name):
            ours = name in self.rekeyed_by
            start = "start" if name == "local" else "none"
            return (
                f"rekey_time = {REKEY_SECONDS if ours else 0}s\n rand_time = 0\n life_time = 60s\n"
                f" start_action = {start}"
            )

        folder, cipher = self.folder, f"{CIPHER}-x25519"
        self.charons["peer"] = Charon(
            self.peer, "peer", folder, "local", cipher, secret, log="", child=child("peer")
        )
        self.late = Late(self.folder / "late.sock", self.socket)
        command = (self.ike, "--dataplane", self.late.path, "--peer", "c=swan", "--udp-encap", "--")
        self.charons["local"] = Charon(
            self.bed.node, "local", folder, "peer", cipher, secret, LOG, command, child("local")
        )
        wait_for("SAs of both directions", lambda: len(self.sas()) == 2)

    def close(self):
        if self.late:
            self.late.close()
        super().close()

    def rekey_both(self):
        """Has both ends begin a rekey within microseconds, so that their requests cross."""
        # VICI: a request named `rekey`, whose message is `child = c`.
        request = bytes([0, 5]) + b"rekey" + bytes([3, 5]) + b"child" + bytes([0, 1]) + b"c"
        paths = [charon.vici.removeprefix("unix://") for charon in self.charons.values()]
        for _ in range(SECONDS // CROSS_SECONDS):
            with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
                ends = (one, other)
                for end, path in zip(ends, paths, strict=True):
                    end.connect(path)
                for end in ends:
                    end.sendall(len(request).to_bytes(4, "big") + request)
                time.sleep(CROSS_SECONDS)

    def collisions(self):
        """How often the local charon saw two rekeys cross."""
        log = (self.folder / "local/charon.log").read_text(errors="replace")
        return log.count("collision with CHILD_REKEY")

    def dropped_answers(self):
        """How often a charon took an answer for a request that came again: it had asked under that
        number itself and had no answer yet."""
        dropped = 0
        for name in self.charons:
            asked = set()
            log = (self.folder / name / "charon.log").read_text(errors="replace")
            for line in log.splitlines():
                if found := ASKED.search(line):
                    asked.add(found[1])
                elif found := ANSWERED.search(line):
                    asked.discard(found[1])
                elif found := DROPPED.search(line):
                    dropped += found[1] in asked
        return dropped

    def tell(self, **request):
        """The dataplane's answer on its SA socket."""
        with socket.socket(socket.AF_UNIX) as to:
            to.settimeout(10)
            to.connect(str(self.socket))
            to.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(to.makefile().readline())

    def sas(self):
        return {(it["direction"], it["spi"]) for it in self.tell(list={})["sas"]}

    def lost_in_kernel(self):
        """Frames that packet rings and charon's own interface lost, and datagrams that sockets had
        no room for, charon's with its ESP among them."""
        metrics = self.bed.metrics().items()
        lost = sum(n for name, n in metrics if name.startswith("sluice_device_lost_frames_total"))
        for link in json.loads(self.peer.ip("-j", "-s", "link", "show")):
            if link["ifname"].startswith("ipsec"):
                lost += sum(link["stats64"][way]["dropped"] for way in ("rx", "tx"))
        return lost + sum(map(lost_by_sockets, (self.bed.pod, self.peer)))

    def stream(self, sender, receiver, host):
        """Numbered datagrams from one namespace to another: what ends it."""
        words = ["/usr/bin/python3", TRAFFIC]
        hears = receiver.popen(
            *words, "receive", PORT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        hears.stdout.readline()
        sends = sender.popen(
            *words, "send", host, PORT, "--rate", RATE, "--seconds", SECONDS, "--bytes", 200,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

        def end():
            sent = json.loads(sends.communicate(timeout=60)[0].splitlines()[-1])
            # What is on its way, through a charon, still arrives: `receive` waits for it.
            said, _ = hears.communicate("\n", timeout=30)
            return sent, json.loads(said.splitlines()[-1])

        return end


def whole(sent, received):
    lost = sent["sent"] - received["received"]
    return not (lost or received["twice"] or sent["refused"])


def check_streams(service, report, who):
    seconds = REKEY_SECONDS if service.rekeyed_by else CROSS_SECONDS
    void_by_charon = 0
    for left in reversed(range(RUNS_MAX)):
        before, dropped = service.lost_in_kernel(), service.dropped_answers()
        ends = [
            service.stream(service.bed.pod, service.peer, INNER["ipv4"]),
            service.stream(service.peer, service.bed.pod, POD["ipv4"]),
        ]
        if not service.rekeyed_by:
            service.rekey_both()
        outcomes = [end() for end in ends]
        lost = service.lost_in_kernel() - before
        missing = sum(sent["sent"] - received["received"] for sent, received in outcomes)
        if 0 < missing <= lost and left:
            report.note(f"void: the kernel's packet rings lost {lost:.0f} frames; again")
        elif (
            missing
            and left
            and not service.rekeyed_by
            and void_by_charon < DROPPED_RUNS_MAX
            and service.dropped_answers() > dropped
        ):
            void_by_charon += 1
            report.note(f"void: {missing} lost, and charon had dropped an answer; again")
        elif not missing and left and not (service.rekeyed_by or service.collisions()):
            report.note("no rekeys crossed: each end had done before the other began; again")
        else:
            break
    told = ", ".join(f"{it['received']} of {sent['sent']}" for sent, it in outcomes)
    report.check(
        all(whole(*it) for it in outcomes),
        f"rekeyed by {who} every {seconds} s: {told} datagrams, out and in, none twice",
    )
    if not service.rekeyed_by:
        crossed = service.collisions()
        report.check(crossed > 0, f"{crossed} rekeys crossed, as charon tells")


def check_drops(service, report):
    reasons = ("esp", "spi", "no-sa", "plaintext")
    found = service.bed.drops().items()
    drops = {key: n for key, n in found if any(it in key[1] for it in reasons)}
    report.check(not drops, f"the dataplane drops nothing for want of an SA: {drops or 'none'}")


def check_wire(service, report):
    """Every (SPI, number) once, of several SAs each way, and nothing in clear."""
    seen, twice, clear = {"out": {}, "in": {}}, 0, 0
    to = ("in", DATAPLANE["ipv4"]), ("out", PEER)
    for (way, address), file in zip(to, service.capture.files, strict=True):
        address = socket.inet_aton(address)
        for frame in frames(file):
            clear += traffic.MARKER in frame
            # IPv4 to this end, UDP 4500, not IKE's marker and no keepalive.
            if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[30:34] != address:
                continue
            if int.from_bytes(frame[36:38], "big") != PORT_NAT_T or len(frame) < 64:
                continue
            spi, number = frame[42:46], frame[46:50]
            if spi == bytes(4):
                continue
            numbers = seen[way].setdefault(spi, set())
            twice += number in numbers
            numbers.add(number)
    counts = {way: len(it) for way, it in seen.items()}
    report.check(
        min(counts.values()) >= 3 and not twice and not clear,
        f"SAs seen on the wire: {counts}; {twice} numbers twice under a key, {clear} in clear",
    )


def check_refusals(service, report):
    """What may not be, isn't."""
    add = {"direction": "inbound", "peer": "swan", "spi": 0x1001, "algorithm": CIPHER}
    add |= {"keymat": secrets.token_hex(36), "esn": False}
    wrong = {
        "unknown-peer": add | {"peer": "nobody"},
        "key": add | {"keymat": "00"},
        "duplicate-spi": add | {"spi": next(spi for way, spi in service.sas() if way == "inbound")},
    }
    said = {it: service.tell(add=request) for it, request in wrong.items()}
    first, again = service.tell(add=add), service.tell(add=add | {"spi": 0x1002})
    said["used-key"] = again
    gone = service.tell(remove={it: add[it] for it in ("direction", "peer", "spi")})
    refused = {it: answer.get("refused", {}).get("reason") for it, answer in said.items()}
    mode = service.socket.stat().st_mode & 0o777
    report.check(
        all(it == reason for it, reason in refused.items()) and first == gone == {"done": {}},
        f"refused, as they should be: {', '.join(refused.values())}",
    )
    report.check(mode == 0o600, f"the socket's mode is {mode:o}")


def check_end(service, report):
    """Its end ends charon; the dataplane goes on without."""
    charon = service.charons["local"].process
    (started,) = Path(f"/proc/{charon.pid}/task/{charon.pid}/children").read_text().split()
    limits = Path(f"/proc/{started}/limits").read_text().splitlines()
    (core,) = (line.split()[4:6] for line in limits if line.startswith("Max core file size"))
    report.check(core == ["1", "1"], "charon, which has the keys as well, may leave no core dump")
    charon.terminate()
    # It gives charon ten seconds.
    code = charon.wait(30)
    logged = (service.folder / "local/out").read_text(errors="replace")
    used = (service.folder / "used-keys").read_text().split()
    held = service.tell(list={})["sas"]
    report.check(
        code == 0 and "in force" in logged and len(used) == len(set(used)) >= 6,
        f"told to end, sluice-ike ends with {code}; {len(used)} keys were used once each",
    )
    report.check(len(held) >= 2, f"the dataplane still has {len(held)} SAs, up to their limits")


def run_all(binary, folder, report):
    """Every check: the peer rekeys, we do, both do at once."""
    report.section("strongSwan and sluice-ike: IKEv2 as a service")
    for rekeyed_by, who in ((("peer",), "the peer"), (("local",), "us"), ((), "both at once")):
        part = folder / who.replace(" ", "-")
        part.mkdir()
        service = None
        try:
            service = Service(binary, part, rekeyed_by)
            service.start(sa_socket=service.socket)
            service.agree()
            # Here no SA goes by itself meanwhile.
            if not rekeyed_by:
                check_refusals(service, report)
            # Both ends' neighbors, and charon's route.
            warm = service.bed.pod_asks("tcp", INNER["ipv4"], 1000)
            report.check(warm.get("ok"), f"pod and peer speak by TCP: {warm}")
            check_streams(service, report, who)
            check_drops(service, report)
            check_end(service, report)
        except (DaemonError, *ENDED_EARLY) as error:
            report.check(False, f"the checks ended early: {error}")
        finally:
            if service:
                service.close()
                if service.capture:
                    check_wire(service, report)
            remove_all()
