"""A new user's hour: the README's tour, command by command, as it stands there; and a run that is killed.

Fashion-MNIST is needed, and the extras. With TOUR=write the outputs are written into the README instead of compared."""
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastnn
from fastnn.train import latest

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- the tour: tests/real/test_tour.py runs it -->\n", "<!-- end of the tour -->\n"
TOUR = README.read_text().partition(BEGIN)[2].partition(END)[0]
NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|nan|inf)")
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "2",
                            "PYTHONUNBUFFERED": "1"}  # fmt: skip


def shell(command, folder, until=None, how=signal.SIGINT):
    """Exit status and output of a command, which gets the signal `how` as soon as until(output so far) is true."""
    with open(folder / "output", "w+") as output:
        process = subprocess.Popen(["bash", "-c", f"exec {command}" if until else command], cwd=folder,
                                   env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
        before = 0
        while until and process.poll() is None:
            text = Path(output.name).read_text()
            if until(text):
                process.send_signal(how)
                until, before = None, len(text.splitlines())
            time.sleep(0.05)
        status = process.wait(600)
        lines = [line.rstrip() for line in Path(output.name).read_text().splitlines()]
    return status, [*lines[:before], *["^C"] * (status == 130), *lines[before:]]


def in_the_second_epoch(text):
    """Some steps after the line of the first."""
    if re.search(r"^epoch +1", text, re.MULTILINE):
        time.sleep(2)
        return True
    return False


def five_trials(folder):
    def found(text):
        try:
            with sqlite3.connect(f"file:{folder / 'search.db'}?mode=ro", uri=True) as database:
                return database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0] >= 5
        except sqlite3.Error:  # it is not there yet
            return False

    return found


def steps():
    """Commands, and the lines that they print."""
    found = []
    for line in TOUR.splitlines():
        if line.startswith("    $ "):
            found.append((line[6:], []))
        elif line.startswith("    "):
            found[-1][1].append(line.strip())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tour")


def test_the_tour(folder):
    outputs = {}
    for command, expected in steps():
        stopped = "^C" in expected
        until = None
        if stopped:
            until = five_trials(folder) if " search " in command else in_the_second_epoch
        status, lines = shell(command, folder, until)
        print(f"$ {command}", *lines, sep="\n")
        outputs.setdefault(command, []).append(lines)
        if os.environ.get("TOUR") == "write":
            continue
        failed = bool(lines) and re.match(r"[1-9]\d* failures", lines[-1]) is not None
        assert status == (130 if stopped else int(failed))
        words, needed = ([NUMBER.sub("#", " ".join(line.split())) for line in found] for found in (lines, expected))
        assert words == needed, command
        for line, there in zip(lines, expected, strict=True):
            if there.startswith("test accuracy"):
                assert float(line.split()[-1]) > float(there.split()[-1]) - 0.02
    if os.environ.get("TOUR") == "write":
        kept = []
        for line in TOUR.splitlines():
            if line.startswith("    $ "):
                kept += [line, *(f"    {found}".rstrip() for found in outputs[line[6:]].pop(0))]
            elif not line.startswith("    "):
                kept.append(line)
        README.write_text(README.read_text().replace(TOUR, "\n".join([*kept, ""])))


def test_a_killed_run_goes_on(folder):
    """SIGKILL in the middle of the second epoch; the resumed run has the bits of the one that was left alone."""
    command = "fastnn train --config runs/fashion/config.toml --output runs/killed --checkpoint-steps 100"
    status, _ = shell(command, folder, in_the_second_epoch, signal.SIGKILL)
    assert status == -signal.SIGKILL
    position = fastnn.load(latest(folder / "runs/killed/checkpoints"))["position"]
    assert position["epoch"] == 1 and position["batch"] > 0
    assert shell("fastnn train --resume runs/killed", folder)[0] == 0
    networks = [(folder / "runs" / name / "model.safetensors").read_bytes() for name in ("killed", "fashion", "again")]
    assert networks[0] == networks[1] == networks[2]
