"""Files from the network: there whole and verified, or not at all.

Bytes go to `<name>.part`, which alone a process that was killed leaves behind and with which the next one goes on. Who
holds the lock on that file may write it and rename it; a process that waited for the lock finds the file it wanted."""
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

TRIES, PAUSE, TIMEOUT = 4, 1.0, 30.0  # s; the n-th pause is n times as long


def download(url: str, path: str | os.PathLike[str], checksum: str) -> None:
    """Fetch `url` (http or https) into the file `path`, unless it is there, with this sha256 or md5 (hexadecimal).

    What an earlier call left in ``<path>.part`` is completed if the server sends ranges. A connection that fails is
    tried again, 4 times in all, 30 s each. Raises OSError, naming the url, if that does not help: the next call goes on
    where this one stopped. Raises ValueError, and throws away what came, if the checksum is another."""
    path, part = os.fsdecode(path), os.fsdecode(path) + ".part"
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"download: url must begin with http:// or https://, got {url!r}")
    if len(checksum) not in (32, 64) or set(checksum) - set("0123456789abcdef"):
        raise ValueError(f"download: checksum must be a sha256 or md5 in 64 or 32 hexadecimal digits, got {checksum!r}")
    os.makedirs(os.path.dirname(part) or ".", exist_ok=True)
    with _locked(part) as file:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as old:
            if _digest(old, checksum) == checksum:
                os.unlink(part)
                return
        if _digest(file, checksum) != checksum:
            _fetch(url, file, part)
            found = _digest(file, checksum)
            if found != checksum:
                os.unlink(part)
                raise ValueError(f"download: {url} came with the checksum {found}, {path} needs {checksum}; "
                                 f"{file.tell()} bytes are thrown away")
        os.fsync(file.fileno())
        os.replace(part, path)


def _digest(file: Any, like: str) -> str:
    import hashlib

    file.seek(0)
    name = "md5" if len(like) == 32 else "sha256"
    return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()


@contextlib.contextmanager
def _locked(part: str) -> Iterator[Any]:
    """The file `part`, open for reading and appending by one process at a time."""
    while True:
        with open(part, "a+b") as file:
            with contextlib.suppress(ImportError, OSError):  # where there are no locks, the checksum alone guards
                from fcntl import LOCK_EX, flock

                flock(file, LOCK_EX)
            with contextlib.suppress(FileNotFoundError):  # who held the lock has renamed or deleted what was opened
                if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                    yield file
                    return


def _fetch(url: str, file: Any, part: str) -> None:
    from http.client import HTTPException

    for attempt in range(1, TRIES + 1):
        try:
            return _transfer(url, file)
        except (OSError, HTTPException) as error:
            kept, status = file.seek(0, os.SEEK_END), getattr(error, "code", 500)
            getattr(error, "close", int)()  # of an HTTPError
            if status == 416 and kept:  # the file there is no longer than what is here
                file.truncate(0)
                return _fetch(url, file, part)
            if attempt == TRIES or (status < 500 and status not in (408, 429)):
                if not kept:
                    os.unlink(part)
                raise OSError(f"download: {url}: {error}; {part} keeps the {kept} bytes that came, and the next call "
                              "goes on where this one stopped") from error
        time.sleep(PAUSE * attempt)


def _transfer(url: str, file: Any) -> None:
    """Append to `file` what it lacks of `url`."""
    from urllib.request import Request, urlopen

    from tqdm import tqdm

    start = file.seek(0, os.SEEK_END)
    asked = {"Range": f"bytes={start}-"} if start else {}
    with urlopen(Request(url, headers={"User-Agent": "fastnn", **asked}), timeout=TIMEOUT) as response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            file.truncate(0)
            start = file.seek(0)
            if response.status != 200:
                raise OSError(f"a range was sent that was not asked for: {response.headers.get('Content-Range')}")
        total = None if response.length is None else start + response.length
        name = os.path.basename(url)
        with tqdm.wrapattr(response, "read", total, initial=start, desc=name, leave=False, disable=None) as body:
            shutil.copyfileobj(body, file, 1 << 16)
        file.flush()
        if total not in (None, file.tell()):
            raise OSError(f"the connection ended after {file.tell()} of {total} bytes")
