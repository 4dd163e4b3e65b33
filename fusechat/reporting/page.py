"""The report as one self-contained HTML page: it opens from a disk, an e-mail or an artifact store alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from fusechat.reporting import charts
from fusechat.reporting.data import ReportData, TrainingSummary, label
from fusechat.reporting.tables import TextTable, intervals, scores

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.2rem 0 .4rem}.sub{opacity:.75;margin-top:0}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}tr.result{font-weight:600;background:var(--soft)}
td.better{color:#059669}td.worse{color:#dc2626}
svg{width:100%;max-width:720px;height:auto;font:11px system-ui,sans-serif}
.legend span{margin-right:1rem;font-size:.85rem}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}
blockquote{margin:.3rem 0;padding:.4rem .8rem;background:var(--soft);white-space:pre-wrap;border-left:3px solid #8886}
details summary{cursor:pointer}code{font-size:.9em;overflow-wrap:anywhere}
"""


def page(data: ReportData) -> str:
    """The whole document. Whatever comes from models or data is escaped."""
    sections = [
        _head(data),
        _section("Models side by side", _scores(data)),
        _section("Is it better?", _intervals(data)),
        _section("Training", _training(data)),
        _section("Alignment", _alignment(data)),
        _section("Merges", _merges(data)),
        _section("Answers", _answers(data)),
        _section("Data", _data(data)),
        _section("Time and memory", _costs(data)),
        _section("Lineage", _lineage(data)),
    ]
    title = escape(f"FuseChat report: {data.job}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(sections)}</body></html>\n"
    )


