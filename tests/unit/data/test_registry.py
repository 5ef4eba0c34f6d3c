"""The registry against a local server: good files, wrong hashes, cut connections, archives, paths that leave the folder."""

import base64
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from densebook.core.errors import InputError
from densebook.data import registry

ROOT = Path(__file__).parents[3]
TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
TEXTURE = b"not a picture, but bytes" * 10


def described(content: bytes, path: str, source: str, **more) -> dict:
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "source_path": source, **more}


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("UP", ".."), content)
    return out.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `served`; a value that is a number is a status, a pair (content, length) announces a wrong length."""

    served: dict = {}
    asked: list = []

    def do_GET(self):
        self.asked.append(self.path)
        answer = self.served.get(self.path, 404)
        if isinstance(answer, int):
            self.send_error(answer)
            return
        content, length = answer if isinstance(answer, tuple) else (answer, len(answer))
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if content is not None:
            self.wfile.write(content)
        else:
            self.server.stop.wait(10)  # a server that says nothing

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Handler, "served", {})
    monkeypatch.setattr(Handler, "asked", [])
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.stop, running.daemon_threads = threading.Event(), True
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.stop.set()
    running.shutdown()
    running.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder; the registry knows `tri` (a file) and `kit` (two members of an archive)."""
    table = {
        "tri": entry([described(TRIANGLE, "meshes/tri/tri.obj", "a/tri.obj")]),
        "kit": entry(
            [
                described(TRIANGLE, "meshes/kit/kit.obj", "b/kit.zip", member="kit/kit.obj"),
                described(TEXTURE, "meshes/kit/kit.png", "b/kit.zip", member="kit/kit.png"),
            ]
        ),
    }
    monkeypatch.setattr(registry, "_table", lambda: table)
    monkeypatch.setattr(registry, "_verified", set())
    monkeypatch.setenv("DENSEBOOK_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def entry(files: list[dict]) -> dict:
    upright = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    return {"what": "a test", "repository": "o/r", "commit": "c0", "licence": "CC0", "credit": "nobody", "upright": upright, "files": files}


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def refused(server, name, match, **keywords):
    with pytest.raises(InputError, match=match) as caught:
        registry.download(name, base_url=server, progress=False, **keywords)
    assert "\n" not in str(caught.value)


def test_download_then_get(server, folder):
    Handler.served["/o/r/c0/a/tri.obj"] = TRIANGLE
    path = registry.download("tri", base_url=server + "/", progress=False)
    assert path == registry.get("tri") == folder / "meshes/tri/tri.obj"
    assert path.read_bytes() == TRIANGLE
    assert everything(folder) == ["meshes", "meshes/tri", "meshes/tri/tri.obj"]
    registry.download("tri", base_url=server, progress=False)
    assert len(Handler.asked) == 1, "a right file is not fetched again"


def test_download_shows_progress(server, folder, capfd):
    Handler.served["/o/r/c0/a/tri.obj"] = TRIANGLE
    registry.download("tri", base_url=server)
    assert "100%" in capfd.readouterr().err


def test_archive_is_fetched_once_and_only_named_members_leave_it(server, folder, tmp_path):
    evil = zipped(**{"kit__kit.obj": TRIANGLE, "kit__kit.png": TEXTURE, "UP__UP__evil.obj": b"evil", "other.txt": b"x"})
    Handler.served["/o/r/c0/b/kit.zip"] = evil
    registry.download("kit", base_url=server, progress=False)
    assert registry.get("kit", "kit.png").read_bytes() == TEXTURE
    assert everything(folder) == ["meshes", "meshes/kit", "meshes/kit/kit.obj", "meshes/kit/kit.png"]
    assert len(Handler.asked) == 1
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (TRIANGLE.replace(b"1 0 0", b"2 0 0"), "sha256"),
        (TRIANGLE[:-1], "30 of 31 bytes|31 of 32 bytes"),
        (TRIANGLE * 1000, "more bytes"),
        (b"", "0 of"),
        ((TRIANGLE[:10], len(TRIANGLE)), "could not be downloaded"),
        ((TRIANGLE[:10], None), "10 of"),
        ((TRIANGLE, "many"), "could not be downloaded|bytes"),
        (404, "status 404"),
        (500, "status 500"),
    ],
    ids=["wrong hash", "short", "long", "nothing", "cut", "cut without length", "length no number", "404", "500"],
)
def test_a_bad_transfer_leaves_nothing(server, folder, answer, match, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    Handler.served["/o/r/c0/a/tri.obj"] = answer
    refused(server, "tri", match)
    assert everything(folder) == []
    assert everything(scratch) == []


def test_a_server_that_says_nothing_is_left(server, folder, monkeypatch):
    monkeypatch.setattr(registry, "_TIMEOUT", 0.2)
    Handler.served["/o/r/c0/a/tri.obj"] = (None, len(TRIANGLE))
    refused(server, "tri", "could not be downloaded")
    assert everything(folder) == []


def test_no_server(folder):
    refused("http://127.0.0.1:9", "tri", "could not be downloaded")
    refused("file:" + "///etc", "tri", "no http")
    assert everything(folder) == []


@pytest.mark.parametrize(
    ("archive", "match"),
    [
        (b"no archive", "zip"),
        (zipped(**{"kit__kit.obj": TRIANGLE}), "no member 'kit/kit.png'"),
        (zipped(**{"kit__kit.obj": TRIANGLE, "kit__kit.png": TEXTURE})[:-30], "zip"),
        (zipped(**{"kit__kit.obj": TRIANGLE, "kit__kit.png": TEXTURE + b"!"}), "bytes"),
        (zipped(**{"kit__kit.obj": TRIANGLE, "kit__kit.png": b"\0" * 50_000_000}), "bytes"),
        (zipped(**{"kit__kit.obj": TRIANGLE, "kit__kit.png": b"X" + TEXTURE[1:]}), "sha256"),
    ],
    ids=["no zip", "no member", "cut", "too long", "bomb", "wrong hash"],
)
def test_a_bad_archive_leaves_nothing(server, folder, archive, match):
    Handler.served["/o/r/c0/b/kit.zip"] = archive
    refused(server, "kit", match)
    assert everything(folder) == []


@pytest.mark.parametrize(
    "path", ["../out.obj", "/tmp/densebook-out.obj", "meshes/../../out.obj", "meshes/../tri.obj", "a\\..\\b", "c:/x", ""]
)
def test_a_path_that_leaves_the_folder_is_refused(server, folder, path):
    registry._table()["tri"]["files"][0]["path"] = path
    Handler.served["/o/r/c0/a/tri.obj"] = TRIANGLE
    refused(server, "tri", "leaves the folder")
    with pytest.raises(InputError, match="leaves the folder"):
        registry.get("tri")
    assert everything(folder.parent) == ["data"]
    assert not Handler.asked


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_link_out_of_the_folder_is_refused(server, folder, kind, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "meshes").mkdir()
    if kind == "folder":
        (folder / "meshes/tri").symlink_to(outside)
    else:
        (folder / "meshes/tri").mkdir()
        (folder / "meshes/tri/tri.obj").symlink_to(outside / "x.obj")
    Handler.served["/o/r/c0/a/tri.obj"] = TRIANGLE
    refused(server, "tri", "leaves the folder")
    assert everything(outside) == []


@pytest.mark.parametrize("name", ["../tri", "/etc/passwd", "trii", ""])
def test_unknown_names(folder, name):
    for call in (registry.get, registry.download, registry.describe, registry.upright):
        with pytest.raises(InputError, match="is not known"):
            call(name)
    with pytest.raises(InputError, match="did you mean 'tri'"):
        registry.get("trii")


def test_get_says_how_to_download(folder):
    with pytest.raises(InputError, match=r"densebook data get tri.*DENSEBOOK_DATA"):
        registry.get("tri")


def test_get_verifies_and_download_repairs(server, folder):
    path = folder / "meshes/tri/tri.obj"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"X" + TRIANGLE[1:])
    with pytest.raises(InputError, match="sha256.*densebook data get tri"):
        registry.get("tri")
    Handler.served["/o/r/c0/a/tri.obj"] = b"Y" + TRIANGLE[1:]
    refused(server, "tri", "sha256")
    assert path.read_bytes() == b"X" + TRIANGLE[1:], "a failed repair leaves what was there"
    Handler.served["/o/r/c0/a/tri.obj"] = TRIANGLE
    registry.download("tri", base_url=server, progress=False)
    assert registry.get("tri").read_bytes() == TRIANGLE
    path.write_bytes(TRIANGLE[:-1])
    with pytest.raises(InputError, match="bytes"):
        registry.get("tri")


