"""What a container runtime does with a chained CNI configuration (CNI 1.0.0).

The first plugin of the chain is Debian's host-device, which moves the VF's netdev into the
pod as sriov-cni does; sluice-cni comes second and gets its result as `prevResult`.
"""

import json
import subprocess

VERSION = "1.0.0"
PLUGINS = "/usr/lib/cni"
# Longer than sluice-cni waits for its agent.
SECONDS_MAX = 40


class CniError(Exception):
    """A plugin refused; `.said` is its error as the specification has it."""

    def __init__(self, plugin, said):
        super().__init__(f"{plugin}: {said.get('msg')}: {said.get('details', '')}")
        self.said = said


class Chain:
    """One network: host-device with static addresses, then sluice-cni."""

    def __init__(self, node, sluice_cni, agent_socket):
        self.node = node
        self.sluice_cni = str(sluice_cni)
        self.agent_socket = str(agent_socket)

    def add(self, pod, vf, netns, addresses):
        """ADD of every plugin in order; returns the last result."""
        result = None
        for name, binary, config in self._plugins(vf, addresses):
            if result is not None:
                config["prevResult"] = result
            result = self._call(name, binary, "ADD", pod, netns.path, config)
        return result

    def check(self, pod, vf, netns, addresses, result):
        """CHECK of every plugin; raises CniError when one objects."""
        for name, binary, config in self._plugins(vf, addresses):
            config["prevResult"] = result
            self._call(name, binary, "CHECK", pod, netns.path, config)

    def delete(self, pod, vf, netns, addresses, result=None):
        """DEL in reverse order."""
        for name, binary, config in reversed(self._plugins(vf, addresses)):
            if result is not None:
                config["prevResult"] = result
            self._call(name, binary, "DEL", pod, netns.path, config)

    def sluice(self, pod, vf, netns, result, command, interface="eth0"):
        """One call of sluice-cni alone."""
        _, binary, config = self._plugins(vf, [])[1]
        if result is not None:
            config["prevResult"] = result
        return self._call("sluice-cni", binary, command, pod, netns.path, config, interface)

    def _plugins(self, vf, addresses):
        network = {"cniVersion": VERSION, "name": "sluice-lab"}
        device = {
            **network,
            "type": "host-device",
            "device": vf.netdev.name,
            "ipam": {
                "type": "static",
                "addresses": [
                    {"address": address, "gateway": gateway} for address, gateway in addresses
                ],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        }
        sluice = {**network, "type": "sluice-cni", "socket": self.agent_socket, "port": vf.port}
        return [
            ("host-device", f"{PLUGINS}/host-device", device),
            ("sluice-cni", self.sluice_cni, sluice),
        ]

    def _call(self, name, binary, command, pod, netns_path, config, interface="eth0"):
        namespace, pod_name = pod.split("/")
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"{namespace}-{pod_name}",
            "CNI_NETNS": netns_path,
            "CNI_IFNAME": interface,
            "CNI_PATH": PLUGINS,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod_name}",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        # The runtime lives in the node's network, as the VF's netdev does.
        done = subprocess.run(
            ["ip", "netns", "exec", self.node.netns.name, binary],
            input=json.dumps(config),
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        said = json.loads(done.stdout) if done.stdout.strip() else {}
        if done.returncode != 0:
            raise CniError(name, said or {"msg": done.stderr.strip()})
        return said
