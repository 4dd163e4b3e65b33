"""The report as one self-contained HTML page: it opens from a disk, an e-mail or an artifact store alike."""

from __future__ import annotations

import math
from importlib.resources import files

from fusechat.plan.provenance import EQUAL_DIGESTS, mixtures
from fusechat.reporting import charts, html
from fusechat.reporting.data import MergeSummary, ReportData, TrainingSummary, label
from fusechat.reporting.numbers import duration
from fusechat.reporting.summary import leaders, verdicts
from fusechat.reporting.tables import TextTable, interval_rows, intervals, scores

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy: nothing of the page may run or reach out, whatever a model wrote."""


def page(data: ReportData) -> str:
    """The whole document. Whatever comes from models or data is escaped."""
    sections = {
        "Models side by side": _scores(data),
        "Is it better?": _intervals(data),
        "Answers": _answers(data),
        "Training": _training(data),
        "Alignment": _alignment(data),
        "Merges": _merges(data),
        "Data": _data(data),
        "Time and memory": _costs(data),
        "Lineage": _lineage(data),
    }
    body = "".join(f"<h2>{html.text(title)}</h2>{content}" for title, content in sections.items() if content)
    style = files("fusechat.reporting").joinpath("style.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.text(f'{data.job}: FuseChat report')}</title><style>{style}</style></head>\n"
        f"<body>{_head(data)}{body}</body></html>\n"
    )


def _head(data: ReportData) -> str:
    others = ", ".join([*data.sources, *data.existing_targets])
    made = f"{label(data.result)}, fused from {data.pivot}, its pivot, and {others}"
    answer = "".join(html.paragraph(sentence) for sentence in verdicts(data.results, data.result))
    rest = "".join(html.paragraph(sentence, "note") for sentence in leaders(data.results))
    note = html.paragraph(
        "In brackets: 95% intervals of the difference. Bits per byte: lower is better. Nothing here speaks of other "
        "seeds, other data or qualities that were not measured.",
        "note",
    )
    made_by = f"Result: {made}. Made by knowledge fusion (FuseChat, arXiv 2402.16107) with fusechat {data.version}."
    warnings = "".join(html.paragraph(text, "warn") for text in [*data.warnings, *mixtures(data.environments)])
    return (
        f"<h1>{html.text(data.job)}</h1>{html.paragraph(made_by, 'sub')}{warnings}"
        f'<div class="answer">{answer}{rest}{note}</div>'
    )


def _scores(data: ReportData) -> str:
    note = (
        "Bits per byte of the assistant's text in held-out conversations, each model in its own chat template: lower "
        "is better. Tasks: share of answers to which the task's grader gave full marks. The best figure of a column is "
        "underlined. CLM only is the same fine-tuning without teachers: what fusion must beat."
    )
    return html.table(scores(data.results), marked=label(data.result)) + html.paragraph(note, "note")


def _intervals(data: ReportData) -> str:
    if not data.results["pairs"]:
        return ""
    mine = interval_rows(data.results, first=data.result)
    bits = charts.forest(
        [row for row in mine if row.of.endswith("bits per byte")], x_name="bits per byte, less is better"
    )
    tasks = charts.forest([row for row in mine if row.of.endswith("accuracy")], x_name="accuracy, more is better")
    note = (
        "Differences with 95% intervals of a paired bootstrap over conversations; better or worse is said only where "
        "the interval excludes zero. Averaging several targets gains by itself and costs as many times the compute: a "
        "fair control would merge as many CLM-only runs."
    )
    table = html.table(intervals(data.results, first=data.result), words=(1,)) if mine else ""
    others = intervals(data.results, without=data.result)
    rest = (
        html.folded("All other models against the same controls", html.table(others, words=(1,))) if others.rows else ""
    )
    return bits + tasks + html.paragraph(note, "note") + table + rest


def _training(data: ReportData) -> str:
    if not data.trainings:
        return ""
    figures = {
        "CLM loss, nats a token": {label(each.target): _smoothed(each, "clm") for each in data.trainings},
        "Fusion loss, nats a token": {
            label(each.target): _smoothed(each, "fusion") for each in data.trainings if len(each.picks) > 1
        },
        "Held-out loss, nats a token": {label(each.target): _series(each, "held_out") for each in data.trainings},
    }
    drawn = "".join(
        f"<h3>{html.text(name.partition(',')[0])}</h3>"
        + charts.lines(series, x_name="optimiser step", y_name=name.partition(", ")[2])
        for name, series in figures.items()
        if any(series.values())
    )
    changed = ", ".join(f"{label(each.target)} {each.changed_share:.1%}" for each in data.trainings)
    changes = html.paragraph(f"Weights that differ from the pivot's: {changed}.")
    return drawn + _picks(data) + changes


def _picks(data: ReportData) -> str:
    """Who taught: only targets that had a choice."""
    picks = {label(each.target): each.picks for each in data.trainings if len(each.picks) > 1}
    if not picks:
        return ""
    chart = charts.bars(picks, whole=1.0, show=_percent, name="share of conversations by teacher")
    warnings = "".join(
        html.paragraph(
            f"{source} was the better teacher in less than 5% of the conversations of {label(each.target)}.", "warn"
        )
        for each in data.trainings
        for source in each.low_picks
    )
    return f"<h3>Whose distribution taught, share of conversations</h3>{chart}{warnings}"


def _series(training: TrainingSummary, name: str) -> list[tuple[float, float]]:
    points = ((float(r["step"]), float(r[name])) for r in training.records if r.get(name) is not None)
    return [(step, value) for step, value in points if math.isfinite(value)]


def _smoothed(training: TrainingSummary, name: str) -> list[tuple[float, float]]:
    """The mean of up to 50 equal stretches: single batches differ more than training moves."""
    points = _series(training, name)
    width = max(1, -(-len(points) // 50))
    groups = (points[i : i + width] for i in range(0, len(points), width))
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _alignment(data: ReportData) -> str:
    if not data.alignments:
        return ""
    shares = {
        each.source: {"exact": each.exact, "partial": each.partial, "gold alone": each.gold_alone}
        for each in data.alignments
    }
    rows = [
        (
            each.source,
            *map(_percent, (each.exact, each.partial, each.gold_alone, each.mapped_mass)),
            ", ".join(f"{count:,} {rule.lower().replace('_', ' ')}" for rule, count in each.rules.items()),
        )
        for each in data.alignments
    ]
    header = ("source", "exact", "partial", "gold alone", "probability mapped", "its vocabulary, by rule")
    note = (
        "Share of the pivot's loss-carrying tokens at which the source has a token of the same bytes (exact), one that "
        "begins there and ends elsewhere (partial), or none (gold alone: the text itself teaches)."
    )
    chart = charts.bars(shares, whole=1.0, show=_percent, name="share of tokens by alignment")
    return chart + html.table(TextTable(header, tuple(rows)), words=(5,)) + html.paragraph(note, "note")


def _merges(data: ReportData) -> str:
    if not data.merges:
        return ""
    rows = [
        (
            each.name,
            each.method,
            ", ".join(f"{name} {weight:.4f}" for name, weight in each.mean_weights.items()),
            _percent(each.changed_share),
            "-" if each.linear_share is None else _percent(each.linear_share),
        )
        for each in data.merges
    ]
    header = ("merge", "method", "mean weights", "differs from the pivot", "interpolated linearly")
    marked = data.result.removeprefix("merge-")
    table = html.table(TextTable(header, tuple(rows)), words=(1, 2), marked=marked)
    note = "Weights are means over all elements of the model; the last columns are shares of them."
    return (
        table
        + html.paragraph(note, "note")
        + "".join(_layers(each, unfolded=each.name == marked) for each in data.merges)
    )


def _layers(merge: MergeSummary, *, unfolded: bool) -> str:
    chart = charts.heatmap(merge.layer_weights, name=f"weight of each target by layer, {merge.name}")
    return html.folded(f"{merge.name}: weight of each target by layer", chart, unfolded=unfolded)


def _answers(data: ReportData) -> str:
    by_prompt: dict[tuple[str, str], dict[str, str]] = {}
    for model, samples in data.samples.items():
        for sample in samples:
            by_prompt.setdefault((sample.skill, sample.prompt), {})[model] = sample.answer
    parts = []
    for (skill, prompt), answers in by_prompt.items():
        said = "".join(
            f"<dt{' class=result' if model == data.result else ''}>{html.text(label(model))}</dt>"
            f"<dd>{html.quote(words)}</dd>"
            for model, words in answers.items()
        )
        title = html.text(skill or "a held-out prompt")
        parts.append(f'<h3>{title}</h3>{html.quote(prompt, "prompt")}<dl class="said">{said}</dl>')
    note = "The first held-out prompt of each skill, answered greedily and cut at evaluation.sampleTokens tokens."
    return "".join(parts) + html.paragraph(note, "note") if parts else ""


def _data(data: ReportData) -> str:
    found = data.contamination
    rows = [("read", data.data["read"]), *((f"kept, {name}", n) for name, n in data.data["kept"].items())]
    rows += [(f"dropped, {reason}", n) for reason, n in data.data["dropped"].items()]
    rows.append(("changed by Unicode normalisation", data.data["normalized"]))
    if data.data.get("maskedTurns"):
        rows.append(("answers that the dataset masks: they carry no loss", data.data["maskedTurns"]))
    rows.append(("held-out rows that share 13 words in a row with a training row", len(found.contaminated_rows)))
    rows.append(("held-out rows that are in the training rows whole", len(found.duplicate_rows)))
    return html.table(TextTable(("rows", "count"), tuple((name, f"{n:,}") for name, n in rows))) + _readings(data)


def _readings(data: ReportData) -> str:
    """How each model read the training conversations."""
    if not data.readings:
        return ""
    rows = tuple(
        (
            each.model,
            *(f"{count:,}" for count in (each.conversations, each.cut)),
            ", ".join(f"{count:,} {reason}" for reason, count in each.dropped.items()) or "none",
            f"{each.not_finite:,}",
        )
        for each in data.readings
    )
    warnings = "".join(
        html.paragraph(
            f"The logits of {each.model} were not finite in {each.not_finite:,} of {each.conversations:,} "
            "conversations; it teaches nothing there.",
            "warn",
        )
        for each in data.readings
        if each.not_finite
    )
    header = ("model", "conversations read", "cut at maxLength", "dropped", "logits not finite")
    return html.table(TextTable(header, rows), words=(3,)) + warnings


def _costs(data: ReportData) -> str:
    seconds = {each.name: {"start-up": each.startup_seconds, "work": each.seconds} for each in data.costs}
    rows = [
        (each.name, duration(each.startup_seconds), duration(each.seconds), f"{each.peak_bytes / 1e6:,.0f} MB")
        for each in data.costs
    ]
    total = sum(each.startup_seconds + each.seconds for each in data.costs)
    note = (
        f"All processes together {duration(total)}; stages run side by side where they can. Start-up is imports and "
        "loading. Memory is the peak of the largest process, on the host."
    )
    header = ("stage", "start-up", "work", "peak memory")
    table = html.folded("As a table, with memory", html.table(TextTable(header, tuple(rows))))
    return charts.bars(seconds, whole=None, show=duration, name="time by stage") + html.paragraph(note, "note") + table


def _lineage(data: ReportData) -> str:
    rows = [(name, each.uri, each.revision or "-", each.licence or "unknown") for name, each in data.lineage.items()]
    table = html.table(TextTable(("model", "from", "revision", "licence"), tuple(rows)), words=(1, 2, 3))
    digests = "".join(
        f"<li>{html.text(name)} <code>{html.text(digest)}</code></li>" for name, digest in data.digests.items()
    )
    return table + html.folded(f"Digests of the stages: {EQUAL_DIGESTS}", f"<ul>{digests}</ul>")


def _percent(share: float) -> str:
    return f"{share:.1%}"
