"""The daemons of a node: their configuration, start, end and what they say."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from shell import CommandError, run

DOMAIN = "lab.example"
SECONDS_MAX = 30


class DaemonError(Exception):
    """A daemon did not come up, or ended by itself."""


def wait_for(what, condition, seconds=SECONDS_MAX):
    """Waits until `condition()` is true; returns how long it took, in seconds."""
    began = time.monotonic()
    while True:
        value = condition()
        took = time.monotonic() - began
        if value:
            return took
        if took > seconds:
            raise DaemonError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def risen(counter, before):
    """Waits until a counter has risen, or five seconds: who counts may have to wait for a core."""
    with contextlib.suppress(DaemonError):
        wait_for("a counter", lambda: counter() > before, 5)


class Binaries:
    """Where the programs are."""

    def __init__(self, folder):
        folder = Path(folder).resolve()
        self.dataplane = folder / "sluice-dataplane"
        self.agent = folder / "sluice-agent"
        self.cni = folder / "sluice-cni"
        self.ctl = folder / "sluicectl"
        for binary in (self.dataplane, self.agent, self.cni, self.ctl):
            if not binary.exists():
                raise DaemonError(f"{binary} is not there: build it first (make lab does)")


class Daemon:
    """One process in a node's namespace, with its log."""

    def __init__(self, name, netns, command, log):
        self.name, self.netns, self.command, self.log = name, netns, command, log
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = self.netns.popen(*self.command, stdout=log, stderr=log)

    def check(self):
        """Raises DaemonError when it has ended."""
        if self.process and self.process.poll() is not None:
            tail = Path(self.log).read_text(errors="replace").splitlines()[-12:]
            raise DaemonError(
                f"{self.name} ended with {self.process.returncode}:\n  " + "\n  ".join(tail)
            )

    def kill(self):
        """SIGKILL: no chance to tidy up. `ip netns exec` replaces itself by the daemon."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None


class Plane:
    """Dataplane and agent of one node."""

    def __init__(self, node, peer, binaries, folder, rekey_ms):
        self.node, self.binaries = node, binaries
        self.folder = Path(folder) / node.name
        self.folder.mkdir()
        self.manifests = self.folder / "manifests"
        self.manifests.mkdir()
        self.agent_socket = self.folder / "agent.sock"
        self.verdicts = self.folder / "verdicts.jsonl"
        self.keys = self.folder / "esp_sa"
        self.dataplane_config = self._write("dataplane.yaml", self._dataplane(peer, rekey_ms))
        self.agent_config = self._write("agent.yaml", self._agent())
        (self.folder / "state").mkdir(mode=0o700)
        self.dataplane = Daemon(
            f"sluice-dataplane of {node.name}",
            node.netns,
            [binaries.dataplane, "--config", self.dataplane_config],
            self.folder / "dataplane.log",
        )
        self.agent = Daemon(
            f"sluice-agent of {node.name}",
            node.netns,
            [binaries.agent, "--config", self.agent_config],
            self.folder / "agent.log",
        )

    def _write(self, name, document):
        path = self.folder / name
        # JSON is YAML.
        path.write_text(json.dumps(document, indent=2))
        return path

    def _dataplane(self, peer, rekey_ms):
        node = self.node
        # One on the first node and two on the second: what one sends by two SAs for two
        # workers is one worker's at the other end.
        workers = node.number

        def port(name, kind, end):
            device = f"net_af_packet_{end.name},iface={end.name},qpairs={workers}"
            return {"name": name, "kind": kind, "device": device}

        ports = [port("uplink", "uplink", node.uplink)]
        ports.append(port("host", "host", node.host_representor))
        ports += [port(vf.port, "vf", vf.representor) for vf in node.vfs]
        return {
            "node": node.name,
            "eal": {"no_huge_mib": 256},
            "ports": ports,
            "worker": {"count": workers, "idle": {"policy": "adaptive", "sleep_us_max": 200}},
            "listen": {"unix": {"path": "dataplane.sock"}},
            "checkpoint": "generation",
            "metrics": "127.0.0.1:9100",
            "node_channel": {
                "listen": f"{node.mgmt_ip}:9444",
                "trust_domain": DOMAIN,
                "svid": "node.pem",
                "key": "node.key",
                "anchors": "trust.pem",
                "peers": [{"node": peer.name, "address": f"{peer.mgmt_ip}:9444"}],
                "rekey_ms": rekey_ms,
                "lab_key_file": "esp_sa",
            },
        }

    def _agent(self):
        node = self.node
        v4, v6 = node.tunnel_ips
        return {
            "node": node.name,
            "source": {"directory": "manifests"},
            "dataplane": {"unix": "dataplane.sock"},
            "uplink": {
                "port": "uplink",
                "mac": node.uplink.mac,
                "mtu": 1500,
                "interfaces": [{"address": f"{v4}/24"}, {"address": f"{v6}/64"}],
            },
            "host": {"port": "host", "mac": node.host.mac, "mtu": 1500},
            "vfs": [
                {"port": vf.port, "index": vf.index, "mac": vf.netdev.mac, "mtu": 1500}
                for vf in node.vfs
            ],
            "state": "state",
            "socket": "agent.sock",
            "verdict_log": {"path": "verdicts.jsonl", "allowed": True},
        }

    def certify(self, authority):
        """The dataplane makes its key; the CA, elsewhere, signs the request."""
        request = self.folder / "node.csr"
        request.write_text(
            run(self.binaries.dataplane, "--config", self.dataplane_config, "--make-request")
        )
        ctl = self.binaries.ctl
        run(ctl, "ca", "sign", "--dir", authority, "--csr", request, "--out", self.folder / "node.pem")
        run(ctl, "ca", "trust", "--dir", authority, "--out", self.folder / "trust.pem")

    def put_manifest(self, name, text):
        """Writes a manifest as its reader wants it: whole, by a rename."""
        hidden = self.manifests / f".{name}"
        hidden.write_text(text)
        os.rename(hidden, self.manifests / name)

    def remove_manifest(self, name):
        (self.manifests / name).unlink()

    def ctl(self, *words, check=True):
        """A sluicectl command's JSON."""
        text = run(
            self.binaries.ctl, "--socket", self.agent_socket, "--output", "json", *words, check=check
        )
        return json.loads(text) if text.strip() else {}

    def table(self, *words):
        """A sluicectl command's table, for a person."""
        return run(self.binaries.ctl, "--socket", self.agent_socket, *words, check=False)

    def logged_verdicts(self):
        """What the verdict log says, without a last line that isn't whole yet."""
        text = self.verdicts.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def in_step(self):
        """Whether the dataplane acknowledged what the agent wants, and nothing is wrong."""
        self.dataplane.check()
        self.agent.check()
        if not self.agent_socket.exists():
            return False
        try:
            status = self.ctl("status", check=False).get("agent", {})
        except (CommandError, ValueError):
            # The socket of an agent that was killed, and nobody behind it.
            return False
        return status.get("connected") and status.get("settled") and not status.get("problems")

    def sas(self):
        """The SPIs of the SAs in force, both directions."""
        return {sa["spi"] for sa in self.ctl("sa", check=False).get("sas", [])}

    def lost_in_kernel(self):
        """Frames that the kernel's packet rings lost: no fault of the dataplane."""
        return sum(
            value
            for name, value in self.metrics().items()
            if name.startswith("sluice_device_lost_frames_total")
        )

    def drops(self):
        """What the dataplane dropped, by port and reason, and by the state of its SAs."""
        counted = self.metrics().items()
        return {name: value for name, value in counted if "drop" in name or "lost" in name}

    def metrics(self):
        """The dataplane's counters by their line's name and labels."""
        script = (
            "import urllib.request as u;"
            "print(u.urlopen('http://127.0.0.1:9100/metrics',timeout=5).read().decode())"
        )
        text = self.node.netns.exec("python3", "-c", script)
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in pairs}

    def stop(self):
        self.agent.stop()
        self.dataplane.stop()
