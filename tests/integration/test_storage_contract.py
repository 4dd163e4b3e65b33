"""What every storage promises, checked on each kind."""

import hashlib
import threading

import pytest

from fusechat.errors import MissingInputError, UsageError
from fusechat.storage import ObjectInfo, open_storage

ODD_KEYS = [
    "plain",
    "with space/and more",
    "größe/日本語/🙂",
    "a+b&c=d?e#f%20g",
    "quote'\"`$(x);|*[1]{2}",
    ".hidden",
    "dots...end.",
    "-dash",
    "~tilde@at:colon,comma",
]


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "local":
        return open_storage(str(tmp_path / "store"))
    return open_storage(request.getfixturevalue("s3_bucket") + "/deep/pre fix/", request.getfixturevalue("s3").settings)


def _keys(storage, prefix=""):
    """ETags aside, which only S3 has."""
    return [(info.key, info.size) for info in storage.list(prefix)]


def test_odd_keys_hold_their_bytes(storage, tmp_path):
    contents = {key: key.encode() * 3 for key in ODD_KEYS}
    for key, data in contents.items():
        assert storage.write(key, data) is True
    assert dict(_keys(storage)) == {key: len(data) for key, data in contents.items()}
    for key, data in contents.items():
        assert storage.read(key) == b"".join(storage.chunks(key)) == data
        assert storage.size(key) == len(data)
        storage.download(key, tmp_path / "down" / "x")
        assert (tmp_path / "down" / "x").read_bytes() == data
        storage.delete(key)
    assert storage.list() == []


def test_what_is_no_key_is_refused(storage):
    for key in ("", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\0b", "a\\b"):
        with pytest.raises(UsageError, match="no storage key"):
            storage.write(key, b"")


def test_absent_keys(storage, tmp_path):
    storage.write("other", b"")
    assert storage.size("absent") is None
    storage.delete("absent")
    with pytest.raises(MissingInputError, match="absent"):
        storage.read("absent")
    with pytest.raises(MissingInputError, match="absent"):
        list(storage.chunks("absent"))
    with pytest.raises(MissingInputError, match="absent"):
        storage.download("absent", tmp_path / "x")
    assert list(tmp_path.glob("x*")) == []


def test_listing_is_by_prefix_and_sorted(storage):
    for key in ("b/2", "b/10", "a", "b-c", "b/é", "b/z/1", "c"):
        storage.write(key, key.encode())
    assert [key for key, _ in _keys(storage)] == ["a", "b-c", "b/10", "b/2", "b/z/1", "b/é", "c"]
    assert _keys(storage, "b/") == [("b/10", 4), ("b/2", 3), ("b/z/1", 5), ("b/é", 4)]
    assert _keys(storage, "b/1") == [("b/10", 4)]
    assert _keys(storage, "b") == [("b-c", 3), *_keys(storage, "b/")]
    assert _keys(storage, "nothing/") == []
    assert isinstance(storage.list("a")[0], ObjectInfo)


def test_more_keys_than_one_page_of_a_listing(storage):
    keys = [f"k/{number:04d}" for number in range(1100)]
    threads = [
        threading.Thread(target=lambda own: [storage.write(key, b"") for key in own], args=(keys[i::8],))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [info.key for info in storage.list("k/")] == keys


def test_empty_files(storage, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    entry = storage.upload(tmp_path / "empty", "e")
    assert (entry.path, entry.size, entry.sha256) == ("e", 0, hashlib.sha256(b"").hexdigest())
    assert storage.read("e") == b""
    assert storage.size("e") == 0
    storage.download("e", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b""


def test_a_file_of_many_parts(storage, tmp_path):
    """17 MiB and a byte: four parts of 5 MiB on S3."""
    data = bytes(range(256)) * (17 * 4096) + b"!"
    (tmp_path / "big").write_bytes(data)
    entry = storage.upload(tmp_path / "big", "dir/big")
    assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (tmp_path / "big").exists()
    storage.download("dir/big", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data
    etag = storage.list("dir/")[0].etag
    assert not etag or etag.endswith("-4"), "S3 marks an upload of four parts so"


def test_moving_gives_the_file_up(storage, tmp_path):
    (tmp_path / "source").write_bytes(b"x")
    storage.upload(tmp_path / "source", "k", move=True)
    assert not (tmp_path / "source").exists()
    assert storage.read("k") == b"x"


def test_overwriting(storage):
    storage.write("k", b"one")
    assert storage.write("k", b"two!") is True
    assert storage.read("k") == b"two!"


def test_if_absent_keeps_the_first(storage):
    assert storage.write("k", b"first", if_absent=True) is True
    assert storage.write("k", b"second", if_absent=True) is False
    assert storage.read("k") == b"first"
    storage.delete("k")
    assert storage.write("k", b"third", if_absent=True) is True


def test_of_many_writers_exactly_one_is_first(storage):
    barrier = threading.Barrier(6)
    answers = {}

    def write(number):
        barrier.wait()
        answers[number] = storage.write("race", b"%d" % number * 1000, if_absent=True)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, won in answers.items() if won]
    assert len(answers) == 6
    assert len(winners) == 1
    assert storage.read("race") == b"%d" % winners[0] * 1000


def test_the_uri_opens_it_again(storage, request):
    storage.write("k", b"v")
    settings = request.getfixturevalue("s3").settings if storage.uri.startswith("s3") else None
    assert open_storage(storage.uri, settings).read("k") == b"v"
