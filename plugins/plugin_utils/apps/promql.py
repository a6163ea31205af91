# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Expand the adapter's query templates, and check that the result is PromQL which the adapter can use."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping

import promql_parser

ACTION = re.compile(r"<<-?\s*(.*?)\s*-?>>")
VALUE_BY_NAME = re.compile(r'index\s+\.LabelValuesByName\s+"(\w+)"')
ALLOWED = '<<.Series>>, <<.LabelMatchers>>, <<.GroupBy>> and <<index .LabelValuesByName "LABEL">>'


class TemplateError(ValueError):
    """A template contains an action that the adapter cannot expand. The message lists the allowed ones."""


def expand(
    template: str, series: str, matchers: Mapping[str, str], group_by: str, patterns: Collection[str] = ()
) -> str:
    """Return the adapter's query for a template, matchers (value by label), and the label to group by.

    ``patterns`` are the labels whose values are regular expressions. Raise TemplateError if an action is unknown.
    """
    fields = {
        ".Series": series,
        ".LabelMatchers": ",".join(
            f'{label}{"=~" if label in patterns else "="}"{value}"' for label, value in matchers.items()
        ),
        ".GroupBy": group_by,
    }

    def value(action: re.Match[str]) -> str:
        if by_name := VALUE_BY_NAME.fullmatch(action[1]):
            return matchers.get(by_name[1], "")
        if action[1] not in fields:
            raise TemplateError(f"contains {action[0]}; allowed are {ALLOWED}")
        return fields[action[1]]

    return ACTION.sub(value, template)


def problems(template: str, series: str, matchers: Mapping[str, str], group_by: str) -> Iterator[str]:
    """Yield the errors of a template. ``group_by`` is empty for an external metric."""
    try:
        query = expand(template, series, matchers, group_by)
    except TemplateError as error:
        yield str(error)
        return
    if ".LabelMatchers" not in ACTION.findall(template):
        yield "must contain <<.LabelMatchers>>; without it the query reads the series of all apps"
    try:
        parsed = promql_parser.parse(query)
    except ValueError as error:
        yield f"is not valid PromQL: {error}, in {query}"
        return
    try:
        # sum() accepts an instant vector only.
        promql_parser.parse(f"sum({query}\n)")
    except ValueError:
        yield f"must return a value for each object (an instant vector); {query} does not"
        return
    while isinstance(parsed, promql_parser.ParenExpr):
        parsed = parsed.expr
    if group_by and isinstance(parsed, promql_parser.AggregateExpr) and not keeps(parsed, group_by):
        yield f"drops the label {group_by}, which names the object of a value; end the query with by (<<.GroupBy>>)"


def keeps(expression: promql_parser.AggregateExpr, label: str) -> bool:
    """Return whether the result of an aggregation still has a label."""
    modifier = expression.modifier
    if str(expression.op) in ("topk", "bottomk", "limitk", "limit_ratio"):
        return True
    if modifier is None:
        return False
    return (label in modifier.labels) == (modifier.type == promql_parser.AggModifierType.By)


def shortest_window(query: str) -> float:
    """Return the shortest range of a query in seconds, infinity if it has none."""
    ranges: list[float] = [math.inf]

    def collect(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            ranges.append(node.range.total_seconds())

    promql_parser.walk(promql_parser.parse(query), collect)
    return min(ranges)
