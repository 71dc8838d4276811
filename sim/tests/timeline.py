#!/usr/bin/env python3
"""timeline.html in a headless browser, against the report of the same run.

What is drawn is counted in the page's own DOM, after its script ran: every probe, step, fault
and dropped frame of the JSON report must be there once, filters must leave what they say,
keys must go from mark to mark, nothing from a scenario may become markup, and the browser's
console must stay empty. Needs chromium-headless-shell or chromium.

    python3 sim/tests/timeline.py --bin target/release/sluice-sim [--keep DIR]
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from html.parser import HTMLParser

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCENARIOS = ["quickstart", "changes", "lossy-wires", "restarts", "spoofed-sources"]
WIDE, NARROW = (1280, 900), (390, 844)
# A browser takes a second; one that takes so long hangs.
TIMEOUT_S = 60
BAD = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

# Appended to a copy of the page: acts as a person would and tells what came of it.
ACTS = """
<script>
const told = {};
const scroll = document.getElementById("scroll");
const press = (key) => scroll.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const title = () => (document.querySelector("#detail h3") || {}).textContent || "";
const marks = () => document.querySelectorAll("[data-kind]").length;
told.all = marks();
told.titles = [];
for (let i = 0; i < 5; i += 1) { press("ArrowRight"); told.titles.push(title()); }
told.chosen = document.querySelectorAll(".m.sel").length;
press("ArrowLeft"); told.back = title();
press("Escape"); told.after = title();
const wide = document.getElementById("chart").getAttribute("width");
press("+"); told.zoomed = Number(document.getElementById("chart").getAttribute("width")) > Number(wide);
press("-");
const mark = document.querySelector("[data-kind=talk]");
mark.dispatchEvent(new PointerEvent("pointerover", {bubbles: true, pointerType: "mouse"}));
told.hovered = title();
mark.dispatchEvent(new MouseEvent("click", {bubbles: true}));
told.clicked = title();
document.querySelector("#detail .go button:last-child").click();
const legend = document.querySelector("[data-legend=deny]");
legend.click(); told.hidden = document.querySelectorAll("[data-layer=deny]").length;
document.getElementById("clear").click(); told.again = marks();
document.getElementById("list").open = true;
told.overflow = document.documentElement.scrollWidth - window.innerWidth;
setTimeout(() => {
  told.listed = document.querySelectorAll("#items li").length;
  document.body.dataset.told = JSON.stringify(told);
}, 50);
</script>
"""


class Page(HTMLParser):
    """The marks of a page, and what its script says of itself."""

    def __init__(self, html):
        super().__init__()
        self.marks, self.buttons, self.root, self.body, self.images = [], [], {}, {}, 0
        self.title, self.in_title = "", False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "data-kind" in attributes:
            self.marks.append(attributes)
        if tag == "button":
            self.buttons.append(attributes)
        if tag in ("html", "body"):
            (self.root if tag == "html" else self.body).update(attributes)
        self.images += tag == "img"
        self.in_title = tag == "title"

    def handle_data(self, data):
        if self.in_title:
            self.title += data

    def handle_endtag(self, tag):
        self.in_title = False

    def of(self, kind, layers=None):
        found = [it for it in self.marks if it["data-kind"] == kind]
        return [it for it in found if layers is None or it["data-layer"] in layers]


class Browser:
    """A headless browser that reads files."""

    def __init__(self):
        names = ["chromium-headless-shell", "chromium"]
        self.program = next((path for path in map(shutil.which, names) if path), None)
        if self.program is None:
            sys.exit("no headless browser: install chromium-headless-shell, or run make deps")

    def run(self, url, size, *more):
        try:
            ran = self._try(url, size, *more)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            # A browser's start may hang or fail by itself; twice in a row it is the page.
            print(f"timeline: once more: {error}", file=sys.stderr)
            ran = self._try(url, size, *more)
        spoken = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
        check(not spoken, f"{url}: the console says {spoken}")
        return ran.stdout

    def _try(self, url, size, *more):
        with tempfile.TemporaryDirectory() as profile:
            command = [self.program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                       "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--enable-logging=stderr",
                       "--virtual-time-budget=5000", f"--window-size={size[0]},{size[1]}", *more, url]
            return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)

    def page(self, path, size=WIDE, choice=""):
        return Page(self.run(f"{path.as_uri()}{choice}", size, "--dump-dom"))


checks = 0


def check(holds, text):
    global checks
    checks += 1
    if not holds:
        sys.exit(f"timeline: {text}")


def equal(is_now, must, what):
    check(is_now == must, f"{what}: drawn {is_now}, the report has {must}")


def play(program, scenario, out):
    command = [program, "run", str(scenario), "--out", str(out), "--output", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    check(ran.returncode == 0, f"{scenario}: exit {ran.returncode}: {ran.stderr}")
    return json.loads(ran.stdout), out / "timeline.html"


def counts(page, report, name):
    equal(page.root.get("data-ready"), "yes", f"{name}: the script's end")
    verdicts = Counter(it["verdict"] for it in report["results"])
    equal(len(page.of("talk", {"allow", "clear"})), verdicts["allow"], f"{name}: allowed")
    equal(len(page.of("talk", {"deny"})), verdicts["deny"], f"{name}: denied")
    encrypted = sum(it["verdict"] == "allow" and it["encrypted"] for it in report["results"])
    equal(len(page.of("talk", {"allow"})), encrypted, f"{name}: encrypted")
    equal(len(page.of("step")), len(report["steps"]), f"{name}: steps")
    broken = sum(it["verb"] in ("fault", "kill") for it in report["steps"])
    equal(len(page.of("fault")), broken, f"{name}: faults")
    spoofs = sum(it["verb"] == "spoof" for it in report["steps"])
    equal(len(page.of("talk", {"other"})), spoofs, f"{name}: traffic that nobody asked with")
    frames = sum(it["frames"] for it in report["drops"])
    equal(sum(int(it["data-frames"]) for it in page.of("drop")), frames, f"{name}: dropped frames")
    reasons = Counter()
    for drop in report["drops"]:
        reasons[drop["reason"]] += drop["frames"]
    told = {it["data-reason"]: int(it["data-frames"]) for it in page.buttons if "data-reason" in it}
    equal(told, dict(reasons), f"{name}: frames by reason")
    check(page.of("generation") and page.of("key"), f"{name}: no generation or no key")
    return reasons


def acts(browser, path, report):
    copy = path.with_name("acts.html")
    copy.write_text(path.read_text().replace("</body>", f"{ACTS}</body>"))
    for size in (WIDE, NARROW):
        page = browser.page(copy, size)
        told = json.loads(page.body["data-told"])
        check(len(set(told["titles"])) > 1 and all(told["titles"]), f"keys: {told['titles']}")
        equal(told["back"], told["titles"][3], "the arrow back")
        equal(told["chosen"], 1, "chosen marks")
        equal(told["after"], "", "Escape")
        check(told["zoomed"], "plus doesn't zoom")
        check("→" in told["hovered"] and told["hovered"] == told["clicked"], f"pointing: {told}")
        equal(told["hidden"], 0, "denied marks after the legend was pressed")
        equal(told["again"], told["all"], "marks after Clear")
        equal(told["listed"], told["all"], "items of the list")
        check(told["overflow"] <= 0, f"{size[0]} px: the page is {told['overflow']} px too wide")


def filters(browser, path, report, reasons):
    for reason, frames in reasons.items():
        page = browser.page(path, WIDE, f"#reason={reason}")
        equal(sum(int(it["data-frames"]) for it in page.of("drop")), frames, f"filter {reason}")
    pod = report["results"][0]["from"]
    mine = sum(pod in (it["from"], it["to"]) for it in report["results"])
    page = browser.page(path, WIDE, f"#pod={pod}")
    equal(len(page.of("talk")), mine, f"filter {pod}")


def hostile(browser, program, folder):
    """A scenario's words are text, whatever they look like."""
    scenario = folder / "hostile.yaml"
    manifests = ROOT / "sim/manifests/quickstart"
    step = {"probe": {"from": "shop/web", "to": "shop/cart", "protocol": "TCP", "port": 8080}}
    scenario.write_text(json.dumps({"name": BAD, "description": BAD, "manifests": str(manifests), "steps": [step]}))
    report, path = play(program, scenario, folder / "hostile")
    page = browser.page(path)
    counts(page, report, "hostile")
    equal(page.title, BAD, "the title")
    equal(page.images, 0, "images")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path, help="leave pages and screenshots here")
    arguments = parser.parse_args()
    program, browser = str(arguments.bin.resolve()), Browser()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in SCENARIOS:
            report, path = play(program, ROOT / f"sim/scenarios/{name}.yaml", folder / name)
            reasons = counts(browser.page(path), report, name)
            if name == "quickstart":
                filters(browser, path, report, reasons)
            if name == "restarts":
                counts(browser.page(path, NARROW), report, name)
                acts(browser, path, report)
        hostile(browser, program, folder)
        if arguments.keep:
            for name in SCENARIOS:
                for size in (WIDE, NARROW):
                    shot = folder / name / f"timeline-{size[0]}.png"
                    browser.run((folder / name / "timeline.html").as_uri(), size, f"--screenshot={shot}")
            shutil.copytree(folder, arguments.keep, dirs_exist_ok=True)
    print(f"timeline: {checks} checks held in {pathlib.Path(browser.program).name}")


if __name__ == "__main__":
    main()
