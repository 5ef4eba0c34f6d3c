"""Real data by name: found in the data folder, downloaded from its public source, its sha256 verified.

registry.json is the table: for each name a repository and a pinned commit, and for each file where it lies in that
repository (perhaps inside a zip archive, or as base64 in a script), where it goes in the data folder, its size and its
sha256. A repository `npm/NAME` is a package served by jsDelivr, `debian/NAME` one that a person fetches: see `unpack`.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import functools
import json
import lzma
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from densebook.core import settings
from densebook.core.errors import InputError, nearest
from densebook.core.files import atomic_path, sha256

BASE_URL = "https://raw.githubusercontent.com"
CDN_URL = "https://cdn.jsdelivr.net"
_TIMEOUT = 30  # seconds without a byte
_LARGEST_ARCHIVE = 100_000_000  # bytes; archives have no hash of their own, only their members do
_verified: set[tuple] = set()  # (path, size, modified) of files whose sha256 was read and right in this process


@functools.cache
def _table() -> dict:
    return json.loads(Path(__file__).with_name("registry.json").read_text(encoding="utf-8"))


def available() -> tuple[str, ...]:
    """The names that `get` and `download` know."""
    return tuple(sorted(_table()))


def _entry(name: str) -> dict:
    table = _table()
    if name not in table:
        raise InputError(f"data name {name!r} is not known{nearest(str(name), table)}")
    return table[name]


def describe(name: str) -> dict:
    """What `name` is: what, source (with commit), licence, credit, bytes and files (the main one first).

    Raises InputError, with the nearest name, for one that is not known.
    """
    entry = _entry(name)
    return {
        "name": name,
        "what": entry["what"],
        "source": _source(entry),
        "licence": entry["licence"],
        "credit": entry["credit"],
        "bytes": sum(f["bytes"] for f in entry["files"]),
        "files": tuple(f["path"] for f in entry["files"]),
        "sha256": tuple(f["sha256"] for f in entry["files"]),
    }


def _source(entry: dict) -> str:
    """A page that shows where an entry comes from."""
    kind, _, rest = entry["repository"].partition("/")
    if kind == "npm":
        return f"{CDN_URL}/npm/{rest}@{entry['commit']}/"
    return f"Debian package {rest} {entry['commit']}" if kind == "debian" else f"https://github.com/{kind}/{rest}/tree/{entry['commit']}"


def upright(name: str) -> list[list[int]]:
    """The 3x3 rotation that turns the mesh `name` to y up, its face or nose (where it has one) towards z or x."""
    if "upright" not in (entry := _entry(name)):
        raise InputError(f"data name {name!r} is no mesh but: {entry['what']}; give the name of a mesh")
    return entry["upright"]


def texture(name: str) -> str:
    """The file name of the picture that belongs on the mesh `name` where the mesh's file does not say so; '' for none."""
    return _entry(name).get("texture", "")


def _inside(folder: Path, path: str) -> Path:
    """`folder / path`; refused when that leaves the folder, by '..', by an absolute path or through a link."""
    pure = PurePosixPath(path)
    whole = folder / path
    plain = path and "\\" not in path and ":" not in path and not pure.is_absolute() and ".." not in pure.parts
    if not plain or not whole.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"data path {path!r} leaves the folder {folder}; it is not used (does a link point elsewhere?)")
    return whole


def _state(file: dict, path: Path) -> str:
    """'ok', 'missing' or what is wrong with a file; a right one is hashed once per process."""
    if not path.is_file():
        return "missing"
    found = path.stat()
    key = (path.resolve(), found.st_size, found.st_mtime_ns, file["sha256"])
    if key in _verified:
        return "ok"
    if found.st_size != file["bytes"]:
        return f"has {found.st_size} bytes, not {file['bytes']}"
    if (digest := sha256(path)) != file["sha256"]:
        return f"has sha256 {digest[:12]}..., not {file['sha256'][:12]}..."
    _verified.add(key)
    return "ok"