def test_get_hashes_once(folder, monkeypatch):
    path = folder / "meshes/tri/tri.obj"
    path.parent.mkdir(parents=True)
    path.write_bytes(TRIANGLE)
    registry.get("tri")
    monkeypatch.setattr(registry, "sha256", lambda _: pytest.fail("hashed again"))
    registry.get("tri")


def test_a_read_only_folder_is_named(server, folder, monkeypatch):
    Handler.served["/o/r/c0/a/tri.obj"] = TRIANGLE
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: False if Path(p) == folder else real(p, mode))  # root may write anywhere
    refused(server, "tri", "read-only.*DENSEBOOK_DATA")
    assert not Handler.asked, "refused before anything is fetched"


def test_a_failing_disk_leaves_nothing(server, folder, monkeypatch):
    Handler.served["/o/r/c0/b/kit.zip"] = zipped(**{"kit__kit.obj": TRIANGLE, "kit__kit.png": TEXTURE})
    real = Path.replace

    def replace(self, target):
        if str(target).endswith("png"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    refused(server, "kit", "No space left")
    assert everything(folder) == []


def test_a_file_in_place_of_the_folder(server, folder):
    (folder / "plain").write_text("x")
    refused(server, "tri", "is a file", folder=folder / "plain" / "data")


def test_download_many_goes_on(server, folder):
    Handler.served["/o/r/c0/a/tri.obj"] = TRIANGLE
    states = registry.download_many(["kit", "tri", "tri"], folder, base_url=server, progress=False)
    assert list(states) == ["kit", "tri"]
    assert "404" in states["kit"] and states["tri"] == "ok"
    with pytest.raises(InputError, match="not known"):
        registry.download_many(["tri", "what"], folder)


def test_rows_and_check(folder):
    assert [(r["name"], r["here"]) for r in registry.list_rows()] == [("kit", "no"), ("tri", "no")]
    assert set(registry.check_folder().values()) == {"missing"}
    (folder / "meshes/tri").mkdir(parents=True)
    (folder / "meshes/tri/tri.obj").write_bytes(TRIANGLE)
    (folder / "meshes/tri/notes.md").write_bytes(b"hello")
    assert [r["here"] for r in registry.list_rows()] == ["no", "yes"]
    hello, tri = hashlib.sha256(b"hello").hexdigest(), hashlib.sha256(TRIANGLE).hexdigest()
    rows = [("meshes/tri/notes.md", 5, hello), ("meshes/tri/tri.obj", len(TRIANGLE), tri), ("hats/cap.obj", 3, "0")]
    (folder / "MANIFEST.tsv").write_text("file\tbytes\tsha256\tmore\n" + "".join(f"{a}\t{b}\t{c}\tx\n" for a, b, c in rows))
    states = registry.check_folder(folder)
    assert states["meshes/tri/notes.md"] == states["meshes/tri/tri.obj"] == "ok"
    assert states["meshes/kit/kit.obj"] == "missing" and "hats/cap.obj" not in states
    (folder / "meshes/tri/notes.md").write_bytes(b"HELLO")
    assert "sha256" in registry.check_folder()["meshes/tri/notes.md"]


@pytest.mark.parametrize("text", ["file\tbytes\nx\t1\n", "file\tbytes\tsha256\nx\tmany\ty\n", "file\tbytes\tsha256\nx\n", "\xff"])
def test_a_bad_manifest_is_named(folder, text):
    (folder / "MANIFEST.tsv").write_bytes(text.encode("latin-1"))
    if text == "\xff":
        with pytest.raises(InputError, match="MANIFEST.tsv"):
            registry.check_folder()
    else:
        with pytest.raises(InputError, match="needs columns"):
            registry.check_folder()


def test_the_table_is_whole():
    for name in registry.available():
        entry = registry._entry(name)
        assert set(entry) - {"texture", "upright"} == {"what", "repository", "commit", "licence", "credit", "files"}
        assert entry["licence"] and entry["credit"]
        for file in entry["files"]:
            assert len(file["sha256"]) == 64 and file["bytes"] > 0
            repository, commit = (file.get(k, entry[k]) for k in ("repository", "commit"))
            assert len(commit) == 40 or repository.startswith(("npm/", "debian/"))
            assert file["path"].startswith(("meshes/", "hats/", "categories/", "street/", "hdri/", "heads/"))
        assert not entry.get("texture") or entry["texture"] in {Path(f["path"]).name for f in entry["files"]}
        if "upright" in entry:
            (a, b, c), (d, e, f), (g, h, i) = entry["upright"]
            assert a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) == 1
        else:
            assert entry["files"][0]["path"].startswith("hdri/")
            with pytest.raises(InputError, match="is no mesh"):
                registry.upright(name)
    assert set(registry.available()) >= {"spot", "fish", "nefertiti", "penguin", "wingnut", "boot", "plane", "fedora", "studio", "park", "makehuman"}


