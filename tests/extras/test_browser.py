"""The report of a digits run in headless Chromium, without a network: every picture is drawn, the console is silent,
and nothing is asked for. Skipped where there is no chromium, unless FASTNN_BROWSER names the browser."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from fastnn import nn
from fastnn.data import DataLoader, Subset, source
from fastnn.data.transforms import ToFloat
from fastnn.train import Trainer
from fastnn.train.report import Report

pytest.importorskip("matplotlib")
BROWSER = os.environ.get("FASTNN_BROWSER") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium")

# put behind a copy of the page: what the browser made of it, as JSON
PROBE = """<script>
addEventListener("load", () => {
  const seen = {images: [...document.images].map(i => [i.alt, i.naturalWidth, i.clientWidth]),
    requests: performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:")),
    sections: [...document.querySelectorAll("h2")].map(h => h.textContent),
    wide: document.documentElement.scrollWidth > innerWidth};
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>"""


def browse(path, folder, size="1200,900"):
    """The page's text as the browser has it in the end, and what it says of it on stderr."""
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
         "--proxy-server=127.0.0.1:9", f"--user-data-dir={folder}", f"--window-size={size}", "--enable-logging=stderr",
         "--v=0", "--virtual-time-budget=10000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, console


def probe(path, tmp_path, size="1200,900"):
    copy = tmp_path / "probe.html"
    copy.write_text(path.read_text() + PROBE)
    dom, console = browse(copy, tmp_path / "profile", size)
    text = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL).group(1)
    return json.loads(text.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")), console


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.html"
    kept, _ = source.open_data("digits", ("train", "test"))
    batches = DataLoader(Subset(kept, np.arange(400)), 64, transform=ToFloat(np.float32))
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    Trainer(progress=False).fit(model, batches, batches, 3, callbacks=[
        Report(path, classes=["<img src=x>", *"123456789"])], config={"model": "cnn"})
    return path


def test_curves_and_pictures_are_there(page, tmp_path):
    seen, console = probe(page, tmp_path)
    assert console == []
    assert seen["requests"] == []
    assert seen["sections"] == ["Configuration", "Diagnosis", "Curves", "Epochs", "Confusion matrix", "Classes",
                                "Samples of the highest loss", "Filters", "Activations", "Network", "Environment"]
    names = [alt for alt, _, _ in seen["images"]]
    assert names == ["curves", "confusion matrix", *["sample"] * 24, "filters", "activations"]
    assert all(natural > 0 and shown > 0 for _, natural, shown in seen["images"])
    assert not seen["wide"]


def test_on_a_narrow_screen(page, tmp_path):
    seen, _ = probe(page, tmp_path, "500,800")
    assert not seen["wide"]


def test_the_page_as_it_is(page, tmp_path):
    dom, console = browse(page, tmp_path / "profile")
    assert console == []
    assert not re.findall(r"(?:src|href)=\"(?!data:)|https?://", dom)


@pytest.mark.parametrize("harm", ['<img src="data:image/png;base64,AAAA">', "<script>console.error('x')</script>",
                                  '<img src="https://example.org/x.png">'])
def test_the_probe_sees_what_is_wrong(page, tmp_path, harm):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("</body>", harm + "</body>"))
    seen, console = probe(broken, tmp_path)
    assert console or seen["requests"] or not all(natural for _, natural, _ in seen["images"])
