"""The target `kubernetes`: a Pod for each worker with as many CPUs of its own as the plan gives it.

From the Kubernetes documentation (kubernetes.io/docs, *Node Resource Managers*, *Control CPU Management Policies on the
Node*, *Control Topology Management Policies on a node*, *Kubelet Configuration (v1beta1)*): with the kubelet's CPU
manager policy `static`, a container of a Pod of the class Guaranteed (requests equal limits) that asks for a whole
number of CPUs gets CPUs of its own. Which ones is the kubelet's choice: nobody can ask for numbers. A CPU is a hardware
thread; `full-pcpus-only` gives whole cores. The kubelet has to keep at least one CPU, and does not start without;
`reservedSystemCPUs` says which. The topology manager's `single-numa-node` refuses Pods that do not fit one NUMA node.

A kustomization puts the user's image and command into all Pods (kubectl.docs.kubernetes.io, *images*, *patches*).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from mapper import jsonio
from mapper.errors import UsageError
from mapper.exporters.pinning.launch import VARIABLES, variables, whole_pus
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import Worker, hosts_of, workers_of
from mapper.machine.pus import format_pus
from mapper.plans.model import Plan

PODS, KUSTOMIZATION = "pods.yaml", "kustomization.yaml"
MEMORY_FACTOR, LEAST_MEMORY = 2, 2**30
"""What a Pod may use: this times what the plan says that the worker holds, and so much at least."""
NOTES = (
    "Kubernetes does not take core numbers. What it keeps of the plan is its shape: each worker has as many CPUs of "
    "its own as the plan gives it, on one NUMA node where the plan has it so. Which ones, and which workers are "
    "neighbours, is the kubelet's choice. `MAPPER_PUS` are those of the plan; a worker's affinity has what it got.",
    "1. Configure the kubelet of each host: take the lines of `kubelet-HOST.yaml` into its configuration file, remove "
    "`/var/lib/kubelet/cpu_manager_state`, and start it again. 2. Label the host: `kubectl label node NAME "
    "mapper/host=HOST`. 3. Write your image and command into `kustomization.yaml`. 4. `kubectl apply -k .`",
    f"Pods ask for {MEMORY_FACTOR} times the memory that the plan says a worker holds, {LEAST_MEMORY >> 30} GiB at "
    "least, and are killed beyond it: measure yours. Weights are not interleaved over nodes.",
    VARIABLES,
    "Untested here: the files are well-formed and were rendered by `kubectl kustomize`; no kubelet has run them.",
)


def write(export: Export, folder: Path) -> None:
    """Writes the Pods, the kustomization and a kubelet configuration for each host.

    Raises: UsageError for a plan that uses every core of a whole host.
    """
    plan = export.plan
    for host, workers in hosts_of(plan).items():
        jsonio.write_text(folder / f"kubelet-{host}.yaml", _text(kubelet(plan, host, workers)))
    pods = [_text(pod(plan, worker)) for worker in workers_of(plan)]
    jsonio.write_text(folder / PODS, "---\n".join(pods))
    jsonio.write_text(folder / KUSTOMIZATION, _text(CHOICES))
    write_readme(folder, plan, "Kubernetes", ["kubectl apply -k ."], NOTES)


CHOICES = (
    "apiVersion: kustomize.config.k8s.io/v1beta1",
    "kind: Kustomization",
    "resources:",
    f"- {PODS}",
    "images:",
    "- name: mapper-worker",
    "  newName: YOUR-IMAGE",
    "  newTag: latest",
    "patches:",
    "- target:",
    "    kind: Pod",
    "  patch: |-",
    "    - op: add",
    "      path: /spec/containers/0/command",
    '      value: ["YOUR-COMMAND", "ARGUMENT"]',
)
"""The lines of the kustomization, with what the user is to fill in."""


def pod(plan: Plan, worker: Worker) -> list[str]:
    """The Pod of `worker`."""
    cpus = str(len(whole_pus(plan, worker)))
    amounts = [f"        cpu: {_string(cpus)}", f"        memory: {_string(f'{memory_mib(plan, worker)}Mi')}"]
    return [
        "apiVersion: v1",
        "kind: Pod",
        "metadata:",
        f"  name: mapper-worker-{worker.rank}",
        "  labels:",
        "    app: mapper-worker",
        f"    mapper/rank: {_string(str(worker.rank))}",
        f"    mapper/stage: {_string(str(worker.stage))}",
        f"    mapper/replica: {_string(str(worker.replica))}",
        "  annotations:",
        f"    mapper/model: {_string(plan.model.name)}",
        f"    mapper/machine: {_string(plan.machine.name)}",
        "spec:",
        "  restartPolicy: Never",
        "  nodeSelector:",
        f"    mapper/host: {_string(str(worker.host))}",
        "  containers:",
        "  - name: worker",
        "    image: mapper-worker",
        "    env:",
        *(line for name, value in variables(plan, worker).items()
          for line in (f"    - name: {name}", f"      value: {_string(value)}")),
        "    resources:",
        "      requests:",
        *amounts,
        "      limits:",
        *amounts,
    ]  # fmt: skip


def kubelet(plan: Plan, host: int, workers: Sequence[Worker]) -> list[str]:
    """What the kubelet of `host` has to be configured with. Raises: UsageError where no CPU is left for it."""
    machine = plan.machine
    used = {pu for worker in workers for pu in whole_pus(plan, worker)}
    listed = {pu for core in machine.cores for pu in core.pus if machine.nodes[core.node].host == host}
    smt = any(len(core.pus) > 1 for core in machine.cores)
    one_node = all(len({machine.cores[core].node for core in worker.cores}) == 1 for worker in workers)
    if left := sorted(listed - used):
        reserved = [f"reservedSystemCPUs: {_string(format_pus(left))}"]
    elif machine.part_of is not None:  # what the plan does not know of is left
        reserved = ["kubeReserved:", '  cpu: "1"']
    else:
        raise UsageError(
            f"the plan uses every core of host {host}, and a kubelet keeps at least one CPU for itself",
            advice="Plan with a core less: --reserve 1/host.",
        )
    return [
        "apiVersion: kubelet.config.k8s.io/v1beta1",
        "kind: KubeletConfiguration",
        "cpuManagerPolicy: static",
        *(["cpuManagerPolicyOptions:", '  full-pcpus-only: "true"'] if smt else []),
        f"topologyManagerPolicy: {'single-numa-node' if one_node else 'best-effort'}",
        "topologyManagerScope: pod",
        *reserved,
    ]


def memory_mib(plan: Plan, worker: Worker) -> int:
    """MiB that the Pod of `worker` may use."""
    stage = plan.stages[worker.stage]
    return math.ceil(max(MEMORY_FACTOR * (stage.weight_bytes + stage.memory_bytes), LEAST_MEMORY) / 2**20)


def _string(text: str) -> str:
    """`text` as a double-quoted string of YAML: what is special in it, or not printable, by its code point."""
    special = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{"".join(special)}"'


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
