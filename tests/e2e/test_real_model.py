"""A real pretrained chat model teaches a tiny pivot, by `fusechat run`: what only trained weights can show."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.alignment.fractions import AlignmentFractions
from fusechat.evaluation.bits_per_byte import bits_per_byte
from fusechat.evaluation.results import read_evaluation
from fusechat.tables import RowStatus
from tests import smollm2
from tests.e2e.command import Ran, Stored, run
from tests.tiny import job_document, write_job, write_models, write_rows

pytestmark = [pytest.mark.real_model, pytest.mark.slow]

ENGLISH = {
    "What is the capital of France?": "The capital of France is Paris.",
    "How many days are in a week?": "There are seven days in a week.",
    "What color is the sky on a clear day?": "On a clear day, the sky is blue.",
    "Who wrote Romeo and Juliet?": "William Shakespeare wrote the play Romeo and Juliet.",
    "What do bees make?": "Bees make honey from the nectar of flowers.",
    "What is water made of?": "Water is made of hydrogen and oxygen.",
    "Why do we sleep?": "Sleep gives the body and the brain time to rest and recover.",
    "What is the largest planet in our solar system?": "Jupiter is the largest planet in our solar system.",
    "How do birds fly?": "Birds fly by flapping their wings, which push the air down and lift them up.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "When does the sun rise?": "The sun rises in the morning, in the east.",
    "What should I pack for a trip to the beach?": "Pack a towel, sunscreen, a hat and plenty of water.",
    "Give me a tip for learning a language.": "Practice a little every day, and do not be afraid of making mistakes.",
    "What does a doctor do?": "A doctor helps people who are sick or injured to get better.",
    "What is the freezing point of water?": "Water freezes at 0 degrees Celsius, or 32 degrees Fahrenheit.",
    "Where do penguins live?": "Most penguins live in the Southern Hemisphere, many of them in Antarctica.",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Stored]:
    """A tiny random pivot, SmolLM2 and a tiny random model as sources, run from nothing."""
    directory = tmp_path_factory.mktemp("real")
    models = write_models(directory / "models")
    models = {"pivot": models["pivot"], "smollm2": smollm2.directory(), "random": models["a"]}
    data = write_rows(directory / "rows.jsonl", [_row(*turns) for turns in ENGLISH.items()])
    document = job_document(models, data, str(directory / "storage"))
    for model in (document["spec"]["pivot"], *document["spec"]["sources"]):
        model["model"]["maxLength"] = 512
    document["spec"]["merge"] = {"methods": [{"name": "varm", "type": "VaRM"}]}
    job = write_job(directory / "job.yaml", document)
    return run("run", str(job), "--json", temporary=directory / "temporary"), Stored(directory / "storage")


def _row(question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, "skill": "facts"}


def test_the_job_completes_with_its_report(finished: tuple[Ran, Stored]) -> None:
    ran, stored = finished
    assert ran.code == 0, ran.errors
    assert ran.stages("finished")[-1] == "report"
    page = stored.path("report", "report.html").read_text()
    assert "smollm2" in page
    assert "merge-varm" in page
    assert stored.path("merge-varm", "model/model.safetensors").is_file()


def test_its_rows_meet_the_pivots_where_both_cut_the_text_alike(finished: tuple[Ran, Stored]) -> None:
    _, stored = finished
    parts = stored.manifest("align-smollm2")["details"]["parts"].values()
    fractions = AlignmentFractions()
    for part in parts:
        if "fractions" in part:
            fractions += AlignmentFractions.from_json(part["fractions"])
    # the pivot's tokens are near single bytes: most of them lie inside a token of SmolLM2
    assert 0.02 < fractions.fraction(RowStatus.EXACT) < 0.6
    assert fractions.rows > 300
    assert fractions.not_finite == 0


def test_a_trained_model_needs_far_fewer_bits_a_byte_than_a_random_one(finished: tuple[Ran, Stored]) -> None:
    _, stored = finished
    evaluations = {
        name: read_evaluation(stored.path(f"evaluate-{name}", "evaluation.json"), name).conversations
        for name in ("pivot", "smollm2", "random", "merge-varm")
    }
    assert len({tuple((c.row, c.bytes) for c in each) for each in evaluations.values()}) == 1, "not the same text"
    bits = {name: bits_per_byte(each).value for name, each in evaluations.items()}
    assert 0.3 < bits["smollm2"] < 1.5
    assert bits["pivot"] > 3 * bits["smollm2"]
    # a byte has eight bits; a random model gives its tokens, near single bytes, nearly equal chances
    assert 4 < bits["random"] < 9
    assert bits["merge-varm"] < bits["pivot"]


def test_the_trained_model_teaches_and_the_random_one_rarely(finished: tuple[Ran, Stored]) -> None:
    _, stored = finished
    shares = stored.read("fuse-smollm2", "selection.json")["shares"]
    assert shares["names"] == ["pivot", stored.manifest("align-smollm2")["digest"][:12]]
    assert shares["shares"][1] > 0.9
