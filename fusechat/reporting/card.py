"""The model card of the fused model: what it is, what it was made from, how it compares, and what is not known."""

from __future__ import annotations

import yaml

from fusechat.plan.provenance import EQUAL_DIGESTS, mixtures
from fusechat.reporting.data import ReportData, label
from fusechat.reporting.summary import verdicts
from fusechat.reporting.tables import TextTable, intervals, scores


def card(data: ReportData) -> str:
    """Markdown with the YAML head that model hubs read."""
    sections = {
        "Comparison": _comparison(data),
        "Use": _use(),
        "Made from": _lineage(data),
        "Data": _data(data),
        "Limits": _limits(data),
        "Reproduce": _digests(data),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{_head(data)}---\n\n# {data.job}\n\n{_introduction(data)}\n\n{body}\n"


def _introduction(data: ReportData) -> str:
    names = ", ".join([data.pivot, *data.sources, *data.existing_targets])
    return (
        f"{label(data.result).capitalize()} of {names}, made by knowledge fusion (FuseChat, arXiv 2402.16107) with "
        f"fusechat {data.version}. It has the architecture, tokenizer, chat template and size of {data.pivot}.\n\n"
        + "\n".join(verdicts(data.results, data.result))
        + " Brackets hold 95% intervals of the difference; bits per byte: lower is better."
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
        "pipeline_tag": "text-generation",
    }
    text: str = yaml.safe_dump({key: value for key, value in head.items() if value}, sort_keys=False)
    return text


def _use() -> str:
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'here = "path/of/this/directory"\n'
        "tokenizer, model = AutoTokenizer.from_pretrained(here), AutoModelForCausalLM.from_pretrained(here)\n"
        'chat = [{"role": "user", "content": "Hello!"}]\n'
        "prompt = tokenizer.apply_chat_template(\n"
        '    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True\n)\n'
        "answer = model.generate(**prompt, max_new_tokens=100)[0, prompt.input_ids.shape[1] :]\n"
        "print(tokenizer.decode(answer, skip_special_tokens=True))\n```\n\n"
        "Or `fusechat chat path/of/this/directory`."
    )


def _lineage(data: ReportData) -> str:
    rows = []
    for name, each in data.lineage.items():
        role = "pivot" if name == data.pivot else "source" if name in data.sources else "existing target"
        rows.append((name, role, each.uri, each.revision or "-", each.licence or "unknown"))
    table = TextTable(("model", "role", "from", "revision", "licence"), tuple(rows)).markdown()
    licences = {each.licence for each in data.lineage.values()}
    if licences and len(licences) == 1 and None not in licences:
        return table
    return f"{table}\n\nThe licences differ or are unknown: the fused model must satisfy all of them."


def _comparison(data: ReportData) -> str:
    note = (
        "Bits per byte of the assistant's text in held-out conversations, each model in its own chat template, lower "
        "is better; for tasks, the share of answers with full marks. The best of each column is bold. `CLM only` is "
        "the same fine-tuning without teachers."
    )
    parts = [note, scores(data.results).markdown()]
    if any(pair["first"] == data.result for pair in data.results["pairs"]):
        parts.append("Differences with 95% intervals of a paired bootstrap over conversations:")
        parts.append(intervals(data.results, first=data.result).markdown())
    return "\n\n".join(parts)


def _data(data: ReportData) -> str:
    kept = ", ".join(f"{count:,} for {name}" for name, count in data.data["kept"].items())
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in data.data["dropped"].items()) or "none"
    found = data.contamination
    return (
        f"{data.data['read']:,} rows were read; kept: {kept}; dropped: {dropped}. Of {found.evaluation_rows:,} "
        f"held-out rows, {len(found.contaminated_rows):,} share 13 words in a row with a training row, and "
        f"{len(found.duplicate_rows):,} are in the training rows whole."
    )


def _limits(data: ReportData) -> str:
    return "\n".join(
        (
            "- One seed. How runs with other seeds differ is not in the intervals.",
            "- Merging averages several targets at as many times the compute of the CLM-only run.",
            f"- It inherits what {data.pivot} and the other models know, get wrong and are biased to.",
            "- Safety, factuality and languages beyond the held-out conversations were not evaluated.",
        )
    )


def _digests(data: ReportData) -> str:
    rows = tuple((name, f"`{digest}`") for name, digest in data.digests.items())
    told = " ".join([f"Digests of the stages; {EQUAL_DIGESTS}.", *mixtures(data.environments)])
    return f"{told}\n\n{TextTable(('stage', 'digest'), rows).markdown()}"
