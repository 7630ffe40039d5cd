#!/usr/bin/env python3
"""Tests the page of the operator's port in headless Chromium.

    tests/page/run.py [--binary PATH] [--chromium PATH] [--screenshots DIRECTORY]

Starts an emulator and a sidecar, makes requests, and looks at http://…/admin/ in light and dark, 1280 and 360 pixels wide: the numbers
are those of /admin/status, nothing violates the policy of the page, no node is replaced where only a number changes, contrast and
width suffice. Then the sidecar ends, and the page must say so. At last a server of this script gives the page a status whose every
text is hostile.
"""

import argparse
import http.server
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from browser import Browser  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MEDIA_TYPE = "application/vnd.microsoft.appconfig.kv+json"
# What changes by itself between two looks.
RESTLESS = ("uptime_seconds", "pace", "peak", "off", "process.", "requests.recent.covers_seconds", "mirror.oldest_range_seconds")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>{{x}}&amp;\u202e"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for taken in sockets:
        taken.bind(("127.0.0.1", 0))
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def ask(url, method="GET", body=None, **fields):
    """The status and the body of an answer."""
    fields = {name.replace("_", "-"): value for name, value in fields.items()}
    request = urllib.request.Request(url, method=method, data=body and body.encode(), headers=fields)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Scene:
    """An emulator with a sidecar before it, and two upstreams: the second one is away."""

    def __init__(self, binary):
        self.directory = tempfile.TemporaryDirectory()
        emulator, emulator_admin, callers, operator, away = free_ports(5)
        self.callers, self.operator = f"http://127.0.0.1:{callers}", f"http://127.0.0.1:{operator}"
        token = pathlib.Path(self.directory.name, "token")
        configuration = pathlib.Path(self.directory.name, "tagalong.toml")
        configuration.write_text(f"""
[listener]
listen = ["127.0.0.1:{callers}"]
[admin]
listen = ["127.0.0.1:{operator}"]
show_keys = true
token_file = "{token}"
[logging]
level = "error"
[upstream]
url = "http://127.0.0.1:{emulator}"
profile = "app-configuration"
[upstream.credential]
kind = "none"
[upstream.budget]
requests = 6000
[upstream.mirror]
enabled = true
[upstreams.orders]
url = "http://127.0.0.1:{away}"
profile = "generic"
path_prefix = "/orders"
""")
        self.processes = [
            subprocess.Popen([binary, "emulator", "--listen", f"127.0.0.1:{emulator}", "--admin-listen", f"127.0.0.1:{emulator_admin}"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
            subprocess.Popen([binary, "run", "--config", configuration], stdout=subprocess.DEVNULL, stderr=sys.stderr),
        ]
        try:
            subprocess.run([binary, "wait", "--config", configuration], check=True)
            self.token = token.read_text().strip()
        except Exception:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        self.directory.cleanup()

    def kill_sidecar(self):
        self.processes[1].kill()
        self.processes[1].wait()

    def status(self):
        return json.loads(ask(f"{self.operator}/admin/status", Authorization=f"Bearer {self.token}")[1])

    def make_traffic(self):
        for number in range(12):
            target = f"{self.callers}/kv/app:settings:{number}?api-version=2023-11-01"
            assert ask(target, "PUT", json.dumps({"value": "x" * 500}), Content_Type=MEDIA_TYPE)[0] == 200
            for _ in range(3 + 80 // (number + 1)):
                assert ask(target)[0] == 200
        assert ask(f"{self.callers}/kv/app:absent?api-version=2023-11-01")[0] == 404
        failed = ask(f"{self.callers}/orders/7")
        assert failed[0] >= 502, failed
        for origin in ("http://attacker.test", "http://other.test"):
            assert ask(f"{self.callers}/kv/x", Origin=origin)[0] == 403


READ_NUMBERS = """(() => {
  const values = root => Array.from(root.querySelectorAll('[data-t]'), it => [it.dataset.t, JSON.parse(it.dataset.value), it.textContent]);
  const rows = root => Array.from(root.querySelectorAll('[data-rows]'), body => [
    body.dataset.rows, body.dataset.some ?? null, Array.from(body.rows, row => [row.cells[0].textContent, JSON.parse(row.dataset.value)]),
  ]);
  const read = root => ({ values: values(root), rows: rows(root) });
  return {
    whole: ['body > header', '#main > .grid', '#main > .wide'].map(it => read(document.querySelector(it))),
    upstreams: Array.from(document.querySelectorAll('.upstream'), read),
    keys: Array.from(document.querySelector('#keys').rows, row => [row.cells[0].textContent, JSON.parse(row.dataset.value)]),
    refusals: Array.from(document.querySelector('#refusals').rows, row => row.cells[0].textContent),
  };
})()"""

# The least contrast of a text that can be seen with what is behind it (WCAG 2, AA: 4.5).
LEAST_CONTRAST = """(() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => {
    const [r, g, b] = parts(color).slice(0, 3).map(it => it / 255).map(it => it <= .03928 ? it / 12.92 : ((it + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  let least = [99, ''];
  for (const node of document.querySelectorAll('body *')) {
    const texts = Array.from(node.childNodes).some(it => it.nodeType === 3 && it.data.trim());
    if (!texts || !node.checkVisibility() || node.closest('.unseen, template, script, style')) continue;
    const [one, other] = [luminance(getComputedStyle(node).color), luminance(ground(node))].sort((a, b) => b - a);
    const contrast = (one + .05) / (other + .05);
    if (contrast < least[0]) least = [contrast, node.textContent];
  }
  return least;
})()"""


def at(data, path):
    for name in path.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data


def assert_numbers(seen, status):
    """The numbers on the page are those of the status. Returns how many were compared."""
    compared = 0
    parts = [(whole, status) for whole in seen["whole"]] + list(zip(seen["upstreams"], status["upstreams"], strict=True))
    for shown, data in parts:
        for what, value, text in shown["values"]:
            path, _, form = what.partition("|")
            if path.startswith(RESTLESS):
                continue
            assert value == at(data, path), (what, value, at(data, path))
            if form == "count" and value is not None:
                assert text == f"{value:,}", (what, text)
            compared += 1
        for path, some, rows in shown["rows"]:
            expected = {word: count for word, count in (at(data, path) or {}).items() if count > 0 or some is None}
            assert dict(rows) == (expected or ({"none": None} if some == "" else {})), (path, rows, expected)
            compared += len(rows)
    assert seen["keys"] == [[it["key"], it["share"]] for it in status["hottest_keys"]["keys"]]
    assert seen["refusals"] == [it["reason"] for it in status["refusals"]["last"]]
    return compared


def quiet(status):
    """The status without what changes by itself."""
    status = json.loads(json.dumps(status))
    for name in ("uptime_seconds", "now_unix_seconds", "process", "hottest_keys"):
        status[name] = None
    for upstream in status["upstreams"]:
        upstream["requests"]["recent"] = upstream["budget"] = None
        if upstream["mirror"]:
            upstream["mirror"]["oldest_range_seconds"] = None
    return status


def wait_for_polls(page, more):
    page.wait_for(f"Number(document.documentElement.dataset.polls) >= {page.value('Number(document.documentElement?.dataset.polls || 0)') + more}")


def assert_no_wider(page, width):
    found = page.value("document.documentElement.scrollWidth")
    assert found <= width, f"{found} px at a width of {width}"


def test_numbers(browser, scene, screenshots):
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            page = browser.page(f"{scene.operator}/", width, scheme=scheme)
            page.wait_for("!document.querySelector('#main')?.hidden && document.documentElement.dataset.polls >= 1")
            assert page.value("location.pathname") == "/admin/"
            # Without the token no key is named.
            assert page.value("document.querySelector('#keys').rows[0].cells[0].textContent") == "no hit was counted"
            page.value(f"document.querySelector('#token').value = {json.dumps(scene.token)}")
            wait_for_polls(page, 2)
            for attempt in range(20):
                before = scene.status()
                wait_for_polls(page, 2)
                seen, after = page.value(READ_NUMBERS), scene.status()
                if quiet(before) == quiet(after) and before["hottest_keys"] == after["hottest_keys"]:
                    try:
                        compared = assert_numbers(seen, after)
                        break
                    except AssertionError:
                        # The budget forecasts anew, and steps of the history end, between two looks.
                        if attempt > 10:
                            raise
            else:
                raise AssertionError("the numbers never rest")
            assert compared > 100, compared
            assert page.value("document.querySelectorAll('.upstream').length") == 2
            assert_no_wider(page, width)
            contrast, text = page.value(LEAST_CONTRAST)
            assert contrast >= 4.5, f"{scheme}: contrast {contrast:.2f} of {text!r}"
            assert page.complaints() == [], page.complaints()
            if screenshots:
                page.screenshot(screenshots / f"page-{scheme}-{width}.png")
            print(f"ok: {compared} numbers in {scheme}, {width} px, least contrast {contrast:.1f}")
            page.close()


def test_nodes_stay(browser, scene):
    page = browser.page(f"{scene.operator}/admin/", 1280)
    wait_for_polls(page, 2)
    total = "document.querySelector('[data-t=\"requests.total|count\"]').firstChild"
    page.value(f"""window.kept = {total}; window.replaced = [];
        new MutationObserver(changes => replaced.push(...changes.map(it => it.target.className + it.target.textContent)))
            .observe(document.querySelector('#upstreams'), {{ childList: true, subtree: true }})""")
    before = page.value("kept.data")
    for _ in range(5):
        assert ask(f"{scene.callers}/kv/app:settings:1?api-version=2023-11-01")[0] == 200
    wait_for_polls(page, 3)
    assert page.value("kept.data") != before and page.value(f"kept === {total}"), "the text of the same node has changed"
    assert page.value("replaced") == [], page.value("replaced")
    page.close()
    print("ok: numbers change in place")


def test_structure(browser, scene):
    """What a reader of screens needs: names for every part, heads in order, and words for what is drawn."""
    page = browser.page(f"{scene.operator}/admin/", 1280)
    wait_for_polls(page, 1)
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = [(node.get("role", {}).get("value"), node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    nameless = [role for role, name in named if role in ("region", "img", "meter", "link", "textbox") and not name]
    assert nameless == [], nameless
    assert any(role in ("image", "img") and "Hit rate" in name for role, name in named), named
    levels = page.value("Array.from(document.querySelectorAll('h1, h2, h3'), it => Number(it.tagName[1]))")
    assert levels[0] == 1 and all(next_ - level <= 1 for level, next_ in zip(levels, levels[1:])), levels
    assert page.value("document.documentElement.lang") == "en"
    page.close()
    print("ok: all parts have names")


def test_away(browser, scene, screenshots):
    page = browser.page(f"{scene.operator}/admin/", 1280)
    wait_for_polls(page, 2)
    assert page.value("document.querySelector('#news').textContent") == ""
    scene.kill_sidecar()
    page.wait_for("document.querySelector('#news').textContent.startsWith('The sidecar does not answer')")
    assert page.value("document.querySelector('#state').textContent") == "No answer"
    assert page.value("document.querySelector('#main').className") == "old"
    if screenshots:
        page.screenshot(screenshots / "page-away.png")
    page.close()
    print("ok: it says that the sidecar does not answer")


def hostile(data, name=""):
    """The same with a hostile text in place of each text and each word."""
    if isinstance(data, dict):
        counts = bool(data) and all(isinstance(it, int) for it in data.values()) and name.startswith("by_")
        return {(HOSTILE + key if counts else key): hostile(value, key) for key, value in data.items()}
    if isinstance(data, list):
        return [hostile(it, name) for it in data]
    return HOSTILE + data if isinstance(data, str) else data


def test_hostile(browser, page_answer, status, screenshots):
    fields, body = page_answer
    document = json.dumps(hostile(status)).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            is_page = self.path == "/admin/"
            self.send_response(200 if is_page or self.path == "/admin/status" else 404)
            for name, value in fields.items() if is_page else {"content-type": "application/json"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if is_page else document)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.page(f"http://127.0.0.1:{server.server_address[1]}/admin/", 360)
    wait_for_polls(page, 2)
    assert "taken" not in page.value("document.title")
    # The page has no element of these names but its own script.
    assert page.value("document.querySelectorAll('img').length") == 0
    assert page.value("document.querySelectorAll('script').length") == 1
    shown = page.value("document.body.innerText")
    assert shown.count("<img src=x onerror=") > 20, shown
    assert_no_wider(page, 360)
    assert page.complaints() == [], page.complaints()
    if screenshots:
        page.screenshot(screenshots / "page-hostile.png")
    page.close()
    server.shutdown()
    print("ok: hostile texts stay texts")


def built_binary():
    subprocess.run(["cargo", "build", "--locked", "--bin", "tagalong"], check=True, cwd=ROOT)
    output = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    return pathlib.Path(json.loads(output)["target_directory"], "debug", "tagalong")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, help="the tagalong binary; built with cargo unless given")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--screenshots", type=pathlib.Path, help="a directory for pictures of the page")
    options = parser.parse_args()
    if not options.chromium:
        sys.exit("there is no chromium; install it (Debian: apt-get install chromium), or name one with --chromium")
    if options.screenshots:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with Scene(options.binary or built_binary()) as scene, Browser(options.chromium) as browser:
        scene.make_traffic()
        with urllib.request.urlopen(f"{scene.operator}/admin/") as answer:
            fields = {name: value for name, value in answer.headers.items() if name.lower() not in ("date", "content-length", "connection")}
            page_answer, status = (fields, answer.read()), scene.status()
        test_numbers(browser, scene, options.screenshots)
        test_nodes_stay(browser, scene)
        test_structure(browser, scene)
        test_away(browser, scene, options.screenshots)
        test_hostile(browser, page_answer, status, options.screenshots)
    print(f"the page holds ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
