"""Downloads, from a server of their own on this machine."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fastnn.data import download as module
from fastnn.data.download import download

BODY = np.random.default_rng(0).integers(0, 256, 700_001, np.uint8).tobytes()
SHA = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `sent` has (status, bytes of the body) of each answer. The rest are ways to misbehave."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.sent = {"/f.bin": BODY}, []
        self.ranges, self.cut, self.statuses, self.pause, self.shift, self.length = True, [], [], 0.0, 0, True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, body, start = self.server, self.server.files.get(self.path), 0
        status = 404 if body is None else server.statuses.pop(0) if server.statuses else 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if status == 200 and asked and server.ranges:
            start = int(asked[1]) + server.shift
            status = 206 if start < len(body) else 416
        if status == 0:
            self.wfile.write(b"garbage\r\n\r\n")
            return
        body = body[start:] if status in (200, 206) else b"sorry"
        self.send_response(status)
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{start + len(body)}")
        self.end_headers()
        body = body[: server.cut.pop(0)] if server.cut else body
        server.sent.append((status, len(body)))
        for i in range(0, len(body), 50_000):
            self.wfile.write(body[i : i + 50_000])
            time.sleep(server.pause)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSE", 0.001)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "f.bin"


def check(path):
    assert path.read_bytes() == BODY
    assert os.listdir(path.parent) == ["f.bin"]


@pytest.mark.parametrize("checksum", [SHA, MD5])
@pytest.mark.parametrize("length", [True, False])
def test_whole(server, path, checksum, length):
    server.length = length
    download(f"{server.url}/f.bin", path, checksum)
    check(path)
    download(f"{server.url}/f.bin", str(path), checksum)  # it is there
    check(path)
    assert server.sent == [(200, len(BODY))]


def test_another_file_in_its_place_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(b"old")
    download(f"{server.url}/f.bin", path, SHA)
    check(path)


@pytest.mark.parametrize(("ranges", "shift", "sent"), [
    (True, 0, [(206, 400_001)]), (False, 0, [(200, 700_001)]), (True, 9, [(206, 399_992), (200, 700_001)]),
], ids=["ranges", "no ranges", "wrong range"])  # fmt: skip
def test_an_interrupted_one_goes_on(server, path, ranges, shift, sent):
    server.ranges, server.shift = ranges, shift
    path.parent.mkdir()
    path.with_name("f.bin.part").write_bytes(BODY[:300_000])
    download(f"{server.url}/f.bin", path, SHA)
    check(path)
    assert server.sent == sent


def test_a_part_that_is_whole_is_not_fetched(server, path):
    path.parent.mkdir()
    path.with_name("f.bin.part").write_bytes(BODY)
    download(f"{server.url}/f.bin", path, SHA)
    check(path)
    assert server.sent == []


def test_a_part_that_is_too_long_is_fetched_anew(server, path):
    path.parent.mkdir()
    path.with_name("f.bin.part").write_bytes(BODY + b"x")
    download(f"{server.url}/f.bin", path, SHA)
    check(path)
    assert server.sent == [(416, 5), (200, len(BODY))]


def test_a_wrong_checksum_leaves_nothing(server, path):
    path.parent.mkdir()
    path.with_name("f.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match=rf"{server.url}/f.bin came with the checksum \w{{64}}, {path} needs {SHA}; 7"):
        download(f"{server.url}/f.bin", path, SHA)
    assert os.listdir(path.parent) == []
    with pytest.raises(ValueError, match=f"came with the checksum {MD5}, .* needs {'0' * 32}"):
        download(f"{server.url}/f.bin", path, "0" * 32)
    assert os.listdir(path.parent) == []


def test_a_truncated_body_is_kept_for_the_next_call(server, path):
    server.cut = [100_000, 50_000, 0, 20_000]
    with pytest.raises(OSError, match=f"{server.url}/f.bin: the connection ended after 170000 of 700001 bytes; "
                                      r".*f.bin.part keeps the 170000 bytes .* next call goes on"):
        download(f"{server.url}/f.bin", path, SHA)
    assert os.listdir(path.parent) == ["f.bin.part"]
    server.sent.clear()
    download(f"{server.url}/f.bin", path, SHA)
    check(path)
    assert server.sent == [(206, 530_001)]


def test_errors_of_the_server(server, path):
    with pytest.raises(OSError, match=f"{server.url}/g.bin: HTTP Error 404"):
        download(f"{server.url}/g.bin", path, SHA)
    assert os.listdir(path.parent) == []
    assert server.sent == [(404, 5)]  # once
    server.statuses = [503, 0, 429]
    download(f"{server.url}/f.bin", path, SHA)  # these pass
    check(path)


def test_no_connection(server, path):
    with pytest.raises(OSError, match=r"http://127.0.0.1:1/f.bin: .*refused.* keeps the 0 bytes"):
        download("http://127.0.0.1:1/f.bin", path, SHA)
    assert os.listdir(path.parent) == []


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match="url must begin with http"):
        download("file:///etc/passwd", tmp_path / "f", SHA)
    for checksum in ("", SHA[1:], SHA[1:] + "g"):
        with pytest.raises(ValueError, match="sha256 or md5"):
            download("http://127.0.0.1:1/f", tmp_path / "f", checksum)


def process(server, path):
    code = "import sys; from fastnn.data.download import download; download(*sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", code, f"{server.url}/f.bin", str(path), SHA], env=os.environ)


def test_a_killed_process_leaves_a_part_to_go_on_with(server, path):
    server.pause = 0.1
    child, part = process(server, path), path.with_name("f.bin.part")
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL
    assert os.listdir(path.parent) == ["f.bin.part"]
    kept = part.read_bytes()
    assert kept == BODY[: len(kept)]
    server.pause = 0
    server.sent.clear()
    download(f"{server.url}/f.bin", path, SHA)
    check(path)
    assert server.sent == [(206, len(BODY) - len(kept))]


def test_two_processes_at_once(server, path):
    server.pause = 0.03
    children = [process(server, path) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    check(path)
    assert len(server.sent) == 1
