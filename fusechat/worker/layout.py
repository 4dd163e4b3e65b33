"""Names of what lies in the stages' outputs: written by one stage, read by others."""

from __future__ import annotations

TRAIN, VALIDATION = "train", "validation"
"""prepare: splits, `<split>/chunk-NNNNN.parquet`."""
REPRESENTATIONS = "representations"
"""extract: `representations/chunk-NNNNN.parquet`."""
ALIGNMENTS = "alignments"
"""align: `alignments/chunk-NNNNN.parquet`, keyed and ordered like the pivot's representations."""
VOCABULARY = "vocabulary"
"""extract: `vocabulary.parquet`, and the part that it is."""
MAPPING = "mapping"
"""align: `mapping.parquet`, and the part that it is."""
MODEL = "model"
"""fuse and merge: the directory of the model they made."""
SELECTION, TRAINING, METRICS = "selection.json", "training.json", "metrics.jsonl"
"""fuse: who taught what, what training did, and every logged step."""
MERGE_WEIGHTS, MERGE_SUMMARY = "weights", "summary.json"
"""merge: the weight of every target in every tensor (Parquet), and its means."""
EVALUATION = "evaluation.json"
"""evaluate: fusechat.evaluation.results.ModelEvaluation."""
REPORT_PAGE, CARD, RESULTS = "report.html", "README.md", "results.json"
"""report: the page, the model card, and the comparison as JSON."""
STATISTICS = "statistics.json"
"""prepare: what became of the rows."""

ENVIRONMENT = "environment"
"""In the details of every manifest and part: fusechat.plan.provenance.Environment."""


def parquet(name: str) -> str:
    """The file of a single table."""
    return f"{name}.parquet"


def chunk_name(prefix: str, number: int) -> str:
    """`<prefix>/chunk-NNNNN.parquet`."""
    return f"{prefix}/chunk-{number:05d}.parquet"


def chunk_number(name: str) -> int:
    """Inverse of `chunk_name`."""
    return int(name.rpartition("-")[2].removesuffix(".parquet"))


def part_of(number: int) -> str:
    """Name of a chunk's part."""
    return f"chunk-{number:05d}"
