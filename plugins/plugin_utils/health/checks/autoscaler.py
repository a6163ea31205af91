# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The autoscaler of an app, and what keeps it from the replicas it wants."""

from __future__ import annotations

from ...applyset.ownership import owner_of
from ...common.text import shorten
from ...kube.objects import condition, explain
from ...kube.readiness import without_workload
from ..edits import differences
from ..facts import Watched, is_ours, key
from ..link import Cause, Finding, broken, link, ok, unknown
from ..settings import Case
from .workload import refusal, unschedulable


@link(
    "the autoscaler is as its entry says and can scale",
    {
        "autoscaler_missing": Cause("The app has no autoscaler.", "run site.yml with --tags hpa"),
        "autoscaler_of_others": Cause(
            "An autoscaler of that name exists, and this collection did not apply it.",
            "site.yml with `--tags hpa -e adopt=hpa` takes it over; or delete it: "
            "kubectl --namespace {namespace} delete horizontalpodautoscaler {app}",
        ),
        "autoscaler_edited": Cause(
            "The autoscaler differs from its entry: edited by hand, or the entry changed since the last run.",
            "take the edit into entry {app} of autoscaled_apps, or run site.yml with --tags hpa, which puts it back",
        ),
        "autoscaler_rival": Cause(
            "Two autoscalers set the replicas of one workload.",
            "remove one: kubectl --namespace {namespace} delete horizontalpodautoscaler {rival}",
        ),
        "autoscaler_unable": Cause(
            "The autoscaler cannot read or set the workload's replicas.",
            "kubectl --namespace {namespace} describe horizontalpodautoscaler {app}",
        ),
        "autoscaler_blind": Cause(
            "The autoscaler has no metric. It reads its metrics every 15 s: right after a repair this may be outdated.",
            "kubectl --namespace {namespace} describe horizontalpodautoscaler {app}",
        ),
    },
)
def hpa(facts: Watched, case: Case) -> Finding:
    """Check that the autoscaler exists, is as its entry says, is the only one, and can scale by its metrics."""
    made = case.made("HorizontalPodAutoscaler")
    item = facts.optional(case.autoscaler_path)
    if item is None:
        return broken("autoscaler_missing", f"there is no HorizontalPodAutoscaler in {case.app.namespace}")
    if not is_ours(item):
        return broken("autoscaler_of_others", f"{key(item)} {owner_of(item)}")
    if made and (edits := differences(made["spec"], item["spec"], "spec")):
        return broken("autoscaler_edited", shorten(edits))
    aim = item["spec"]["scaleTargetRef"]
    rivals = [
        other["metadata"]["name"]
        for other in facts.items(f"/apis/autoscaling/v2/namespaces/{case.app.namespace}/horizontalpodautoscalers")
        if other["metadata"]["name"] != item["metadata"]["name"]
        and all(other["spec"]["scaleTargetRef"].get(name) == aim.get(name) for name in ("kind", "name"))
    ]
    if rivals:
        evidence = f"{item['metadata']['name']} and {shorten(rivals)} scale {aim['kind']} {aim['name']}"
        return broken("autoscaler_rival", evidence, rival=rivals[0])
    if without_workload(item):
        return unknown(f"{aim['kind']} {aim['name']} does not exist")
    for kind, cause in (("AbleToScale", "autoscaler_unable"), ("ScalingActive", "autoscaler_blind")):
        entry = condition(item, kind)
        if not entry:
            return unknown(f"{kind} is not judged yet: look again in 15 seconds")
        if entry.get("status") != "True" and (young := case.settled(facts)[1]):
            return unknown(f"{kind} is False: {young}")
        if entry.get("status") != "True":
            return broken(cause, f"{kind}={entry.get('status')}: {explain(entry)}")
    current, desired = (item["status"].get(f"{word}Replicas", 0) for word in ("current", "desired"))
    return ok(f"{current} replicas, {desired} desired")


# Advisory, because the app's owner sets these limits, and many requests are no reason to halt a rollout.
@link(
    "nothing keeps it from the replicas it wants",
    {
        "max_reached": Cause(
            "The metric asks for more replicas than the entry allows.",
            "raise `replicas.max` of entry {app} in autoscaled_apps, or its target",
        ),
        "size_fixed": Cause(
            "Minimum and maximum of the replicas are the same number.",
            "set `replicas` of entry {app} in autoscaled_apps to a range",
        ),
        "scale_up_disabled": Cause(
            "The autoscaler's behavior forbids the way up.",
            "remove `selectPolicy: Disabled` from `behavior.scaleUp` of entry {app}",
        ),
        "quota_reached": Cause(
            "The namespace's quota allows the workload fewer pods than it wants.",
            "kubectl --namespace {namespace} describe resourcequota; raise the quota or lower the requests",
        ),
        "no_room": Cause(
            "No node has room for the pods it wants, or accepts them.",
            "add nodes, lower the requests, or lower `replicas.max` of entry {app}",
        ),
    },
    advisory=True,
)
def limits(facts: Watched, case: Case) -> Finding:
    """Check that nothing keeps the workload from the replicas that its autoscaler wants."""
    item = facts.raw(case.autoscaler_path)
    spec = item["spec"]
    if spec.get("minReplicas", 1) == spec["maxReplicas"]:
        return broken("size_fixed", f"minReplicas and maxReplicas are {spec['maxReplicas']}")
    behavior = spec.get("behavior") or {}
    if (behavior.get("scaleUp") or {}).get("selectPolicy") == "Disabled":
        return broken("scale_up_disabled", "behavior.scaleUp.selectPolicy is Disabled")
    refused = refusal(facts, facts.raw(case.workload_path), case.settings.now)
    if "quota" in refused:
        return broken("quota_reached", refused)
    if waiting := unschedulable(case.pods(facts)):
        return broken("no_room", waiting)
    limited = condition(item, "ScalingLimited")
    if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas":
        # Not the current ones: pods for the last of the desired may be starting still.
        desired = item["status"].get("desiredReplicas", 0)
        evidence = f"{desired} of at most {spec['maxReplicas']} replicas desired: {explain(limited)}"
        return broken("max_reached", evidence)
    forbidden = (behavior.get("scaleDown") or {}).get("selectPolicy") == "Disabled"
    one_way = " never fewer (behavior.scaleDown is Disabled)," if forbidden else ""
    return ok(f"{spec.get('minReplicas', 1)} to {spec['maxReplicas']} replicas,{one_way} none refused or waiting")
