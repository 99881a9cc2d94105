"""Where data lie, and how they come there: downloads from a server of this machine that breaks, resumes and lies."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data import download, sources
from stillmotion.data.roots import data_root, find

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server has, how it behaves, and the Range headers it got (None for a request without)."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/file.bin": CONTENT})
    ranges: bool = True
    announce: bool = True
    breaks_after: int | None = None
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if state.announce:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            with suppress(ConnectionError):  # whoever knows enough hangs up
                self.wfile.write(content[start : state.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{http.server_port}/"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def fetch(url: str, target: Path, **changed: object) -> Path:
    return download.fetch(url, target, **{"size": len(CONTENT), "sha256": SHA256, **changed})  # type: ignore[arg-type]


# Roots


def test_the_root_is_the_argument_then_the_variable_then_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path / "set"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root("~/mine") == tmp_path / "home" / "mine"
    assert data_root() == tmp_path / "set"
    monkeypatch.setenv("STILLMOTION_DATA", "")
    assert data_root() == tmp_path / "xdg" / "stillmotion"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_root() == tmp_path / "home" / ".cache" / "stillmotion"


def test_find_takes_the_first_that_exists(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "c").touch()
    assert find(tmp_path, "a", "b", "c") == tmp_path / "b"
    assert find(tmp_path, "c") == tmp_path / "c"
    assert find(tmp_path, "a") is None


# Downloads


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: Server, tmp_path: Path):
    target = tmp_path / "new" / "folder" / "file.bin"
    steps: list[tuple[int, int]] = []
    assert fetch(server.address + "file.bin", target, progress=lambda have, size: steps.append((have, size))) == target
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["file.bin"]
    assert [have for have, _ in steps] == sorted(have for have, _ in steps)
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    fetch(server.address + "file.bin", target)
    assert server.asked == [None]


def test_a_damaged_target_is_replaced(server: Server, tmp_path: Path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"\0" * len(CONTENT))
    fetch(server.address + "file.bin", target)
    assert target.read_bytes() == CONTENT


def test_half_a_download_goes_on_where_it_stopped(server: Server, tmp_path: Path):
    target, part = tmp_path / "file.bin", tmp_path / "file.bin.part"
    part.write_bytes(CONTENT[:500_000])
    fetch(server.address + "file.bin", target)
    assert server.asked == ["bytes=500000-"]
    assert target.read_bytes() == CONTENT
    assert not part.exists()


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path):
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    assert fetch(server.address + "file.bin", tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_begun_anew(server: Server, tmp_path: Path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"x")
    assert fetch(server.address + "file.bin", tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_whole_part_is_only_verified(server: Server, tmp_path: Path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(server.address + "file.bin", tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("announce", [True, False])
def test_a_broken_connection_keeps_what_came(server: Server, tmp_path: Path, announce: bool):
    server.breaks_after, server.announce = 300_000, announce
    target = tmp_path / "file.bin"
    with pytest.raises(UserError, match=r"1024000 bytes from http.*, got 300000. The connection broke. Run the command again"):
        fetch(server.address + "file.bin", target)
    assert not target.exists()
    server.breaks_after = None
    assert fetch(server.address + "file.bin", target).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_another_content_is_deleted_and_said_so(server: Server, tmp_path: Path):
    server.files["/file.bin"] = CONTENT[::-1]
    with pytest.raises(FileRefused, match=rf"SHA-256 {SHA256} from http.*file.bin, got SHA-256 .*What came was deleted"):
        fetch(server.address + "file.bin", tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_another_size_is_refused_before_a_byte_is_written(server: Server, tmp_path: Path, length: int):
    server.files["/file.bin"] = (CONTENT + b"x")[:length]
    for part in (b"", CONTENT[:5000]):
        (tmp_path / "file.bin.part").write_bytes(part)
        with pytest.raises(FileRefused, match=rf"1024000 bytes at http.*, got one of {length} bytes"):
            fetch(server.address + "file.bin", tmp_path / "file.bin")
        assert (tmp_path / "file.bin.part").read_bytes() == part


def test_too_many_bytes_that_were_not_announced_are_deleted(server: Server, tmp_path: Path):
    server.files["/file.bin"], server.announce = CONTENT * 3, False
    with pytest.raises(FileRefused, match="got more than 1024000 bytes"):
        fetch(server.address + "file.bin", tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_part_longer_than_the_file_of_the_server_ends_in_a_clear_refusal(server: Server, tmp_path: Path):
    server.files["/file.bin"] = CONTENT[:1000]
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:5000])
    with pytest.raises(FileRefused, match="got one of 1000 bytes"):
        fetch(server.address + "file.bin", tmp_path / "file.bin")
    assert server.asked == ["bytes=5000-", None]


def test_a_missing_file_is_named(server: Server, tmp_path: Path):
    with pytest.raises(UserError, match=r"a file at http.*other.bin, got status 404 \(Not Found\)"):
        fetch(server.address + "other.bin", tmp_path / "file.bin")


def test_no_network_is_said(tmp_path: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
        with pytest.raises(UserError, match=r"an answer from http.*Connection refused.*Check the network.*--data-root"):
            fetch(url, tmp_path / "file.bin")


@pytest.mark.parametrize("url", ["ftp://host/file.bin", "data:,x", "file.bin", ""])
def test_other_schemes_are_refused(tmp_path: Path, url: str):
    with pytest.raises(UserError, match="one of https, http, file"):
        fetch(url, tmp_path / "file.bin")


def test_local_addresses_work_with_and_without_a_part(tmp_path: Path):
    (tmp_path / "there").write_bytes(CONTENT)
    assert fetch((tmp_path / "there").as_uri(), tmp_path / "a.bin").read_bytes() == CONTENT
    (tmp_path / "b.bin.part").write_bytes(CONTENT[:77])
    assert fetch((tmp_path / "there").as_uri(), tmp_path / "b.bin").read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"an answer from file:.*No such file"):
        fetch((tmp_path / "nowhere").as_uri(), tmp_path / "c.bin")


def test_a_full_disk_is_said_and_nothing_is_pretended(server: Server, tmp_path: Path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "file.bin.part").symlink_to(full)
    with pytest.raises(UserError, match=r"room on the disk for .*file.bin.part, got a full disk. Free some space"):
        fetch(server.address + "file.bin", tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()


def test_a_folder_that_cannot_be_is_said(server: Server, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"to write .*file.bin.part, got "):
        fetch(server.address + "file.bin", tmp_path / "file" / "file.bin")


@pytest.mark.parametrize(("name", "prepare"), [("MNIST", download.prepare_mnist), ("SPRITES", download.prepare_sprites)])
def test_a_collection_is_prepared_in_its_folder(name, prepare, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    contents = {"body/0.png": b"first" * 9, "second": b"second" * 5}
    server.files = {f"/sub/{path}": content for path, content in contents.items()}
    files = tuple(sources.File(path, len(content), hashlib.sha256(content).hexdigest()) for path, content in contents.items())
    original = getattr(sources, name)
    monkeypatch.setattr(sources, name, original._replace(address=server.address + "sub/", files=files))
    steps: list[tuple[int, int]] = []
    folder = prepare(tmp_path, progress=lambda have, size: steps.append((have, size)))
    assert folder == tmp_path / original.folder
    assert {path: (folder / path).read_bytes() for path in contents} == contents
    assert steps == [(45, 75), (75, 75)]


# The table of sources


def test_the_table_is_complete_and_well_formed():
    assert [file.path for file in sources.MNIST.files] == [
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    count = {"body": 7, "bottomwear": 7, "topwear": 7, "hair": 10}
    sheets = [f"{part}/{k}.png" for part, variants in count.items() for k in range(variants)]
    assert [file.path for file in sources.SPRITES.files] == [*sheets, "shoes/1.png"]
    for collection in (sources.MNIST, sources.SPRITES):
        assert collection.address.startswith("https://")
        assert collection.address.endswith("/")
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in collection.files)
        assert len({file.sha256 for file in collection.files}) == len(collection.files)


@pytest.mark.data
def test_the_table_knows_the_real_files(real_data: Path):
    known = [(real_data / "lpc-sprites", file) for file in sources.SPRITES.files]
    known += [(real_data / "mnist", file) for file in sources.MNIST.files if file.path.startswith("t10k")]
    assert len(known) == 34
    for folder, file in known:
        assert download.intact(folder / file.path, file.size, file.sha256), file.path
