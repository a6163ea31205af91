# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Whether the adapter's query templates become PromQL that Prometheus answers as the adapter needs it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping

import promql_parser

ACTION = re.compile(r"<<-?\s*(.*?)\s*-?>>")
VALUE_BY_NAME = re.compile(r'index\s+\.LabelValuesByName\s+"(\w+)"')
ALLOWED = '<<.Series>>, <<.LabelMatchers>>, <<.GroupBy>> and <<index .LabelValuesByName "LABEL">>'


class TemplateError(ValueError):
    """A template holds what the adapter would not expand; the message says what is allowed."""


def expand(
    template: str, series: str, matchers: Mapping[str, str], group_by: str, patterns: Collection[str] = ()
) -> str:
    """The query that the adapter makes of a template for values of labels, and the label it groups by.

    ``patterns`` are the labels whose values are regular expressions, as for the pods of an app.
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
            raise TemplateError(f"holds {action[0]}; there are {ALLOWED}")
        return fields[action[1]]

    return ACTION.sub(value, template)


def problems(template: str, series: str, matchers: Mapping[str, str], group_by: str) -> Iterator[str]:
    """What is wrong with a template, in words that follow its name; ``group_by`` is empty for an external metric."""
    try:
        query = expand(template, series, matchers, group_by)
    except TemplateError as error:
        yield str(error)
        return
    if ".LabelMatchers" not in ACTION.findall(template):
        yield "must have <<.LabelMatchers>>, or it looks at the series of everybody"
    try:
        parsed = promql_parser.parse(query)
    except ValueError as error:
        yield f"is no PromQL: {error}, in {query}"
        return
    try:
        # Only a vector can be summed.
        promql_parser.parse(f"sum({query}\n)")
    except ValueError:
        yield f"must give a value for each object (an instant vector); {query} gives none"
        return
    while isinstance(parsed, promql_parser.ParenExpr):
        parsed = parsed.expr
    if group_by and isinstance(parsed, promql_parser.AggregateExpr) and not keeps(parsed, group_by):
        yield f"loses the label {group_by}, so that nobody knows whose value it is: end it with by (<<.GroupBy>>)"


def keeps(expression: promql_parser.AggregateExpr, label: str) -> bool:
    """Whether what is aggregated still has a label."""
    modifier = expression.modifier
    if str(expression.op) in ("topk", "bottomk", "limitk", "limit_ratio"):
        return True
    if modifier is None:
        return False
    return (label in modifier.labels) == (modifier.type == promql_parser.AggModifierType.By)


def shortest_window(query: str) -> float:
    """The shortest range in a query, in seconds; infinite when it has none."""
    found: list[float] = [math.inf]

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.range.total_seconds())

    promql_parser.walk(promql_parser.parse(query), look)
    return min(found)