def test_import_is_light():
    code = "import sys, densebook.data as d; d.available(); assert not {'torch', 'pooch', 'numpy', 'trimesh'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_package_names_what_it_has():
    import densebook.data

    assert set(dir(densebook.data)) == {
        "available", "caps", "categories", "check_folder", "describe", "download", "environment_or_toy", "faces", "get", "heads", "images", "makehuman",
        "mesh_or_toy", "read_hdr", "read_image", "registry", "streets", "toy", "write_image",
    }  # fmt: skip
    for name in dir(densebook.data):
        assert getattr(densebook.data, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        densebook.data.nothing  # noqa: B018


SCRIPTS = ("meshes", "hdri", "objects", "categories", "street", "makehuman")


def run_script(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / f"data_scripts/{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})


def test_script_checks_and_names_errors(tmp_path):
    done = run_script("meshes", "--check", "--out", str(tmp_path), "spot")
    assert done.returncode == 1 and done.stdout.count("missing") == 2
    done = run_script("meshes", "spott", "--out", str(tmp_path))
    assert done.returncode == 2 and "did you mean 'spot'" in done.stderr
    for script, name in (("meshes", "fish"), ("hdri", "park")):
        done = run_script(script, "--out", str(tmp_path), "--base-url", "http://127.0.0.1:9", name, NO_PROXY="127.0.0.1")
        assert done.returncode == 1 and "could not be downloaded" in done.stdout
    done = run_script("objects", "--out", str(tmp_path), "camera")
    assert done.returncode == 1 and "apt-get download sweethome3d-furniture" in done.stdout
    assert everything(tmp_path) == []


def test_scripts_tell_every_source():
    texts, named = {s: (ROOT / f"data_scripts/{s}.py").read_text() for s in SCRIPTS}, []
    for script, text in texts.items():
        names = [n for n in registry.available() if f'"{n}"' in text[text.index("NAMES") :]]
        named += names
        for name in names:
            entry = registry._entry(name)
            long = len(entry["files"]) > 100  # then the script gives the hash of the list in place of the list
            if long:
                lines = "\n".join(f"{f['path']} {f['bytes']} {f['sha256']}" for f in entry["files"])
                assert hashlib.sha256(lines.encode()).hexdigest() in text, (script, name)
            for file in entry["files"][: 1 if long else None]:
                repository, commit = (file.get(k, entry[k]) for k in ("repository", "commit"))
                for needed in (repository, commit, entry["licence"], file["sha256"], str(file["bytes"]), Path(file["path"]).name):
                    assert needed in text, (script, needed)
    assert sorted(named) == sorted(registry.available())


def test_real_folder_is_right():
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    for name in registry.available():
        assert registry.get(name).is_file()


# --- other sources: packages ---


def packaged(repository: str, files: list[dict]) -> dict:
    return {**entry(files), "repository": repository, "commit": "1.0"}


def test_base64_in_a_script_is_decoded(server, folder, monkeypatch):
    table = {"sky": packaged("npm/@a/b", [described(TEXTURE, "hdri/sky.exr", "hdri/sky.exr.js", decode="base64")])}
    monkeypatch.setattr(registry, "_table", lambda: table)
    address = "/npm/@a/b@1.0/hdri/sky.exr.js"
    Handler.served[address] = b"export default 'data:application/exr;base64," + base64.b64encode(TEXTURE) + b"'"
    assert registry.download("sky", base_url=server, progress=False).read_bytes() == TEXTURE
    (folder / "hdri/sky.exr").unlink()
    for wrong, match in ((b"export default 3", "no base64"), (b"';base64,AAAAA'", "no base64"), (b"';base64,QUJD'", "3 of")):
        Handler.served[address] = wrong
        refused(server, "sky", match)
    assert everything(folder) == ["hdri"]


def test_a_file_may_have_another_repository(server, folder, monkeypatch):
    files = [described(TRIANGLE, "a/t.obj", "t.obj"), described(TEXTURE, "a/t.png", "t.png") | {"repository": "x/y", "commit": "c9"}]
    monkeypatch.setattr(registry, "_table", lambda: {"two": entry(files)})
    Handler.served |= {"/o/r/c0/t.obj": TRIANGLE, "/x/y/c9/t.png": TEXTURE}
    registry.download("two", base_url=server, progress=False)
    assert everything(folder) == ["a", "a/t.obj", "a/t.png"]
    assert registry._url(entry(files), files[1], None) == "https://raw.githubusercontent.com/x/y/c9/t.png"
    (folder / "a/t.png").unlink()
    with pytest.raises(InputError, match="t.png is not there"):
        registry.get("two")
    assert registry.get("two", "t.obj").is_file()


def deb(archive: bytes, name: str = "./usr/a.sh3f") -> bytes:
    """A Debian package of one file, and of a link that would lead out."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        evil = tarfile.TarInfo("../evil")
        evil.size = 4
        tar.addfile(evil, io.BytesIO(b"evil"))
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        info = tarfile.TarInfo(name)
        info.size = len(archive)
        tar.addfile(info, io.BytesIO(archive))
    parts = [(b"debian-binary", b"2.0\n"), (b"control.tar.xz", b"odd"), (b"data.tar.xz", data.getvalue())]
    return b"!<arch>\n" + b"".join(
        n.ljust(16) + b"0".ljust(12) + b"0".ljust(6) + b"0".ljust(6) + b"100644".ljust(8) + b"%-10d`\n" % len(c) + c + b"\n" * (len(c) % 2)
        for n, c in parts
    )


def test_debian_packages_are_unpacked_not_downloaded(server, folder, monkeypatch, tmp_path):
    files = [described(TRIANGLE, "a/t.obj", "usr/a.sh3f", member="t/t.obj"), described(TEXTURE, "a/t.png", "usr/a.sh3f", member="t/t.png")]
    monkeypatch.setattr(registry, "_table", lambda: {"shop": packaged("debian/shop", files), "tri": entry(files)})
    refused(server, "shop", "apt-get download shop.*--deb FILE shop")
    assert Handler.asked == []
    package, good = tmp_path / "shop.deb", zipped(t__t__obj=b"no", **{"t__t.obj": TRIANGLE, "t__t.png": TEXTURE})
    wrong = zipped(**{"t__t.obj": TRIANGLE, "t__t.png": TEXTURE[::-1]})
    for content, match in (
        (b"", "no Debian package"),
        (deb(good)[:-200], "cannot be read as a Debian package"),
        (deb(good)[:100], "cannot be read as a Debian package"),
        (deb(good).replace(b"%-10d" % 3, b"three     ", 1), "cannot be read"),
        (deb(good, "./usr/b.sh3f"), "has no usr/a.sh3f; shop needs version 1.0"),
        (deb(b"no zip"), "no zip archive"),
        (deb(zipped(other=b"x")), "no member 't/t.obj'"),
        (deb(wrong), "gave sha256"),
    ):
        package.write_bytes(content)
        with pytest.raises(InputError, match=match):
            registry.unpack("shop", package)
        assert everything(folder) == []
    with pytest.raises(InputError, match="cannot be read"):
        registry.unpack("shop", tmp_path / "none.deb")
    with pytest.raises(InputError, match="in no Debian package"):
        registry.unpack("tri", package)
    package.write_bytes(deb(good))
    assert registry.unpack("shop", package).read_bytes() == TRIANGLE
    assert everything(folder) == ["a", "a/t.obj", "a/t.png"] and not (tmp_path / "evil").exists()
    assert registry.download("shop") == registry.get("shop"), "what is there is not asked for"
