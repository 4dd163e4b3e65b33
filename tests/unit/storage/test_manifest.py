"""Canonical JSON and manifests: one byte form, and no altered byte goes unseen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.canonical import canonical_json
from fusechat.errors import InvalidDataError
from fusechat.storage.base import FileEntry
from fusechat.storage.manifest import Manifest, Part, manifest_bytes, parse_manifest, parse_part, part_bytes, sealed

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
).filter(lambda value: "\\ud" not in json.dumps(value).lower() or _is_utf8(value))


def _is_utf8(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


MANIFEST = Manifest(
    digest="f" * 64,
    kind="extract",
    files=(FileEntry("a1/chunk-0.parquet", 10, "0" * 64), FileEntry("a2/größe.json", 0, "1" * 64)),
    details={"rows": 3, "rate": 0.25, "parts": {"0": {"rows": 3}}},
)


@given(_json)
def test_canonical_json_is_read_back_as_it_was(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(alphabet="abcé", max_size=3), st.integers(), max_size=6), st.randoms())
def test_order_of_keys_does_not_matter(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)


def test_canonical_json_bytes():
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.5,null,true]}'.encode()


@pytest.mark.parametrize("value", [{1: "x"}, {"a": {2: 1}}, [{"b": {None: 1}}]])
def test_keys_that_json_would_rewrite_are_refused(value):
    with pytest.raises(TypeError, match="keys must be strings"):
        canonical_json(value)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"loss": float("nan")})


def test_manifest_round_trip():
    assert parse_manifest(manifest_bytes(MANIFEST)) == MANIFEST


def test_part_round_trip():
    part = Part("17", MANIFEST.files, {"rows": 2})
    assert parse_part(part_bytes(part)) == part


def test_every_flipped_bit_of_a_manifest_is_noticed():
    data = manifest_bytes(MANIFEST)
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1 << (position % 7)
        with pytest.raises(InvalidDataError):
            parse_manifest(bytes(altered))


def test_every_truncated_manifest_is_noticed():
    data = manifest_bytes(MANIFEST)
    for length in range(len(data)):
        with pytest.raises(InvalidDataError):
            parse_manifest(data[:length])


def test_a_later_format_is_refused_by_name():
    later = Manifest("a", "b", (), {}, format_version=99)
    with pytest.raises(InvalidDataError, match="format 99"):
        parse_manifest(manifest_bytes(later))


DAMAGED = {
    "empty": b"",
    "cut": manifest_bytes(MANIFEST)[:40],
    "half-written": manifest_bytes(MANIFEST)[:60] + b"\0" * 60,
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "nan": b'{"checksum":"x","a":NaN}',
    "surrogate": b'{"checksum":"x","a":"\\ud800"}',
    "not UTF-8": b"\xff\xfe{}",
    "UTF-16": manifest_bytes(MANIFEST).decode().encode("utf-16"),
    "deep": b"[" * 100_000,
    "deep and closed": b'{"checksum":"x","a":' + b"[" * 900 + b"]" * 900 + b"}",
    "many digits": b'{"checksum":"x","a":' + b"1" * 5000 + b"}",
    "sealed, of another shape": sealed({"format_version": 1}),
    "sealed, files of another shape": sealed(
        {"format_version": 1, "stage": "a", "digest": "b", "kind": "c", "files": [1], "details": {}}
    ),
    "sealed part of another shape": sealed({"part": "a", "files": None, "details": {}}),
}
"""Also for the tests of whole stages and jobs: what a crash, a full disk or a stray writer leaves of a document."""


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("parse", [parse_manifest, parse_part])
def test_every_kind_of_damage_is_refused_as_damage(parse, name):
    with pytest.raises(InvalidDataError):
        parse(DAMAGED[name])
