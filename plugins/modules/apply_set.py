# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: apply_set
short_description: Apply all objects of one component to a Kubernetes cluster, and prune removed objects
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Applies any number of objects in one task by server-side apply, in phases - namespaces, CRDs, configuration,
    workloads, custom resources, APIServices, autoscalers - and in parallel within a phase.
  - The objects are members of a set (an ApplySet as in KEP-3659). Members that O(definition) no longer contains are
    deleted.
  - If an object exists already and is not a member, the task fails before any change, unless O(adopt) is set. Existing
    namespaces are not changed and do not become members.
  - Watches the objects until each is ready. If one does not become ready, the error contains the cause.
  - Runs in the controller's own process; nothing is sent to a machine.
options:
  name:
    description:
      - Name of the set, and of its parent, a ConfigMap.
    type: str
    required: true
  state:
    description:
      - With V(present), the cluster has exactly the objects of O(definition) and O(files) as members of this set.
      - With V(absent), all members, the shared namespaces that no other set lists, the parent and all revisions are
        deleted, APIServices first, namespaces and CRDs last. Only O(name) is needed.
      - A namespace or CRD that still holds objects of others is kept, with a warning.
    type: str
    choices: [present, absent]
    default: present
  definition:
    description:
      - The objects, as YAML text of any number of documents, as one object, or as a list of both.
    type: raw
  files:
    description:
      - YAML files on the controller whose objects are added to those of O(definition).
      - The files are not templated, which is much faster for large files such as CRDs.
    type: list
    elements: path
    default: []
  shared_namespaces:
    description:
      - Namespaces that several sets share. They are created if missing, and are not members of any set.
      - When the last set that lists such a namespace becomes absent, the namespace is deleted, unless it existed
        before.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the namespace.
        type: str
        required: true
      labels:
        description:
          - Labels of the namespace.
        type: dict
        default: {}
  force_conflicts:
    description:
      - Take over fields that another field manager owns, instead of failing with their names.
    type: bool
    default: false
  adopt:
    description:
      - Take over objects that exist already and are not members, instead of failing with their names and owners. All
        their fields become those of the definition, and the objects become members.
      - An object with an immutable field that differs, such as a Deployment's selector, is deleted and created again.
        CRDs and volumes are never deleted for this, and members of another set are never taken over.
      - The workload behind an adopted APIService or Service is not changed. The task reports it in C(unused).
    type: bool
    default: false
  take_from:
    description:
      - Other sets from which this set may take members that are in the definition. Members of all other sets are never
        taken.
      - Such an object is changed in place, never deleted, and only after the other objects of this set are ready. So an
        API that moves to another server is served without interruption.
    type: list
    elements: str
    default: []
  hand_over:
    description:
      - Members that other sets take. This set neither prunes nor deletes them. The task fails before any change while
        one of them is still a member of this set.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description:
          - Kind of the object.
        type: str
        required: true
      name:
        description:
          - Name of the object.
        type: str
        required: true
      to:
        description:
          - Name of the set that takes it.
        type: str
        required: true
  revisions:
    description:
      - Number of applied revisions to keep, the current one included. If the objects differ from the latest revision,
        they are stored as a new revision, in a Secret beside the set's parent.
      - With V(0), no revision is kept, and existing revisions are deleted.
      - Objects that are too large for a Secret (compressed, 1 MB) are not stored, with a warning.
    type: int
    default: 5
  wait:
    description:
      - Wait until all objects are ready. The task waits for CRDs and deletions even if this is V(false).
      - An autoscaler is ready when it can compute a replica count (condition ScalingActive), which needs its metric.
      - Meanwhile, each ready Prometheus of the role prometheus loads the scrape jobs in the definition.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description:
      - Uses the server's dry run. Objects of kinds and namespaces that do not exist yet are reported as created.
extends_documentation_fragment:
  [kubescale.fleet.attributes.objects, kubescale.fleet.cluster, kubescale.fleet.cluster.context,
   kubescale.fleet.cluster.sets, kubescale.fleet.cluster.wait]
"""

EXAMPLES = r"""
- name: Apply metrics-server
  kubescale.fleet.apply_set:
    name: metrics-server
    kubeconfig: "{{ cluster_kubeconfig }}"
    definition: "{{ lookup('ansible.builtin.template', 'metrics_server.yml.j2') }}"

- name: Remove metrics-server
  kubescale.fleet.apply_set:
    name: metrics-server
    kubeconfig: "{{ cluster_kubeconfig }}"
    state: absent
"""

RETURN = r"""
objects:
  description: The action on each object.
  returned: always
  type: list
  elements: dict
  sample:
    - apiVersion: apps/v1
      kind: Deployment
      namespace: kube-system
      name: metrics-server
      action: configured
      fields: ['spec.template.spec.containers[metrics-server].args']
      restarts: true
  contains:
    apiVersion: {description: Version of the API, type: str, returned: always}
    kind: {description: Kind, type: str, returned: always}
    namespace: {description: Namespace; empty for cluster-wide kinds, type: str, returned: always}
    name: {description: Name, type: str, returned: always}
    action:
      description: One of created, configured, adopted, replaced, unchanged, pruned, deleted, kept.
      type: str
      returned: always
    fields:
      description:
        - Paths of the fields that changed. Empty if only their owner changed, or if the object was created again.
      type: list
      elements: str
      returned: for the actions configured, adopted and replaced
    restarts:
      description: V(true) if the change replaces pods.
      type: bool
      returned: when the change replaces pods
set:
  description: Name of the set.
  returned: always
  type: str
would_be_made:
  description: V(true) if nothing could be compared, because the kubeconfig does not exist yet.
  returned: in check mode
  type: bool
foreign:
  description: Existing objects that are not members, with their owners.
  returned: when the task failed because of them
  type: list
  elements: dict
  sample:
    - apiVersion: apiregistration.k8s.io/v1
      kind: APIService
      namespace: ''
      name: v1beta1.metrics.k8s.io
      owner: belongs to Helm release kube-system/metrics-server
revision:
  description: Number of the current revision; null in check mode and for O(state=absent).
  returned: always
  type: int
  sample: 3
unused:
  description: Objects of others that served an adopted APIService or Service, and that nothing uses any more.
  returned: always
  type: list
  elements: dict
  sample:
    - {apiVersion: apps/v1, kind: Deployment, namespace: monitoring, name: adapter}
seconds:
  description: Seconds that the task took, waiting included.
  returned: always
  type: float
"""
