"""Reading job files: where they come from, what their scalars mean, what importing the reader costs."""

import io
import math
import os
import sys
from pathlib import Path

import pytest

from fusechat.errors import MissingInputError, NoPermissionError, SpecError
from fusechat.spec.document import read_documents
from fusechat.spec.load import load_job, parse_job
from tests.processor_time import usual_processor_seconds

MINIMAL = (Path(__file__).parent / "cases" / "laptop" / "minimal.yaml").read_text(encoding="utf-8")


def values(text: str) -> object:
    return read_documents(text, "job.yaml")[0].value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-6", 5e-6),
        ("1e3", 1000),
        ("1E+3", 1000),
        ("-.5", -0.5),
        ("3.0", 3),
        ("1_000", 1000),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 15),
        ("12e4567", "12e4567"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("yes", True),
        ("off", False),
        ("y", True),
        ("N", False),
        ("08", 8),
        ("None", "None"),
        ("~", None),
        ("''", ""),
        ("'5'", "5"),
        ("1e400", "1e400"),
        ("-", [None]),
    ],
)
def test_scalars_are_read_as_the_api_server_reads_them(text: str, value: object) -> None:
    found = values(f"a: {text}" if text != "-" else "a:\n-")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_infinities_and_nan() -> None:
    assert values("[.inf, -.Inf]") == [math.inf, -math.inf]
    assert math.isnan(values("[.nan]")[0])  # type: ignore[index]


def test_merge_keys_keep_what_is_written_beside_them() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 9}\nd: {x: 8, <<: *b}"
    found = values(text)
    assert found["c"] == {"x": 9, "y": 2, "z": 4}  # type: ignore[index]
    assert found["d"] == {"x": 8, "y": 3, "z": 4}  # type: ignore[index]


def test_what_a_merge_key_brings_in_is_reported_where_it_is_used() -> None:
    document = read_documents("a: &a\n  x: 1\nc:\n  <<: *a\n  y: 2\n", "job.yaml")[0]
    assert document.line(("c", "x")) == 4
    assert document.line(("c", "y")) == 5
    assert document.line(("c", "nowhere", 3)) == 3


def test_json_strings_keep_their_characters() -> None:
    assert values('{"a":\t"\\ud83d\\ude00 \\/ \\u00e9"}') == {"a": "😀 / é"}


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(8)),
        "[" * 500 + "]" * 500,
    ],
    ids=["itself", "laughs", "deep"],
)
def test_documents_without_end_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"unfolds to too many values|nested too deeply"):
        read_documents(text, "job.yaml")


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(MINIMAL))
    loaded = load_job("-")
    assert loaded.file == "<stdin>"
    assert loaded.base == tmp_path


def test_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_job(path).job == parse_job(MINIMAL, "job.yaml")


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such job file"):
        load_job(tmp_path / "job.yaml")
    with pytest.raises(MissingInputError, match="is a directory"):
        load_job(tmp_path)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root gives its rights up for the length of the read."""
    (tmp_path / "job.yaml").write_text(MINIMAL)
    (tmp_path / "job.yaml").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(NoPermissionError, match="may not be read"):
            load_job(Path("job.yaml"))
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"a: \x00", b"", b"# nothing\n", b"a: [" + b"x," * 600_000 + b"]"]
)
def test_what_is_no_job_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_job(path)
    assert len(caught.value.problems) == 1
    assert str(path) in str(caught.value)


def test_a_loaded_job_survives_json() -> None:
    job = parse_job(MINIMAL, "job.yaml")
    assert parse_job(job.model_dump_json(by_alias=True), "job.json") == job


def test_the_reader_is_light(tmp_path: Path) -> None:
    """Processor seconds of importing and reading with byte code at hand, as after an installation."""
    code = (
        "import sys; import fusechat.spec.load as load; from pathlib import Path;"
        f"load.load_job(Path({str(Path(__file__).parent / 'cases' / 'laptop' / 'minimal.yaml')!r}));"
        "heavy = {'torch', 'pyarrow', 'boto3', 'numpy', 'transformers'} & set(sys.modules);"
        "sys.exit(' '.join(heavy) or None)"
    )
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    assert usual_processor_seconds([sys.executable, "-c", code], environment) < 0.5