def get(name: str, file: str = "") -> Path:
    """The main file of `name` in the data folder, or its `file` (by file name), once its sha256 is verified.

    With the main file all that it may name (materials, textures, buffers) is verified too. The folder is DENSEBOOK_DATA,
    else that of settings.ini. Raises InputError when the name is not known, when a file is not there (saying how to
    download it) and when it is not the right one.
    """
    entry, folder = _entry(name), settings.data_folder()
    files = {PurePosixPath(f["path"]).name: f for f in entry["files"]}
    if file and file not in files:
        raise InputError(f"{name} has no file {file!r}{nearest(file, files)}")
    wanted = [files[file]] if file else entry["files"]
    paths = [_inside(folder, f["path"]) for f in wanted]
    for each, path in zip(wanted, paths):
        try:
            state = _state(each, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        if state == "missing":
            raise InputError(f"{path} is not there; run `densebook data get {name}`, or let DENSEBOOK_DATA name a folder that has it")
        if state != "ok":
            raise InputError(f"{path} {state}; run `densebook data get {name}` to fetch it again")
    return paths[0]


def download(name: str, base_url: str | None = None, progress: bool = True, folder: str | Path | None = None) -> Path:
    """Download the files of `name` into the data folder (or `folder`) unless they are there; returns the main one's path.

    Files go to a temporary folder, are verified there, and only then moved into place: whatever goes wrong, nothing is
    left behind and what was there stays. `base_url` replaces https://raw.githubusercontent.com (and, for packages,
    https://cdn.jsdelivr.net), e.g. by a mirror. Raises one InputError for an unknown name, a failed or cut transfer, a
    wrong hash, a path that leaves the folder, a folder that cannot be written and what is in a Debian package.
    """
    entry = _entry(name)
    if (package := entry["repository"]).startswith("debian/") and set(_states(entry, folder)) != {"ok"}:
        raise InputError(
            f"{name} is in the Debian package {package[7:]} {entry['commit']}, which is not downloaded here; fetch it "
            f"(apt-get download {package[7:]}) and run `python data_scripts/objects.py --deb FILE {name}`"
        )
    return _install(name, folder, lambda files, scratch: _fetch(name, files, base_url, scratch, progress))


def unpack(name: str, package: str | Path, folder: str | Path | None = None) -> Path:
    """Like `download`, from a Debian package (a .deb file) that a person fetched; nothing else in it is unpacked.

    Raises InputError too for a file that is no such package.
    """
    if not _entry(name)["repository"].startswith("debian/"):
        raise InputError(f"{name} is in no Debian package; run `densebook data get {name}`")
    return _install(name, folder, lambda files, scratch: _unpack(name, files, Path(package), scratch))


def _states(entry: dict, folder: str | Path | None) -> list[str]:
    folder = Path(folder).expanduser() if folder else settings.data_folder()
    return [_state(f, _inside(folder, f["path"])) for f in entry["files"]]


def _install(name: str, folder: str | Path | None, fetch: Callable[[list[dict], Path], list[Path]]) -> Path:
    """Put those files of `name` that are not there into the folder, once `fetch` has them all verified in a temporary one."""
    entry = _entry(name)
    folder = Path(folder).expanduser() if folder else settings.data_folder()
    paths = [_inside(folder, f["path"]) for f in entry["files"]]
    try:
        wanted = [(f, p) for f, p in zip(entry["files"], paths) if _state(f, p) != "ok"]
        if wanted:
            _check_writable(folder)
            with tempfile.TemporaryDirectory(prefix="densebook-") as scratch:
                _move(fetch([f for f, _ in wanted], Path(scratch)), [p for _, p in wanted])
    except OSError as error:
        raise InputError(f"{name}: {folder} cannot be written ({error.strerror or error}); choose another with DENSEBOOK_DATA") from error
    return paths[0]


def _check_writable(folder: Path) -> None:
    """Refuse a read-only folder before anything is fetched."""
    nearest_there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not nearest_there.is_dir():
        raise InputError(f"{nearest_there} is a file, so {folder} cannot hold data; choose another folder with DENSEBOOK_DATA")
    if not os.access(nearest_there, os.W_OK | os.X_OK):
        raise InputError(f"{nearest_there} is read-only, so nothing can be downloaded to it; choose another folder with DENSEBOOK_DATA")


def _move(fetched: list[Path], paths: list[Path]) -> None:
    """Put verified files into place; what this made is taken away again when one of them fails."""
    made: list[Path] = []
    try:
        for source, path in zip(fetched, paths):
            missing = [p for p in path.parents if not p.exists()]
            made.extend(missing)  # nearest first
            fresh = not path.exists()
            with atomic_path(path) as temporary:
                temporary.write_bytes(source.read_bytes())
            if fresh:
                made.insert(0, path)
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):  # a folder that another process filled stays
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def _url(entry: dict, file: dict, base_url: str | None) -> str:
    """Where a file is served: a file of another repository than its entry's says so itself."""
    repository, commit = (file.get(key, entry[key]) for key in ("repository", "commit"))
    host, at = (CDN_URL, "@") if repository.startswith("npm/") else (BASE_URL, "/")
    return f"{(base_url or host).rstrip('/')}/{repository}{at}{commit}/{file['source_path']}"


