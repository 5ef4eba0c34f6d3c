"""The runner: refuses before it starts, goes on after a failure, leaves nothing half-written."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from densebook.book import plan
from densebook.core import settings
from densebook.core.errors import InputError


def record(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text())


def hidden(root: Path) -> list[Path]:
    """What a cut run would leave: partial folders beside the finished ones."""
    return [p for p in (root / "runs").rglob(".*")] if (root / "runs").exists() else []


def test_runs_in_order_goes_on_after_a_failure_and_compares(checkout):
    checkout.notebook("good", 'record.metric("steps", steps, better="same");')
    checkout.notebook("bad", 'raise ValueError("the field is empty")')
    checkout.notebook("open", "x = 1", close=False)
    done = checkout.run("run", "-p", "steps=5")
    assert done.returncode == 1
    assert "the field is empty" in done.stdout and "record.close()" in done.stdout and "without baseline" in done.stdout
    good = record(checkout.folder("good"))
    assert good["status"] == "ok" and good["metrics"] == {"steps": 5.0} and good["parameters"]["steps"] == 5
    assert record(checkout.folder("bad"))["status"] == "failed" and record(checkout.folder("open"))["status"] == "failed"
    assert (checkout.folder("bad") / "executed.ipynb").is_file(), "a failed run still shows how far it came"
    assert not hidden(checkout.root)

    accepted = checkout.run("accept", "good")
    assert accepted.returncode == 0 and "steps" in accepted.stdout
    assert checkout.run("run", "good", "-p", "steps=5").returncode == 0
    left = checkout.run("run", "good", "-p", "steps=4")
    assert left.returncode == 1 and "steps = 4" in left.stdout and "baseline 5" in left.stdout
    assert checkout.run("check", "good").returncode == 1


def test_resume_skips_what_is_done_for_the_same_code(checkout):
    checkout.notebook("one", 'record.metric("x", 1);')
    assert checkout.run("run").returncode == 0
    first = record(checkout.folder("one"))["finished"]
    again = checkout.run("run", "--resume")
    assert "done before" in again.stdout and record(checkout.folder("one"))["finished"] == first
    checkout.notebook("one", 'record.metric("x", 2);')
    assert "done before" not in checkout.run("run", "--resume").stdout
    assert record(checkout.folder("one"))["metrics"] == {"x": 2.0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "gud"), "did you mean 'good'"),
        (("run", "good", "-p", "step=3"), "did you mean 'steps'"),
        (("run", "good", "-p", "steps=three"), "not of type int"),
        (("run", "good", "-p", "steps"), "no '='"),
        (("run", "good", "--profile", "smok"), "did you mean 'smoke'"),
        (("run", "good", "--data", "rael"), "did you mean 'real'"),
        (("run", "good", "-p", "out_dir=x"), "set by the runner"),
        (("check", "good"), "no smoke records"),
        (("bench", "octre"), "did you mean 'octree'"),
    ],
)
def test_wrong_names_are_refused_before_anything_starts(checkout, arguments, said):
    checkout.notebook("good", "x = 1")
    done = checkout.run(*arguments)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (checkout.root / "runs").exists()


def test_outside_a_checkout_the_error_says_so(checkout, tmp_path_factory):
    done = subprocess.run(checkout.command("list"), cwd=tmp_path_factory.mktemp("elsewhere"), capture_output=True, text=True)
    assert done.returncode == 2 and "inside a checkout" in done.stderr


def hear_interrupts() -> None:
    """A job in the background of a shell is born deaf to Ctrl-C, and so are its children; CI may start us as one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_no_half_written_record_and_no_kernel(checkout, stop):
    checkout.notebook("quick", "x = 1")
    checkout.notebook("slow", "from pathlib import Path", 'Path("../../started").touch()', "import time; time.sleep(100)")
    process = subprocess.Popen(
        checkout.command("run"), cwd=checkout.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    deadline = time.monotonic() + 60
    while not (checkout.root / "started").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2, "a worker and its kernel"
    process.send_signal(stop)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "--resume" in error
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
    assert record(checkout.folder("quick"))["status"] == "ok"
    assert not checkout.folder("slow").exists() and not hidden(checkout.root)


def test_a_notebook_far_over_its_budget_is_stopped(checkout):
    checkout.notebook("slow", "import time; time.sleep(100)")
    checkout.settings(budget=1)
    done = checkout.run("run")
    assert done.returncode == 1 and "times its budget" in done.stdout
    assert record(checkout.folder("slow"))["status"] == "failed"


def test_two_at_a_time_and_real_data_has_its_own_folder(checkout):
    for name in ("a", "b", "c"):
        checkout.notebook(name, 'record.metric("x", 1);')
    assert checkout.run("run", "--jobs", "2").returncode == 0
    assert checkout.run("run", "a", "--data", "real").returncode == 0
    assert record(checkout.folder("a", "smoke-real"))["parameters"]["data"] == "real"
    assert record(checkout.folder("a"))["parameters"]["data"] == "toy"


def test_chapters_short_and_long_names_resolve_in_reading_order(checkout):
    for name in ("10_a", "11_b"):
        checkout.notebook(name, "x = 1")
    book = settings.load(checkout.root)
    assert plan.resolve(book, ["toy"]) == ["toy/10_a", "toy/11_b"] == plan.resolve(book, [])
    assert plan.resolve(book, ["nbs/toy/11_b.ipynb", "10_a"]) == ["toy/10_a", "toy/11_b"]


def test_a_notebook_without_parameters_cell_or_file_is_refused(checkout):
    checkout.notebook("one", "x = 1")
    path = checkout.root / "nbs" / "toy" / "one.ipynb"
    path.write_text(path.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(InputError, match="no cell tagged 'parameters'"):
        plan.plan(settings.load(checkout.root), [], "smoke", {})
    path.write_text("{")
    with pytest.raises(InputError, match="is not a notebook"):
        plan.plan(settings.load(checkout.root), [], "smoke", {})
    path.unlink()
    with pytest.raises(InputError, match="named in settings.ini"):
        plan.plan(settings.load(checkout.root), [], "smoke", {})


def test_publish_takes_outputs_and_refuses_paths_of_this_machine(checkout):
    (checkout.root / "pyproject.toml").write_text(
        '[project]\nname = "densebook"\n[tool.nbdev]\nnbs_path = "nbs"\nlib_path = "densebook"\nallowed_cell_metadata_keys = ["tags"]\nallowed_metadata_keys = ["language_info"]\n'
    )
    checkout.notebook("one", 'print("forty-two")')
    refused = checkout.run("publish", "one")
    assert refused.returncode == 2 and "densebook run toy/one --profile cpu" in refused.stderr
    assert checkout.run("run", "--profile", "cpu").returncode == 0
    assert checkout.run("publish").returncode == 0
    printed = json.loads((checkout.root / "nbs" / "toy" / "one.ipynb").read_text())
    assert "forty-two" in json.dumps(printed["cells"]) and "injected-parameters" not in json.dumps(printed)
    assert [c for c in printed["cells"] if c["metadata"].get("tags") == ["parameters"]]
    checkout.notebook("one", "import os; print(os.getcwd())")
    assert checkout.run("run", "--profile", "cpu").returncode == 0
    refused = checkout.run("publish")
    assert refused.returncode == 2 and "a path of this machine" in refused.stderr


def test_children_of_the_runner_do_not_spin(checkout):
    checkout.notebook("env", 'import os; record.metric("threads", int(os.environ["OMP_NUM_THREADS"])); assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"')
    assert checkout.run("run", "--jobs", "2").returncode == 0
    assert record(checkout.folder("env"))["metrics"]["threads"] == max(1, (os.cpu_count() or 1) // 2)
