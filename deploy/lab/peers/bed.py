"""A sluice-dataplane in static mode with one pod, and a wire whose other end is a foreign peer."""

import json
import subprocess
from pathlib import Path

from daemons import Daemon, wait_for
from netns import End, create, leave_to_dataplane, veth
from peers.hosts import DATAPLANE, POD, PREFIX
from pods import TRAFFIC

ECHO_PORT = 7
# For an answer that has to come, on a machine that has others to serve.
PATIENCE_SECONDS = 20
UPLINK_MAC = "02:51:01:00:01:00"
POD_MAC = "02:51:01:00:04:00"
# Any address of the pod's net will do: the dataplane answers for all.
ROUTERS = {"ipv4": "10.244.1.1", "ipv6": "fd00:10:244:1::1"}


def asks(netns, kind, host, length):
    """One exchange of a namespace with an echo server."""
    words = ["/usr/bin/python3", TRAFFIC, kind, host, ECHO_PORT, "--bytes", length]
    words += ["--timeout", PATIENCE_SECONDS]
    text = netns.exec(*words, check=False, timeout=3 * PATIENCE_SECONDS)
    return json.loads(text.splitlines()[-1]) if text.strip() else {"ok": False}


class Bed:
    """Namespaces, links and daemon; `close` ends what it started."""

    def __init__(self, binary, folder, uplink):
        """`uplink` is the name of an interface in `self.node` that the caller makes."""
        self.folder, self.uplink = Path(folder), uplink
        self.node, self.pod = create("esp-node"), create("esp-pod")
        eth0 = End(self.pod, "eth0", POD_MAC)
        self.representor = End(self.node, "vf0r", "02:51:01:00:04:01")
        veth(eth0, self.representor)
        leave_to_dataplane(self.representor)
        for family, address in POD.items():
            router = ROUTERS[family]
            self.pod.ip("address", "add", f"{address}/{PREFIX[family]}", "dev", "eth0")
            self.pod.ip("route", "add", "default", "via", router, "dev", "eth0")
        config = self.folder / "dataplane.yaml"
        command = [binary, "--config", config]
        self.daemon = Daemon("sluice-dataplane", self.node, command, self.folder / "dataplane.log")
        self.config, self.server = config, None

    def configure(self, manifests, peers, sas, keys, sa_socket=None):
        """Writes what static mode reads."""
        (self.folder / "manifests").mkdir()
        everyone = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab"}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "sluice"}},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "web", "namespace": "lab"},
                "spec": {"nodeName": "sluice"},
                "status": {"podIPs": [{"ip": it} for it in POD.values()]},
            },
            *manifests,
        ]
        text = "\n---\n".join(json.dumps(it, indent=1) for it in everyone)
        (self.folder / "manifests/all.yaml").write_text(text)
        (self.folder / "keys").mkdir(mode=0o700)
        for name, key in keys.items():
            path = self.folder / "keys" / name
            path.touch(mode=0o600)
            path.write_text(key.hex())
        interfaces = [{"address": f"{DATAPLANE[it]}/{PREFIX[it]}"} for it in DATAPLANE]
        port = lambda name, kind, device, mac, **more: dict(
            name=name, kind=kind, device=device, mac=mac, **more)  # fmt: skip
        devices = {it: f"net_af_packet_{it},iface={it}" for it in (self.uplink, "vf0r")}
        document = {
            "node": "sluice",
            "eal": {"no_huge_mib": 256},
            "ports": [
                port("uplink", "uplink", devices[self.uplink], UPLINK_MAC, interfaces=interfaces),
                port("host", "host", "net_null0,no-rx=1", "02:51:01:00:02:00"),
                port("vf0", "vf", devices["vf0r"], POD_MAC, vf=0),
            ],
            "worker": {"flows": 4096, "idle": {"policy": "adaptive", "sleep_us_max": 200}},
            "metrics": "127.0.0.1:9100",
            "static": {
                "manifests": "manifests",
                "pods": [{"pod": "lab/web", "port": "vf0"}],
                "peers": peers,
                "sas": sas,
            },
        }
        if sa_socket:
            document["static"]["sa_socket"] = {"path": str(sa_socket), "used_keys": "used-keys"}
        # JSON is YAML.
        self.config.write_text(json.dumps(document, indent=2))

    def start(self):
        """Starts the dataplane and the pod's echo server; returns when both answer."""
        self.daemon.start()
        wait_for("the dataplane", self._answers)
        words = ["/usr/bin/python3", TRAFFIC, "serve", ECHO_PORT]
        self.server = self.pod.popen(*words, stdout=subprocess.PIPE, text=True)
        self.server.stdout.readline()

    def _answers(self):
        self.daemon.check()
        try:
            return bool(self.metrics())
        except Exception:  # noqa: BLE001  (nobody listens yet)
            return False

    def metrics(self):
        """The dataplane's counters by name and labels."""
        script = (
            "import urllib.request as u;"
            "print(u.urlopen('http://127.0.0.1:9100/metrics',timeout=5).read().decode())"
        )
        text = self.node.exec("/usr/bin/python3", "-c", script)
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in pairs}

    def drops(self):
        """Frames dropped, by port and reason."""
        found = {}
        for name, value in self.metrics().items():
            if name.startswith("sluice_port_drops_total{") and value:
                labels = dict(it.split("=") for it in name[name.index("{") + 1 : -1].split(","))
                found[labels["port"].strip('"'), labels["reason"].strip('"')] = int(value)
        return found

    def pod_asks(self, kind, host, length):
        """One exchange of the pod with an echo server."""
        return asks(self.pod, kind, host, length)

    def close(self):
        if self.server:
            self.server.kill()
            self.server.wait()
        self.daemon.stop()