def _fetch(name: str, files: list[dict], base_url: str | None, scratch: Path, progress: bool) -> list[Path]:
    """The files in `scratch` under numbers for names, each verified; an archive is fetched once."""
    archives: dict[str, Path] = {}
    fetched = []
    for number, file in enumerate(files):
        target = scratch / str(number)
        source = _url(_entry(name), file, base_url)
        if "member" in file:
            if source not in archives:
                archives[source] = scratch / f"archive{len(archives)}"
                _http(source, archives[source], _LARGEST_ARCHIVE, progress)
            _extract(archives[source], file, target, source)
        elif file.get("decode") == "base64":
            _http(source, target, file["bytes"] * 4 // 3 + 1000, progress)
            _decode(target, source)
        else:
            _http(source, target, file["bytes"], progress)
        _verify(name, file, target, source)
        fetched.append(target)
    return fetched


def _verify(name: str, file: dict, target: Path, source: str) -> None:
    size, digest = target.stat().st_size, sha256(target)
    if size != file["bytes"] or digest != file["sha256"]:
        what = f"{size} of {file['bytes']} bytes" if size != file["bytes"] else f"sha256 {digest[:12]}..., not {file['sha256'][:12]}..."
        raise InputError(f"{name}: {source} gave {what}; it was thrown away, try again or check the source")


def _decode(target: Path, url: str) -> None:
    """Put in place of a script the bytes that it holds as a data URL in base64; nothing of it is run."""
    found = re.search(rb";base64,([A-Za-z0-9+/]+={0,2})", target.read_bytes())
    try:
        target.write_bytes(base64.b64decode(found[1], validate=True))
    except (TypeError, ValueError):
        raise InputError(f"{url} holds no base64 data; it was thrown away, check the source") from None


def _unpack(name: str, files: list[dict], package: Path, scratch: Path) -> list[Path]:
    """The files of a Debian package in `scratch`, each verified: members of zip archives in the tar in the package (an ar)."""
    wanted = {f["source_path"]: scratch / f"archive{k}" for k, f in enumerate(files)}
    try:
        with open(package, "rb") as file:
            if file.read(8) != b"!<arch>\n":
                raise InputError(f"{package} is no Debian package; fetch it again")
            while (head := file.read(60)) and not head.startswith(b"data.tar"):
                file.seek(int(head[48:58]) + int(head[48:58]) % 2, os.SEEK_CUR)
            with tarfile.open(fileobj=file, mode="r|xz") as tar:
                for member in tar:
                    if (target := wanted.get(member.name.removeprefix("./"))) and member.isfile() and member.size <= _LARGEST_ARCHIVE:
                        target.write_bytes(tar.extractfile(member).read())
    except InputError:
        raise
    except (OSError, ValueError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise InputError(
            f"{package} cannot be read as a Debian package ({type(error).__name__}: {str(error)[:80]}); fetch it again"
        ) from error
    fetched = []
    for number, file in enumerate(files):
        source, target = wanted[file["source_path"]], scratch / str(number)
        if not source.exists():
            raise InputError(f"{package} has no {file['source_path']}; {name} needs version {_entry(name)['commit']}")
        _extract(source, file, target, str(package))
        _verify(name, file, target, str(package))
        fetched.append(target)
    return fetched


class _Capped:
    """A file that takes at most `most` bytes: a server does not fill the disk."""

    def __init__(self, file, most: int, url: str):
        self.file, self.left, self.url = file, most, url

    def write(self, block: bytes) -> None:
        self.left -= len(block)
        if self.left < 0:
            raise InputError(f"{self.url} sends more bytes than the file has; it was thrown away, check the source")
        self.file.write(block)

    def flush(self) -> None:
        self.file.flush()


def _http(url: str, target: Path, most: int, progress: bool) -> None:
    """Download `url` to `target` with pooch, at most `most` bytes."""
    import pooch
    import requests
    import urllib3

    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url} is no http(s) address; give base_url as one")
    try:
        with open(target, "wb") as file:
            pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT)(url, _Capped(file, most, url), None)
    except InputError:
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:  # ValueError: a header that is no number
        raise InputError(f"{url} could not be downloaded ({_reason(error)}); nothing was kept, try again later") from error


