"""Pictures read from JPEG files by one and by more threads, scaled to 224×224: images a second, processors in use.

The files are photographs-like noise of several sizes, written to a temporary folder. Threads take turns.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fastnn.data import DataLoader, ImageFolder

ROUNDS = 5


def write(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        path = folder / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        small.resize((640, 480), Image.Resampling.BICUBIC).crop((0, 0, 640 - i, 480 - i)).save(path, quality=90)


def main() -> int:
    threads = [1, 2, *({os.cpu_count() or 1} - {1, 2})]
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), 160)
        dataset = ImageFolder(name, size=224)
        times: dict[int, list[float]] = {n: [] for n in threads}
        busy: dict[int, list[float]] = {n: [] for n in threads}
        for _ in range(ROUNDS):
            for n in [*threads, *reversed(threads)]:
                start, used = time.perf_counter(), time.process_time()
                for _ in DataLoader(dataset, 8, num_workers=n):
                    pass
                times[n].append(time.perf_counter() - start)
                busy[n].append((time.process_time() - used) / times[n][-1])
    print("threads  images/s  times one thread's  busy processors")
    for n in threads:
        ratio = statistics.median(a / b for a, b in zip(times[1], times[n], strict=True))
        print(f"{n:7} {len(dataset) / min(times[n]):9.0f} {ratio:12.2f} {statistics.median(busy[n]):18.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
