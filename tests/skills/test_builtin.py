"""The six skills that come with it: each is run from one node on another, with real files in and out.

What needs an extra is skipped where that is not installed; `make test-skills` installs them all.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmarks.local_mesh import LocalMesh
from openclaw.skills.lint import check
from openclaw.skills.scan import BUILTIN

Doc = dict[str, Any]
Run = Callable[..., Any]


def needs(extra: str, *modules: str) -> Any:
    missing = [name for name in modules if find_spec(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"without {missing}: pip install 'openclaw-mesh[{extra}]'"
    )


data = needs("data", "duckdb")
ml = needs("ml", "sklearn", "skops")
media = needs("media", "PIL")
film = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="without ffmpeg")


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("laptop", "worker")) as mesh:
        yield mesh


@pytest.fixture
def run(mesh: LocalMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("skill:entry", key=value, …)` on the other node; its output as JSON, or (exit code, what it says)."""
    monkeypatch.chdir(tmp_path)

    def run(skill: str, code: int = 0, **params: Any) -> Any:
        pairs = [
            (key, each)
            for key, value in params.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        words = [word for key, value in pairs for word in ("-p", f"{key}={value}")]
        done = mesh["laptop"].run("run", "-q", "--node", "worker", "--skill", skill, *words, timeout_s=120)
        assert done.returncode == code, done.stderr.decode() + done.stdout.decode()
        return json.loads(done.stdout) if code == 0 else done.stderr.decode() + done.stdout.decode()

    return run


def test_six_skills_in_five_categories(mesh: LocalMesh) -> None:
    found = {each["name"]: each["category"] for each in mesh["laptop"].control("skills")["skills"]}
    assert {name: found[name] for name in sorted(path.name for path in BUILTIN.iterdir())} == {
        "fetch": "network",
        "media": "media_processing",
        "probe": "network",
        "system": "system",
        "table-model": "machine_learning",
        "table-query": "data_processing",
    }


@pytest.mark.parametrize("folder", sorted(BUILTIN.iterdir()), ids=lambda path: path.name)
def test_ours_are_good_skills(folder: Path, tmp_path: Path) -> None:
    assert check(folder, tmp_path).problems == ()


def test_what_a_node_lacks_is_said(mesh: LocalMesh) -> None:
    """Nodes offer what they can truly run, and name the extra that brings the rest."""
    for name, module, extra in (
        ("table-query", "duckdb", "data"),
        ("table-model", "sklearn", "ml"),
        ("media", "PIL", "media"),
    ):
        (node, *_) = mesh["laptop"].control("skill", name=name)["skill"]["nodes"]
        hint = f"Python module {module} (pip install 'openclaw-mesh[{extra}]')"
        assert node["eligible"] is (find_spec(module) is not None or hint not in node["missing"])
        assert (hint in node["missing"]) is (find_spec(module) is None)


# --- system --------------------------------------------------------------------------------------


def test_facts(run: Run) -> None:
    facts = run("system:facts")
    assert facts["hostname"] == socket.gethostname()
    assert facts["memory_bytes"] > 1 << 20
    assert any(disk["total_bytes"] for disk in facts["disks"])
    assert "127.0.0.1" in [each for addresses in facts["addresses"].values() for each in addresses]


def test_health(run: Run) -> None:
    calm = run("system:health", disk_percent_max=100, memory_percent_max=100, load_per_cpu_max=1e6)
    assert (calm["ok"], calm["problems"]) == (True, [])
    strict = run("system:health", memory_percent_max=1)
    assert not strict["ok"]
    assert any("memory is" in problem for problem in strict["problems"])


def test_processes(run: Run) -> None:
    found = run("system:processes", sort="memory", limit=3)
    sizes = [each["memory_bytes"] for each in found["processes"]]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < len(sizes) <= 3 <= found["total"]
    assert run("system:processes", name="no such process at all")["processes"] == []


# --- network -------------------------------------------------------------------------------------

CONTENT = random.Random(5).randbytes(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site(BaseHTTPRequestHandler):
    """Breaks off in the middle of the first answer, is busy once, and knows how to go on."""

    asked: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        count = self.asked[self.path] = self.asked.get(self.path, 0) + 1
        if self.path == "/gone":
            self.send_error(404)
        elif self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/busy" and count == 1:
            self.send_error(503)
        else:
            self._content(breaks=self.path == "/breaks" and count == 1)

    def _content(self, *, breaks: bool) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        body = CONTENT[start:] if self.headers.get("If-Range") == '"v1"' else CONTENT
        self.send_response(206 if body is not CONTENT else 200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body[: 2 << 20] if breaks else body)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.asked = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetch_goes_on_where_a_connection_broke(run: Run, site: str, tmp_path: Path) -> None:
    told = run("fetch:get", url=f"{site}/breaks", out="film.bin", sha256=SHA256)
    assert (tmp_path / "film.bin").read_bytes() == CONTENT
    assert (told["sha256"], told["attempts"], told["checked"]) == (SHA256, 2, True)
    assert told["resumed_bytes"] == 2 << 20


def test_fetch_tries_again_and_knows_when_not_to(run: Run, site: str, tmp_path: Path) -> None:
    assert run("fetch", url=f"{site}/busy", out="a")["attempts"] == 2
    assert "404" in run("fetch:get", 1, url=f"{site}/gone", out="b")
    assert f"its SHA-256 is {SHA256}" in run("fetch:get", 1, url=f"{site}/x", out="b", sha256="0" * 64)
    assert "bytes_max" in run("fetch:get", 1, url=f"{site}/x", out="b", bytes_max=1000)
    assert "file" in run("fetch:get", 1, url=f"{site}/away", out="b", retries=0)
    assert "url:" in run("fetch:get", 2, url="file:///etc/passwd")
    assert not (tmp_path / "b").exists()


def test_probe(run: Run, site: str) -> None:
    port = int(site.rpartition(":")[2])
    found = run("probe:tcp", host="127.0.0.1", port=port, count=2)
    assert found["reached"]
    (tcp,) = found["tcp"]
    assert (tcp["asked"], tcp["answered"]) == (2, 2)
    assert 0 < tcp["ms"]["min"] <= tcp["ms"]["max"]
    found = run("probe:url", url=f"{site}/gone")
    assert (found["reached"], found["http"]["status"]) == (True, 404)
    assert run("probe:url", url=f"{site}/away")["http"]["location"] == "file:///etc/passwd"


def test_probe_says_at_which_layer_it_ended(run: Run, site: str) -> None:
    assert '"problem": "TLS: ' in run("probe:url", 1, url=site.replace("http:", "https:") + "/")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert '"problem": "TCP: ' in run("probe:tcp", 1, host="127.0.0.1", port=closed.getsockname()[1])
    assert '"problem": "name resolution: ' in run("probe:tcp", 1, host="no-such-name.invalid", port=1)


# --- tables --------------------------------------------------------------------------------------


@data
def test_sql_over_csv_json_and_parquet(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sales-2026.csv").write_text("city,amount\nBern,3\nBern,4\nGenf,5\n")
    (tmp_path / "people.json").write_text('[{"city": "Bern", "people": 10}, {"city": "Genf", "people": 20}]')
    query = "select city, sum(amount) as total from sales_2026 group by city order by city"
    told = run("table-query:sql", query=query, table="sales-2026.csv", out="totals.parquet")
    assert told == {"out": "totals.parquet", "rows": 2}
    query = "select t.city, total / people as share from totals t join people p using (city) order by 1"
    rows = run("table-query", query=query, table=["totals.parquet", "people.json"])
    assert rows == {"columns": ["city", "share"], "rows": [["Bern", 0.7], ["Genf", 0.25]], "truncated": False}
    run("table-query", query="select * from people", table="people.json", out="people.csv")
    assert (tmp_path / "people.csv").read_text() == "city,people\nBern,10\nGenf,20\n"
    assert run("table-query", query="select * from range(5)", rows_max=2)["truncated"]


@data
@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('/etc/passwd')",
        "copy (select 1) to '/tmp/openclaw-mesh-escaped.csv'",
        "set enable_external_access = true",
        "select * from glob('/*')",
        "attach '/tmp/openclaw-mesh-escaped.db'",
        "selec 1",
    ],
)
def test_a_query_sees_nothing_else_of_the_machine(run: Run, query: str) -> None:
    assert "table-query: " in run("table-query", 1, query=query)
    assert not list(Path("/tmp").glob("openclaw-mesh-escaped*"))


@ml
def test_train_evaluate_predict(run: Run, tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = []
    for n in range(300):
        size, colour = rng.uniform(0, 10), rng.choice(["red", "green", "blue"])
        kind = "big" if size + (3 if colour == "red" else 0) > 7 else "small"
        price = 3 * size + (20 if colour == "blue" else 0) + rng.gauss(0, 0.5)
        rows.append(
            {
                "id": n,
                "size": f"{size:.3f}" if n % 20 else "",
                "colour": colour,
                "kind": kind,
                "price": f"{price:.3f}",
            }
        )
    for name, part in (("known.csv", rows[:200]), ("later.csv", rows[200:])):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(part)
    report = run(
        "table-model:train",
        table="known.csv",
        target="kind",
        ignore=["id", "price"],
        trees=30,
        model="kind.skops",
    )
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["task"] == "classification"
    assert report["test"]["accuracy"] > max(0.85, report["baseline"]["accuracy"])
    assert report["most_telling"][0]["feature"] == "size"
    later = run("table-model:evaluate", table="later.csv", model="kind.skops", report="later.json")
    assert later["test"]["accuracy"] > 0.8
    told = run("table-model:predict", table="later.csv", model="kind.skops", out="guessed.csv")
    guessed = list(csv.DictReader((tmp_path / "guessed.csv").read_text().splitlines()))
    assert (told["rows"], len(guessed)) == (100, 100)
    right = sum(row["kind"] == row["predicted_kind"] for row in guessed) / len(guessed)
    assert right == pytest.approx(later["test"]["accuracy"])
    report = run(
        "table-model:train", table="known.csv", target="price", algorithm="linear", ignore=["id", "kind"]
    )
    assert (report["task"], report["test"]["r2"] > 0.8) == ("regression", True)


@ml
def test_a_model_file_that_is_none_or_bad(run: Run, tmp_path: Path) -> None:
    import pickle

    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "m.skops").write_bytes(pickle.dumps({"format": 1}))
    assert "no model that can be read" in run("table-model:predict", 1, table="t.csv", model="m.skops")
    assert "no column 'x'" in run("table-model:train", 1, table="t.csv", target="x")


@ml
def test_a_tree_that_leads_out_of_itself_is_not_walked(run: Run, tmp_path: Path) -> None:
    import skops.io

    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{n},{n % 2}\n" for n in range(40)))
    run("table-model:train", table="t.csv", target="b", trees=1)
    bundle = skops.io.load("model.skops", trusted=["numpy.dtype", "sklearn.tree._tree.Tree"])
    tree = bundle["model"][-1].estimators_[0].tree_
    state = tree.__getstate__()
    state["nodes"]["left_child"][0] = 1 << 30
    tree.__setstate__(state)
    (tmp_path / "model.skops").write_bytes(skops.io.dumps(bundle))
    assert "leads out of itself" in run("table-model:predict", 1, table="t.csv", model="model.skops")


# --- media ---------------------------------------------------------------------------------------


@media
def test_pictures(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    Image.linear_gradient("L").resize((800, 400)).convert("RGBA").save(tmp_path / "in.png")
    seen = run("media:inspect", file="in.png")
    assert (seen["kind"], seen["format"], seen["width"], seen["height"]) == ("image", "PNG", 800, 400)
    told = run("media:resize", file="in.png", width=400, out="half.jpg")
    assert (told["width"], told["height"]) == (400, 200)
    with Image.open("half.jpg") as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (400, 200), "RGB")
    run("media:resize", file="in.png", width=100, height=100, fit="cover", out="square.webp")
    with Image.open("square.webp") as image:
        assert image.size == (100, 100)
    assert run("media:thumbnail", file="in.png", size=64)["width"] == 64
    run("media:convert", file="in.png", out="same.tiff")
    with Image.open("same.tiff") as image:
        assert (image.format, image.size) == ("TIFF", (800, 400))


@media
def test_what_is_no_picture(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    assert "media: " in run("media:resize", 1, file="in.png", width=10)
    assert "width: it is needed and was not given or height: " in run("media:resize", 2, file="in.png")
    assert "ending" in run("media:convert", 1, file=str(_picture(tmp_path)), out="x.exe")
    if shutil.which("ffmpeg") is None:
        assert "lacks for media:transcode: program ffmpeg" in run(
            "media:transcode", 125, file="in.png", out="out.mp4"
        )


def _picture(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(folder / "small.png")
    return folder / "small.png"


@film
@media
def test_film(run: Run, tmp_path: Path) -> None:
    import subprocess

    source = ["-f", "lavfi", "-i", "testsrc=duration=2:size=320x240:rate=10"]
    subprocess.run(["ffmpeg", "-v", "error", *source, str(tmp_path / "in.avi")], check=True)
    assert run("media:inspect", file="in.avi")["duration_s"] == pytest.approx(2, abs=0.2)
    assert run("media:thumbnail", file="in.avi", size=160, out="t.jpg")["width"] == 160