def _reason(error: Exception) -> str:
    """Half a line about what went wrong on the network."""
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else f"{type(error).__name__}: {str(error)[:120]}"


def _extract(archive: Path, file: dict, target: Path, url: str) -> None:
    """Write the one wanted member of a zip archive to `target`: names inside the archive never become paths here."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(file["member"]) as member, open(target, "wb") as out:
            out.write(member.read(file["bytes"] + 1))  # one more than it should have shows in its size
    except KeyError:
        raise InputError(f"{url} has no member {file['member']!r}; check the source") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{url} is no zip archive that can be read ({type(error).__name__}: {str(error)[:80]}); try again") from error


def list_rows() -> list[dict]:
    """One row a name: name, what, licence, size, and whether all its files are in the data folder (by size)."""
    folder, rows = settings.data_folder(), []
    for name in available():
        entry = _entry(name)
        paths = [(f, folder / f["path"]) for f in entry["files"]]
        here = all(p.is_file() and p.stat().st_size == f["bytes"] for f, p in paths)
        size = sum(f["bytes"] for f in entry["files"])
        rows.append(
            {"name": name, "what": entry["what"], "licence": entry["licence"], "MB": f"{size / 1e6:.1f}", "here": "yes" if here else "no"}
        )
    return rows


def download_many(
    names: Iterable[str], folder: str | Path | None = None, base_url: str | None = None, progress: bool = True, package: str | Path = ""
) -> dict[str, str]:
    """Download several names, going on after a failure: name -> 'ok' or what went wrong.

    With `package`, a Debian package, they are unpacked from it instead. Raises InputError for a name that is not known,
    before anything is fetched.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        _entry(name)
    states = {}
    for name in names:
        try:
            unpack(name, package, folder) if package else download(name, base_url=base_url, progress=progress, folder=folder)
            states[name] = "ok"
        except InputError as error:
            states[name] = str(error)
    return states


def check_folder(folder: str | Path | None = None) -> dict[str, str]:
    """Verify the data folder: file -> 'ok', 'missing', or what is wrong with it.

    Checked are the registry's files and, where the folder has a MANIFEST.tsv (columns file, bytes, sha256), the other
    files that it lists beside them. Raises InputError for a manifest that cannot be read.
    """
    folder = Path(folder).expanduser() if folder else settings.data_folder()
    files = {f["path"]: f for name in available() for f in _entry(name)["files"]}
    beside = {str(PurePosixPath(path).parent) for path in files}
    listed = {r["path"]: r for r in _manifest(folder / "MANIFEST.tsv") if str(PurePosixPath(r["path"]).parent) in beside}
    states = {}
    for path, file in {**listed, **files}.items():
        try:
            states[path] = _state(file, _inside(folder, path))
        except (InputError, OSError) as error:
            states[path] = str(error)
        if path in listed and listed[path]["sha256"] != file["sha256"]:
            states[path] = "MANIFEST.tsv lists another sha256 than the registry"
    return dict(sorted(states.items()))


def _manifest(path: Path) -> list[dict]:
    """Rows of a MANIFEST.tsv as {path, bytes, sha256}; none where there is no such file."""
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [{"path": r["file"], "bytes": int(r["bytes"]), "sha256": r["sha256"].lower()} for r in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {error}); it needs columns file, bytes, sha256") from error
