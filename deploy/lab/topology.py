"""The lab's two nodes, its wire and its pods' virtual functions.

    pod namespaces            node-a                       node-b
    +-----------+   veth   +------------------+  wire   +------------------+
    | eth0 (VF) |==========| vf0r  .......  p0 |=========| p0  .......      |
    +-----------+          | vf1r   DPDK      |         |                  |
                           | host0r.          |  mgmt   |                  |
                           | host0      mgmt0 |=========| mgmt0            |
                           +------------------+         +------------------+

What ends in `r` is what a DPU calls a representor, and belongs to the dataplane, as p0
does. `host0` is the node's own interface. `mgmt0` carries agents and the node channel.
"""

from dataclasses import dataclass, field

from netns import End, Netns, create, leave_to_dataplane, veth

VFS_PER_NODE = 4


@dataclass
class Node:
    """One node of the lab."""

    number: int
    netns: Netns
    uplink: End
    host: End
    host_representor: End
    vfs: list = field(default_factory=list)

    @property
    def name(self):
        return f"node-{chr(ord('a') + self.number - 1)}"

    @property
    def host_ips(self):
        return (f"192.0.2.{self.number}", f"2001:db8:2::{self.number}")

    @property
    def tunnel_ips(self):
        return (f"198.18.0.{self.number}", f"2001:db8:18::{self.number}")

    @property
    def mgmt_ip(self):
        return f"198.18.1.{self.number}"


@dataclass(frozen=True)
class Vf:
    """A virtual function: the end that a pod gets, and its representor."""

    index: int
    netdev: End
    representor: End

    @property
    def port(self):
        """Its name as a port of the dataplane."""
        return f"pf0vf{self.index}"


def mac(node, kind, index=0):
    """A locally administered address that says where it belongs."""
    return f"02:51:{node:02x}:00:{kind:02x}:{index:02x}"


def build():
    """Makes namespaces and links; returns the two nodes."""
    nodes = []
    for number in (1, 2):
        netns = create(f"node-{chr(ord('a') + number - 1)}")
        node = Node(
            number,
            netns,
            End(netns, "p0", mac(number, 1)),
            End(netns, "host0", mac(number, 2)),
            End(netns, "host0r", mac(number, 3)),
        )
        veth(node.host, node.host_representor)
        leave_to_dataplane(node.host_representor)
        netns.ip("address", "add", f"{node.host_ips[0]}/24", "dev", "host0")
        netns.ip("address", "add", f"{node.host_ips[1]}/64", "dev", "host0", "nodad")
        for index in range(VFS_PER_NODE):
            vf = Vf(
                index,
                End(netns, f"vf{index}", mac(number, 0x10, index)),
                End(netns, f"vf{index}r", mac(number, 0x20, index)),
            )
            veth(vf.netdev, vf.representor)
            leave_to_dataplane(vf.representor)
            node.vfs.append(vf)
        nodes.append(node)

    one, two = nodes
    veth(one.uplink, two.uplink)
    for node in nodes:
        leave_to_dataplane(node.uplink)
    veth(End(one.netns, "mgmt0", mac(1, 4)), End(two.netns, "mgmt0", mac(2, 4)))
    for node in nodes:
        node.netns.ip("address", "add", f"{node.mgmt_ip}/24", "dev", "mgmt0")
    return nodes
