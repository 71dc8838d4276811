"""A pod that comes while somebody is already knocking, and one that goes."""

import subprocess

from cni import CniError
from daemons import wait_for


def run(lab, report):
    report.section("CNI: a pod under default deny is protected before ADD returns")
    toolbox = lab.pods["ops/toolbox"]
    late = lab.new_pod("shop/late", 0, 3, 14)
    # Knocks from before its interface exists, at a pod that refuses nobody.
    knocking, _ = late.start("knock", toolbox.ipv4, "7001", "--timeout", "0.05", stdin=subprocess.PIPE)
    late.add(lab.chains[late.node.name])
    late.serve(7001)
    report.check(not late.ask(toolbox.ipv4, "tcp 7001", 0.5), "its first connection is denied")
    report.check(not toolbox.ask(late.ipv4, "tcp 7001", 0.5), "a connection to it is denied")
    seen = late.tell_to_stop(knocking)
    report.check(
        seen["tries"] > 3 and seen["admitted"] == 0,
        f"{seen['tries']} tries from before ADD until now, {seen['admitted']} let in",
    )
    # Denied is not dead: the same pod answers its own node, which may always reach it.
    node = lab.nodes[0].netns
    answer = node.exec(*late.command("tcp", late.ipv4, "7001", "--timeout", "3"), check=False)
    report.check('"ok": true' in answer, "its node reaches it (kubelet's right), so it is alive")
    chain = lab.chains[late.node.name]
    chain.check(late.name, late.vf, late.netns, late.addresses, late.result)
    report.check(True, "CHECK finds it as ADD left it")
    second = lab.new_pod("shop/web", 0, 3, 10, suffix="again")
    try:
        chain.sluice(second.name, late.vf, second.netns, late.result, "ADD", "again")
        report.check(False, "a second pod on one VF is refused")
    except CniError as error:
        report.check(True, f"a second pod on one VF is refused: {error.said.get('details')}")


def delete(lab, report):
    report.section("CNI: DEL takes everything away")
    web, cart = lab.pods["shop/web"], lab.pods["shop/cart"]
    report.check(web.ask(cart.ipv4, "tcp 7001", 3.0), "before DEL: shop/web reaches shop/cart")
    chain = lab.chains[cart.node.name]
    # The pod still has its interface: it is the dataplane that closes.
    chain.sluice(cart.name, cart.vf, cart.netns, cart.result, "DEL")
    wait_for("the VF's generation", lab.plane(cart).in_step)
    report.check(not web.ask(cart.ipv4, "tcp 7001", 0.5), "after sluice-cni's DEL: no answer")
    cart.delete(chain)
    lab.chains[cart.node.name].sluice(cart.name, cart.vf, cart.netns, None, "DEL")
    report.check(True, "DEL again succeeds, as the specification wants")
    names = [vf.get("pod") for vf in lab.plane(cart).ctl("vf", check=False).get("vfs", [])]
    report.check("shop/web" in str(names) and "shop/cart" not in str(names), "its VF is free again")
