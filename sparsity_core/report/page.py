"""A run as one HTML file that loads nothing from anywhere."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

import pandas as pd

from sparsity_core.machine import versions
from sparsity_core.metrics import is_share
from sparsity_core.plans import Plan
from sparsity_core.report.pictures import pictures
from sparsity_core.store import RunInfo

_MAIN = (
    "layer scorer structure allocation schedule repair finetune_epochs sparsity "
    "achieved_sparsity compression mac_share value dense_value drop drop_low drop_high "
    "samples split seed status"
).split()
_PRUNED = ("sweep", "curve")
_PACKED = {"line", "history", "class_values", "reliability", "predictions", "layers"}  # not to read
_SHARES = {"achieved_sparsity", "sparsity", "mac_share"}
_POINTS = {"drop", "drop_low", "drop_high"}


@dataclass(frozen=True)
class Part:
    """A heading with HTML below it."""

    heading: str
    html: str


def page(run: RunInfo, plan: Plan, rows: Sequence[Any]) -> str:
    """The HTML of a run: charts, numbers, settings with data digests, how to measure it again."""
    charts = [
        Part(heading or "What it costs", f'<figure role="img">{svg}</figure>')
        for heading, svg in pictures(run.kind, rows)
    ]
    parts = [
        *charts,
        Part("Numbers", _numbers(run.kind, rows)),
        Part("What to know of single points", _messages(rows)),
        Part("Settings", _settings(plan)),
        Part("Measured on", _machines(rows)),
        Part("Measure it again", _again(run, plan)),
        Part(f"All {len(rows)} rows", _all_rows(rows)),
    ]
    body = "\n".join(f"<h2>{escape(p.heading)}</h2>\n{p.html}" for p in parts if p.html)
    counts = ", ".join(f"{n} {status}" for status, n in run.statuses.items()) or "none"
    when = datetime.fromtimestamp(run.created, UTC).strftime("%Y-%m-%d %H:%M UTC")
    title = f"{run.model}: {run.title.removeprefix(f'{run.model}: ')}"
    return _PAGE.format(
        title=escape(title),
        summary=escape(
            f"Run {run.id}, planned {when}, {run.state}: {run.done} of {run.total} points stored "
            f"({counts}). Written by {versions()}."
        ),
        style=_STYLE,
        body=body,
    )


def _numbers(kind: str, rows: Sequence[Any]) -> str:
    table = _frame(rows)
    main = [name for name in table if name not in _PACKED]
    if kind in _PRUNED:
        main = [name for name in _MAIN if name in table]
    return _table(table[main], _metric(rows))


def _all_rows(rows: Sequence[Any]) -> str:
    table = _table(_frame(rows), _metric(rows))
    return f"<details><summary>Every column, as in the file</summary>{table}</details>"


def _metric(rows: Sequence[Any]) -> str:
    return next((row.metric for row in rows if getattr(row, "metric", "")), "value")


def _frame(rows: Sequence[Any]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


def _table(table: pd.DataFrame, metric: str) -> str:
    if table.empty:
        return "<p>No point is stored.</p>"
    percent = is_share(metric)
    head = "".join(f"<th>{escape(_head(name, metric, percent))}</th>" for name in table)
    lines = "".join(
        _line([_cell(name, value, percent) for name, value in zip(table, row, strict=True)])
        for row in table.itertuples(index=False, name=None)
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
        "</div>"
    )


def _line(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _head(name: str, metric: str, percent: bool) -> str:
    words = {"value": metric, "dense_value": f"dense {metric}", "drop": "drop"}.get(name, name)
    unit = " (%)" if name in _SHARES or (percent and name in ("value", "dense_value")) else ""
    unit = " (points)" if percent and name in _POINTS else unit
    return words.replace("_", " ") + unit


def _cell(name: str, value: Any, percent: bool) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float):
        if name in _SHARES or (percent and name in ("value", "dense_value", *_POINTS)):
            return f"{100 * value:+.2f}" if name in _POINTS else f"{100 * value:.2f}"
        return f"{value:.6g}"
    return str(value)


def _messages(rows: Sequence[Any]) -> str:
    counts = Counter((row.status, row.message) for row in rows if row.message)
    items = "".join(
        f"<li><b>{escape(status)}</b> ({n}): {escape(message)}</li>"
        for (status, message), n in counts.items()
    )
    return f"<ul>{items}</ul>" if items else ""


def _settings(plan: Plan) -> str:
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in _flat(plan.to_dict()).items()
    )
    return f'<div class="wide"><table>{lines}</table></div>'


def _flat(data: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested data as one mapping, names joined by dots; a list is one entry."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value):
            kinds = [str(part.get("kind", "")) for part in value if isinstance(part, Mapping)]
            found[before + name] = ", ".join(filter(None, kinds)) or f"{len(value)}, in the plan"
        elif isinstance(value, (list, tuple)):
            found[before + name] = ", ".join(map(str, value)) or "none"
        else:
            found[before + name] = "none" if value is None else value
    return found


def _machines(rows: Sequence[Any]) -> str:
    counts = Counter((row.device, row.versions) for row in rows)
    items = "".join(
        f"<li>{escape(device)}; {escape(with_what)} ({n} points)</li>"
        for (device, with_what), n in counts.items()
    )
    return f"<ul>{items}</ul>" if items else ""


def _again(run: RunInfo, plan: Plan) -> str:
    data = json.dumps(plan.to_dict(), indent=1)
    return (
        f"<p>With the store: <code>sparsity runs {escape(run.id[:8])} --resume</code>. Anywhere "
        f"else: <code>sparsity report {escape(run.id[:8])} --out report.ipynb</code> writes a "
        "notebook that measures the same points. The plan, as <code>plan_from_dict</code> reads "
        f"it:</p><details><summary>Plan</summary><pre>{escape(data)}</pre></details>"
    )


_STYLE = """
:root { color-scheme: light dark; --line: #8888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.25; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
figure { margin: 0; overflow-x: auto; }
figure svg { max-width: 100%; min-width: 36rem; height: auto; }
figure svg { background: white; overflow: visible; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
{body}
</body>
</html>
"""