def _head(data: ReportData) -> str:
    made = f"{escape(label(data.result))}, fused from {escape(', '.join([data.pivot, *data.sources]))}"
    return (
        f"<h1>{escape(data.job)}</h1><p class=sub>Result: <b>{made}</b>. Pivot: {escape(data.pivot)}. "
        f"Method: FuseChat (arXiv 2402.16107). fusechat {escape(data.version)}.</p>"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _table(table: TextTable, *, marked: str = "", coloured: bool = False) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = []
    for row in table.rows:
        cells = "".join(_cell(cell, coloured) for cell in row)
        rows.append(f"<tr{' class=result' if row[0] == marked else ''}>{cells}</tr>")
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _cell(text: str, coloured: bool) -> str:
    kind = f" class={text}" if coloured and text in ("better", "worse") else ""
    return f"<td{kind}>{escape(text)}</td>"


def _scores(data: ReportData) -> str:
    note = (
        "<p>Bits per byte of the assistant's text in held-out conversations, each model in its own chat template: "
        "lower is better. Tasks: share of answers that are exactly right. <i>CLM only</i> is the same fine-tuning "
        "without teachers: what fusion must beat.</p>"
    )
    return note + _table(scores(data.results), marked=label(data.result))


def _intervals(data: ReportData) -> str:
    note = (
        "<p>Differences with 95% intervals of a paired bootstrap over conversations. A verdict is given only where the "
        "interval excludes zero. Averaging several targets gains by itself and costs as many times the compute: a fair "
        "control would merge as many CLM-only runs.</p>"
    )
    return note + _table(intervals(data.results), coloured=True) if data.results["pairs"] else ""


def _training(data: ReportData) -> str:
    if not data.trainings:
        return ""
    loss = {label(each.target): _smoothed(each, "loss") for each in data.trainings}
    clm = {label(each.target): _smoothed(each, "clm") for each in data.trainings}
    held_out = {label(each.target): _series(each, "held_out") for each in data.trainings}
    drawn = charts.lines(loss, y_name="training loss, nats a token") + charts.lines(clm, y_name="its CLM part")
    if any(held_out.values()):
        drawn += charts.lines(held_out, y_name="held-out loss, nats a token")
    picks = {label(each.target): each.picks for each in data.trainings if len(each.picks) > 1}
    shares = f"<h3>Whose distribution taught (share of conversations)</h3>{charts.stacked_bars(picks)}" if picks else ""
    low = [
        f"<p>Warning: {escape(source)} was the better teacher in less than 5% of the conversations of "
        f"{escape(label(each.target))}.</p>"
        for each in data.trainings
        for source in each.low_picks
    ]
    changed = ", ".join(f"{label(each.target)} {each.changed_share:.1%}" for each in data.trainings)
    return f"{drawn}{shares}{''.join(low)}<p>Elements that differ from the pivot's: {escape(changed)}.</p>"


def _series(training: TrainingSummary, name: str) -> list[tuple[float, float]]:
    return [(float(r["step"]), float(r[name])) for r in training.records if r.get(name) is not None]


def _smoothed(training: TrainingSummary, name: str) -> list[tuple[float, float]]:
    """The mean of up to 100 equal stretches: single batches differ more than training moves."""
    points = _series(training, name)
    width = max(1, -(-len(points) // 100))
    groups = (points[i : i + width] for i in range(0, len(points), width))
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _alignment(data: ReportData) -> str:
    if not data.alignments:
        return ""
    bars = {
        each.source: {"exact": each.exact, "partial": each.partial, "gold alone": each.gold_alone}
        for each in data.alignments
    }
    rows = [
        (each.source, f"{each.mapped_mass:.1%}", ", ".join(f"{n:,} {rule.lower()}" for rule, n in each.rules.items()))
        for each in data.alignments
    ]
    table = TextTable(("source", "probability mapped", "ids by rule"), tuple(rows))
    note = "<p>Share of the pivot's loss-carrying tokens at which the source has a row of the same bytes (exact), one "
    note += "that begins there and ends elsewhere (partial), or none (gold alone).</p>"
    return note + charts.stacked_bars(bars) + _table(table)


def _merges(data: ReportData) -> str:
    parts = []
    for each in data.merges:
        means = ", ".join(f"{name} {weight:.4f}" for name, weight in each.mean_weights.items())
        linear = "" if each.linear_share is None else f" Interpolated linearly: {each.linear_share:.1%} of elements."
        parts.append(
            f"<h3>{escape(each.name)} ({escape(each.method)})</h3><p>Mean weights: {escape(means)}. "
            f"Elements that differ from the pivot's: {each.changed_share:.1%}.{linear}</p>"
            f"<details><summary>Weights by layer</summary>{charts.heatmap(each.layer_weights)}</details>"
        )
    return "".join(parts)


def _answers(data: ReportData) -> str:
    by_prompt: dict[tuple[str, str], dict[str, str]] = {}
    for model, samples in data.samples.items():
        for sample in samples:
            by_prompt.setdefault((sample.skill, sample.prompt), {})[model] = sample.answer
    parts = []
    for (skill, prompt), answers in by_prompt.items():
        said = "".join(f"<dt>{escape(label(model))}</dt><dd>{_quote(text)}</dd>" for model, text in answers.items())
        parts.append(f"<h3>{escape(skill or 'held-out prompt')}</h3>{_quote(prompt)}<dl>{said}</dl>")
    return "".join(parts)


def _quote(text: str) -> str:
    return f"<blockquote>{escape(text) or '<i>(nothing)</i>'}</blockquote>"


def _data(data: ReportData) -> str:
    found = data.contamination
    kept: Mapping[str, int] = data.data["kept"]
    dropped: Mapping[str, int] = data.data["dropped"]
    rows = [("read", str(data.data["read"])), *((f"kept, {name}", str(n)) for name, n in kept.items())]
    rows += [(f"dropped, {reason}", str(n)) for reason, n in dropped.items()]
    rows.append(("changed by Unicode normalisation", str(data.data["normalized"])))
    rows.append(("held-out rows with a 13-gram of the training rows", f"{len(found.contaminated_rows)}"))
    rows.append(("held-out rows that are in the training rows whole", f"{len(found.duplicate_rows)}"))
    return _table(TextTable(("rows", "count"), tuple(rows)))


def _costs(data: ReportData) -> str:
    rows = [
        (each.name, f"{each.startup_seconds:.1f}", f"{each.seconds:.1f}", f"{each.peak_bytes / 1e6:,.0f}")
        for each in data.costs
    ]
    header = ("stage", "start-up, s", "work, s", "peak resident memory, MB")
    return _table(TextTable(header, tuple(rows)))


def _lineage(data: ReportData) -> str:
    rows: Sequence[tuple[str, ...]] = [
        (name, each.uri, each.revision or "-", each.licence or "unknown") for name, each in data.lineage.items()
    ]
    digests = "".join(f"<li>{escape(name)} <code>{escape(digest)}</code></li>" for name, digest in data.digests.items())
    table = _table(TextTable(("model", "from", "revision", "licence"), tuple(rows)))
    return f"{table}<details><summary>Digests of the stages</summary><ul>{digests}</ul></details>"
