"""The one way in which every orchestrator's native task runs a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import task

if TYPE_CHECKING:
    from pathlib import Path


def test_a_failing_step_fails_its_task_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orchestrators").mkdir()
    (tmp_path / "orchestrators" / "step.py").write_text(
        "import sys\nprint(sys.argv[1:])\nsys.exit(len(sys.argv) - 4)\n"
    )
    monkeypatch.setenv("MLOPS_ENV_TREE", str(tmp_path))
    task.run_step("train", "k", {})
    assert capsys.readouterr().out == "['train', '--run-key', 'k']\n"
    with pytest.raises(task.StepFailed, match=r"step train ended with exit code 1:\n.*'--param=a=b c'"):
        task.run_step("train", "k", {"a": "b c"})
