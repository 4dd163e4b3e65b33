"""The model card of the fused model: what it is, what it was made from, how it compares, and what is not known."""

from __future__ import annotations

import yaml

from fusechat.reporting.data import ReportData, label
from fusechat.reporting.tables import intervals, scores


def card(data: ReportData) -> str:
    """Markdown with the YAML head that model hubs read."""
    return (
        f"---\n{_head(data)}---\n\n"
        + "\n\n".join(
            (
                f"# {data.job}",
                _introduction(data),
                "## Made from\n\n" + _lineage(data),
                "## Held-out comparison\n\nBits per byte of assistant text, lower is better; tasks: exact answers.\n\n"
                + scores(data.results).markdown(),
                _intervals(data),
                "## Limits\n\n" + _limits(data),
                "## Reproduce\n\nStage digests (content-addressed; equal digests are equal outputs):\n\n"
                + _digests(data),
            )
        )
        + "\n"
    )


def _introduction(data: ReportData) -> str:
    return (
        f"{label(data.result).capitalize()} of {_names(data)}, made by knowledge fusion (FuseChat, arXiv 2402.16107) "
        f"with fusechat {data.version}. It has the architecture, tokenizer, chat template and size of {data.pivot}."
    )


def _head(data: ReportData) -> str:
    licences = sorted({each.licence for each in data.lineage.values() if each.licence})
    known = all(each.licence for each in data.lineage.values())
    head = {
        "license": licences[0] if len(licences) == 1 and known else "other",
        "base_model": [
            each.uri.removeprefix("hf://") for each in data.lineage.values() if each.uri.startswith("hf://")
        ],
        "tags": ["fusechat", "knowledge-fusion", "merge"],
        "library_name": "transformers",
    }
    text: str = yaml.safe_dump({key: value for key, value in head.items() if value}, sort_keys=False)
    return text


def _names(data: ReportData) -> str:
    return ", ".join([data.pivot, *data.sources, *data.existing_targets])


def _lineage(data: ReportData) -> str:
    lines = ["| model | role | from | revision | licence |", "| --- | --- | --- | --- | --- |"]
    for name, each in data.lineage.items():
        role = "pivot" if name == data.pivot else "source" if name in data.sources else "existing target"
        lines.append(f"| {name} | {role} | {each.uri} | {each.revision or '-'} | {each.licence or 'unknown'} |")
    return "\n".join(lines)


def _intervals(data: ReportData) -> str:
    if not data.results["pairs"]:
        return "No comparison was asked for."
    return (
        "Paired 95% bootstrap intervals; a verdict only where the interval excludes zero:\n\n"
        + intervals(data.results).markdown()
    )


def _limits(data: ReportData) -> str:
    found = data.contamination
    return "\n".join(
        (
            "- One seed. Differences between runs of other seeds are not in the intervals.",
            "- Merging averages several targets at as many times the compute of the CLM-only run.",
            f"- {len(found.contaminated_rows)} of {found.evaluation_rows} held-out rows share a 13-gram with training.",
            "- Safety, factuality and languages beyond the held-out conversations were not evaluated.",
        )
    )


def _digests(data: ReportData) -> str:
    return "\n".join(f"- {name}: `{digest}`" for name, digest in data.digests.items())
