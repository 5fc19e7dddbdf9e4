"""What the README says is true."""

import re
import shlex
from pathlib import Path

import pytest

from sparsity_core.cli.main import _parser

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = re.findall(r"^sparsity (?!models|runs)(.+)$", README, re.MULTILINE)


def test_the_python_example_runs_and_prints_what_it_says(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    shown = capsys.readouterr().out
    assert "'conv2.weight': 0.5" in shown
    assert "'conv1.weight': 'needs a multiple of 4 inputs, got 1" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_understood(command):
    assert _parser().parse_args(shlex.split(command)).action


def test_ci_runs_the_readmes_test_command():
    ci = (Path(__file__).parent.parent / ".ci" / "run").read_text()
    assert "pip install -e '.[test]' && pytest" in README
    assert "README.md" in ci


def test_what_the_readme_names_exists():
    root = Path(__file__).parent.parent
    for name in re.findall(r"`((?:sparsity_core|sample_models|app|pages)/[\w/.]*)`", README):
        assert (root / name).exists(), name
