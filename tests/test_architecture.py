"""House rules that a tool can check: style, types, direction of imports, size, no stray files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["sparsity_core", "app", "pages", "sample_models"]
TOP_LEVEL = {*PACKAGES, "tests", "benchmarks", "pyproject.toml", "README.md", "build"}


def python_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def tool(*command):
    # The tools of this environment, whether or not it is activated.
    name = shutil.which(command[0], path=str(Path(sys.executable).parent)) or command[0]
    return subprocess.run([name, *command[1:]], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",)],
    ids=["lint", "format", "types", "imports"],
)
def test_tools_are_content(command):
    done = tool(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_top_level_is_fixed():
    found = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    assert {n for n in found - TOP_LEVEL if not n.endswith(".egg-info")} == set()


def test_no_file_is_a_drawer():
    names = {path.stem for path in python_files(*PACKAGES)}
    assert names & {"utils", "util", "helpers", "helper", "common", "misc"} == set()


def test_no_app_file_bears_the_name_of_a_standard_module():
    # `streamlit run app/main.py` puts app/ first on sys.path.
    names = {path.stem for path in python_files("app")} - {"__init__"}
    assert names & set(sys.stdlib_module_names) == set()


def test_files_have_one_idea():
    long = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in python_files(*PACKAGES)
    }
    assert {name: lines for name, lines in long.items() if lines > 300} == {}
