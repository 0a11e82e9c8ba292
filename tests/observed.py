"""What the dashboard and the alerts of ``deploy/grafana`` look at, as a PromQL parser reads them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

HERE = Path(__file__).parent.parent / "deploy" / "grafana"
DASHBOARD = HERE / "dashboard.json"
ALERTS = HERE / "alerts.yaml"
PROMETHEUS_OWN = frozenset(("job", "namespace", "instance", "le"))
"""Labels that Prometheus adds to what it scrapes, that of Kubernetes too, and the bounds of histograms."""
_VARIABLES = {"$__rate_interval": "5m", "$job": ".*"}


@dataclass(frozen=True)
class Selector:
    """A metric and the values of its labels that an expression asks for."""

    name: str
    labels: frozenset[tuple[str, str]]


def alerts() -> list[dict[str, Any]]:
    """Every rule."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Every panel that shows something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """All of both, with the dashboard's variables filled in. There is nothing else in them that looks at figures."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    for variable, value in _VARIABLES.items():
        asked = [each.replace(variable, value) for each in asked]
    return asked + [rule["expr"] for rule in alerts()]


def selectors(expression: str) -> set[Selector]:
    """What an expression selects; one for each value that a pattern of words names. Raises ValueError for no PromQL."""
    found: set[Selector] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name is not None
            matchers = [(each.name, each.value) for each in node.matchers.matchers if each.name not in PROMETHEUS_OWN]
            values = {(name, value) for name, wanted in matchers for value in wanted.split("|")}
            found.update(Selector(node.name, frozenset([label])) for label in values)
            found.add(Selector(node.name, frozenset()))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def grouped_by(expression: str) -> set[str]:
    """The labels that its aggregations and matches keep."""
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
            found.update(node.modifier.matching.labels if node.modifier.matching else ())

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found - PROMETHEUS_OWN
