"""What a running cluster's changes do: a policy of the cluster, a pod's label, a namespace's."""

import json

from daemons import wait_for

# A change must be in force no later than this.
SECONDS_MAX = 5

GUARD = json.dumps(
    {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "guard"},
        "spec": {
            "tier": "Admin",
            "priority": 10,
            "subject": {"pods": {"podSelector": {"matchLabels": {"app": "toolbox"}}}},
            "ingress": [
                {
                    "name": "no-monitor",
                    "action": "Deny",
                    "from": [{"pods": {"podSelector": {"matchLabels": {"app": "monitor"}}}}],
                },
                {
                    "name": "quarantine",
                    "action": "Deny",
                    "from": [{"namespaces": {"matchLabels": {"zone": "quarantine"}}}],
                },
            ],
        },
    }
)


def run(lab, report):
    monitor, toolbox = lab.pods["ops/monitor"], lab.pods["ops/toolbox"]
    report.section("live changes: a cluster's policy, a pod's label, a namespace's label")
    cluster = (lab.planes[0].manifests / "cluster.yaml").read_text()

    def put(name, text):
        for plane in lab.planes:
            plane.put_manifest(name, text)

    def becomes(what, passes):
        took = wait_for(
            what, lambda: monitor.ask(toolbox.ipv4, "tcp 7001", 0.3) == passes, SECONDS_MAX
        )
        way = "passes" if passes else "is denied"
        report.check(True, f"{what}: a new flow {way} after {took * 1000:.0f} ms")

    def told(rule):
        # What `becomes` took for denied may have been late.
        monitor.ask(toolbox.ipv4, "tcp 7001", 0.3)
        return any(it.get("rule") == rule for it in lab.plane(toolbox).logged_verdicts())

    put("guard.yaml", GUARD)
    becomes("ClusterNetworkPolicy guard comes", False)
    rule = "Admin:guard ingress[0] (no-monitor)"
    wait_for("the verdict", lambda: told(rule), SECONDS_MAX)
    report.check(True, f"the verdict log names `{rule}`")

    relabelled = cluster.replace("labels: {app: monitor}", "labels: {app: watcher}")
    report.check(relabelled != cluster, "the pod gets another label")
    put("cluster.yaml", relabelled)
    becomes("it is no longer meant", True)

    quarantined = relabelled.replace(
        "metadata: {name: ops}", "metadata: {name: ops, labels: {zone: quarantine}}"
    )
    report.check(quarantined != relabelled, "its namespace gets a label")
    put("cluster.yaml", quarantined)
    becomes("the other rule means it", False)

    put("cluster.yaml", cluster)
    for plane in lab.planes:
        plane.remove_manifest("guard.yaml")
    becomes("all as it was", True)
