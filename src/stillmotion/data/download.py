"""Public files, fetched when asked for: size and SHA-256 are checked, a broken download goes on where it stopped."""

from __future__ import annotations

import errno
import hashlib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit
from urllib.response import addinfourl

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data import sources
from stillmotion.data.roots import data_root

Answer = HTTPResponse | addinfourl
Progress = Callable[[int, int], None]  # bytes that are there, bytes in all

SCHEMES = ("https", "http", "file")
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 18

OTHER_FILE = "Try again later, or get the file elsewhere and name its folder with --data-root."


def prepare_mnist(root: Path | str | None = None, progress: Progress | None = None) -> Path:
    """The folder with the four original MNIST files (11.6 MB), downloaded unless they are there. Raises as `fetch` does."""
    return _prepare(sources.MNIST, root, progress)


def prepare_sprites(root: Path | str | None = None, progress: Progress | None = None) -> Path:
    """The folder with the Sprites sheets (0.6 MB), downloaded unless they are there. Raises as `fetch` does."""
    return _prepare(sources.SPRITES, root, progress)


def fetch(url: str, target: Path, *, size: int, sha256: str, progress: Progress | None = None) -> Path:
    """The file at `url` as `target`, of `size` bytes with this SHA-256; nothing is done where it is there already.

    What has come so far lies in `<target>.part`; the next call goes on from it. `target` appears only when it is verified.
    Raises UserError for another scheme than https, http or file, where nothing can be reached or written, and for a broken
    connection; FileRefused where what came is not the file that was expected.
    """
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise UserError(f"an address that starts with one of {', '.join(SCHEMES)}", url, "Other schemes are not supported.")
    if intact(target, size, sha256):
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part, size, progress)
        _verify(url, part, size, sha256)
        return part.replace(target)
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _unreachable(url, error) from error
    except OSError as error:
        raise _unwritable(part, error) from error


def intact(path: Path, size: int, sha256: str) -> bool:
    """Whether the file is there, with this size and SHA-256."""
    return path.is_file() and path.stat().st_size == size and _digest(path) == sha256


def _prepare(collection: sources.Collection, root: Path | str | None, progress: Progress | None) -> Path:
    folder = data_root(root) / collection.folder
    total, done = sum(file.size for file in collection.files), 0
    for file in collection.files:
        part = partial(_report, progress, done, total) if progress else None
        fetch(collection.address + file.path, folder / file.path, size=file.size, sha256=file.sha256, progress=part)
        done += file.size
    return folder


def _report(progress: Progress, before: int, total: int, have: int, _: int) -> None:
    """Progress of one file as progress of all."""
    progress(before + have, total)


def _complete(url: str, part: Path, size: int, progress: Progress | None) -> None:
    """Brings `part` to `size` bytes, or as far as the connection goes."""
    have = part.stat().st_size if part.exists() else 0
    if have == size:
        return
    with _open(url, have if have < size else 0) as answer:
        goes_on = _goes_on(answer, have)
        _announced(url, answer, size, have if goes_on else 0)
        with part.open("ab" if goes_on else "wb") as file:
            # One byte too many is enough to know that it is another file.
            while file.tell() <= size and (block := answer.read(BLOCK)):
                file.write(block)
                if progress:
                    progress(min(file.tell(), size), size)


def _announced(url: str, answer: Answer, size: int, have: int) -> None:
    """Raises FileRefused if the server says that the file has another size; then no byte is written."""
    length = answer.headers.get("Content-Length")
    if length and length.isdigit() and have + int(length) != size:
        raise FileRefused(f"a file of {size} bytes at {url}", f"one of {have + int(length)} bytes", OTHER_FILE)


def _open(url: str, have: int) -> Answer:
    request = urllib.request.Request(url, headers={"User-Agent": "stillmotion", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer: Answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        # Nothing beyond what is there: the source is shorter than it should be, or another file.
        if have and error.code == 416:
            return _open(url, 0)
        raise
    return answer


def _goes_on(answer: Answer, have: int) -> bool:
    """Whether the server sends the rest; one that cannot sends the whole file."""
    return have > 0 and answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _verify(url: str, part: Path, size: int, sha256: str) -> None:
    got = part.stat().st_size
    if got < size:
        remedy = f"The connection broke. Run the command again: it goes on from {part}."
        raise UserError(f"{size} bytes from {url}", f"{got}", remedy)
    digest = _digest(part) if got == size else ""
    if digest == sha256:
        return
    part.unlink()
    wrong = f"SHA-256 {digest}" if digest else f"more than {size} bytes"
    raise FileRefused(f"a file of {size} bytes with SHA-256 {sha256} from {url}", wrong, f"What came was deleted. {OTHER_FILE}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreachable(url: str, error: Exception) -> UserError:
    if isinstance(error, urllib.error.HTTPError):
        return UserError(f"a file at {url}", f"status {error.code} ({error.reason})", OTHER_FILE)
    reason = getattr(error, "reason", None) or error
    remedy = "Check the network and run the command again, or name a local folder with --data-root."
    return UserError(f"an answer from {url}", f"{type(error).__name__}: {reason}", remedy)


def _unwritable(path: Path, error: OSError) -> UserError:
    if error.errno == errno.ENOSPC:
        remedy = "Free some space and run the command again: it goes on from there."
        return UserError(f"room on the disk for {path}", "a full disk", remedy)
    return UserError(f"to write {path}", f"{type(error).__name__}: {error.strerror}", "Check its folder's permissions, or choose another.")
