# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: apply_set
short_description: Apply all objects of one component to a Kubernetes cluster, and prune what it no longer names
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Applies any number of objects in one task by server-side apply, in phases - namespaces, CRDs, configuration,
    workloads, custom resources, APIServices, autoscalers - and in parallel within a phase.
  - The objects are a set (an ApplySet as in KEP-3659). What the set owned before and no longer names is deleted.
  - An object that exists already and is not of the set is somebody else's - then nothing is applied, unless O(adopt).
    Namespaces that exist already are left as they are, and are no members.
  - Waits, by watching, until every object is really ready, and says for those that are not why.
  - Runs in the controller's own process; nothing is sent to a machine.
options:
  name:
    description:
      - Name of the set. Its parent is a ConfigMap of that name.
    type: str
    required: true
  state:
    description:
      - With V(present), the cluster has exactly the objects of O(definition) and O(files) as members of this set.
      - With V(absent), all members, the shared namespaces that no other set lists, and the parent are deleted,
        APIServices first, namespaces and CRDs last, and with the parent all revisions; only O(name) is needed for that.
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
      - They are read as they are, without templating, which is much faster for large ones such as CRDs.
    type: list
    elements: path
    default: []
  shared_namespaces:
    description:
      - Namespaces that several sets live in. They are made if missing and belong to no set.
      - The last set that lists one and goes absent deletes it, unless it was there before.
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
      - Take over objects that exist already and are not of the set, instead of failing with their names and owners.
        They become what the definition says, whoever wrote what into them, and are members from then on.
      - One that cannot be changed into that, as a Deployment's selector never changes, is deleted and made anew. CRDs
        and volumes are never deleted for this, and members of another set are never taken.
      - What an APIService or Service that is taken over led to before is left as it is, and named.
    type: bool
    default: false
  take_from:
    description:
      - Other sets whose members this one may take, those that the definition names. Members of sets that are not named
        here are never taken.
      - Such an object is changed in place, never deleted, and only when what this set applied before it is ready. So
        an API that moves to another server goes on being served meanwhile.
    type: list
    elements: str
    default: []
  hand_over:
    description:
      - Members that other sets take. They are neither pruned nor deleted here; the task fails before any change as long
        as one of them is still a member of this set.
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
      - What the set is to be is kept in the cluster as a revision, whenever it differs from the latest one, in a Secret
        beside the set's parent. Of those that were applied, this many stay, the current one included.
      - With V(0) none is kept, and those that are there are deleted.
      - What is too large for a Secret (compressed, 1 MB) gets no revision, and a warning says so.
    type: int
    default: 5
  wait:
    description:
      - Wait until all objects are ready. CRDs are waited for, and deletions too, even if this is V(false).
      - An autoscaler counts as ready when it can compute a replica count (condition ScalingActive), that is when its
        metric is there.
      - Until then, each Prometheus of the role prometheus that is ready loads the scrape jobs that the set asks for.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description:
      - The server's own dry run. Objects of kinds and namespaces that do not exist yet are predicted as created.
  diff_mode:
    support: full
    description: Before and after of every object that changes; values of Secrets are redacted.
extends_documentation_fragment:
  [kubescale.fleet.cluster, kubescale.fleet.cluster.context, kubescale.fleet.cluster.sets, kubescale.fleet.cluster.wait]
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
  description: What was done with each object.
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
        - Paths of the fields that changed. Empty if only who owns them did, and for an object that was made anew.
      type: list
      elements: str
      returned: for the actions configured, adopted and replaced
    restarts:
      description: V(true) if pods are replaced by it.
      type: bool
      returned: when that is so
set:
  description: Name of the set.
  returned: always
  type: str
would_be_made:
  description: V(true) if nothing could be compared, as the kubeconfig is not there yet.
  returned: in check mode
  type: bool
foreign:
  description: Objects that stand in the way, with their owners.
  returned: when they are why the task failed
  type: list
  elements: dict
  sample:
    - apiVersion: apiregistration.k8s.io/v1
      kind: APIService
      namespace: ''
      name: v1beta1.metrics.k8s.io
      owner: belongs to Helm release kube-system/metrics-server
revision:
  description: Number of the revision that the set has now; none in check mode and for O(state=absent).
  returned: always
  type: int
  sample: 3
unused:
  description: Objects of others that an adopted APIService or Service led to, and that are of no use any more.
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
