"""The steps of bootstrap/ as they are run by hand: what they answer, what they change, and what they leave alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

BOOTSTRAP = ROOT / "bootstrap"
SCRIPTS = sorted(
    path
    for pattern in ("bootstrap/*.sh", "bootstrap/steps/*.sh", "orchestrators/**/*.sh", ".ci/run")
    for path in ROOT.glob(pattern)
)
CHECKED = [path for path in SCRIPTS if path.name != "settings.sh"]
OK = '{"type":"step","name":"gitconfig","status":"ok"}\n'
CHANGED = (
    '{"type":"step","name":"gitconfig","status":"started"}\n{"type":"step","name":"gitconfig","status":"changed"}\n'
)
FAILED = '{"type":"step","name":"gitconfig","status":"started"}\n{"type":"step","name":"gitconfig","status":"failed"}\n'
PENDING = '{"type":"step","name":"gitconfig","status":"pending"}\n'


def bash(script: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(script), *words], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def without_cause(events: str) -> str:
    return "".join(line for line in events.splitlines(keepends=True) if '"type":"cause"' not in line)


def snapshot(folder: Path) -> dict[str, object]:
    return {str(path): path.read_bytes() if path.is_file() else path.is_symlink() for path in folder.rglob("*")}


class TestGitconfig:
    """Each form is looked at (nothing changes), brought into order, and looked at again."""

    step = BOOTSTRAP / "steps" / "30-gitconfig.sh"

    def apply(self, home: Path, code: int, events: str, **variables: str) -> str:
        before = snapshot(home)
        looked = bash(self.step, "check", **variables)
        assert (looked.returncode, looked.stdout) == ((0, OK) if events == OK else (10, PENDING))
        assert snapshot(home) == before
        done = bash(self.step, "apply", **variables)
        assert (done.returncode, without_cause(done.stdout)) == (code, events), done.stderr
        assert ('"code":"step-gitconfig"' in done.stdout) == bool(code)
        again = bash(self.step, "apply", **variables)
        assert (again.returncode, without_cause(again.stdout)) == ((0, OK) if code == 0 else (code, events))
        return done.stderr

    def test_absent_with_a_known_author_it_names_them(self, home: Path) -> None:
        author = {"GIT_AUTHOR_NAME": 'Zoë "Z" O\'Neil', "GIT_AUTHOR_EMAIL": "z@example.org"}
        self.apply(home, 0, CHANGED, **author)
        for key, value in (("user.name", author["GIT_AUTHOR_NAME"]), ("user.email", author["GIT_AUTHOR_EMAIL"])):
            asked = subprocess.run(["git", "config", "--global", key], capture_output=True, text=True, check=True)
            assert asked.stdout == f"{value}\n"

    def test_absent_without_one_it_is_an_empty_file(self, home: Path) -> None:
        self.apply(home, 0, CHANGED)
        assert (home / ".gitconfig").read_bytes() == b""

    def test_what_was_written_is_remembered_so_that_down_can_take_it_back(self, home: Path, tmp_path: Path) -> None:
        host = tmp_path / "host ö"
        self.apply(home, 0, CHANGED, MLOPS_ENV_HOST_DIR=str(host), GIT_AUTHOR_NAME="Z")
        assert (host / "made" / "gitconfig").read_bytes() == (home / ".gitconfig").read_bytes()

    def test_a_real_file_is_never_touched(self, home: Path) -> None:
        (home / ".gitconfig").write_text("[user]\n\tname = Mine\n")
        before = snapshot(home)
        self.apply(home, 0, OK, GIT_AUTHOR_NAME="Other")
        assert snapshot(home) == before

    def test_a_link_to_a_real_file_is_as_good(self, home: Path) -> None:
        (home / "dotfiles").write_text("[user]\n")
        (home / ".gitconfig").symlink_to("dotfiles")
        self.apply(home, 0, OK)

    def test_an_empty_directory_becomes_a_file(self, home: Path) -> None:
        (home / ".gitconfig").mkdir()
        self.apply(home, 0, CHANGED)
        assert (home / ".gitconfig").is_file()

    def test_a_directory_with_files_stops_it_and_is_kept(self, home: Path) -> None:
        (home / ".gitconfig").mkdir()
        (home / ".gitconfig" / "mine").touch()
        said = self.apply(home, 1, FAILED)
        assert f"gitconfig: {home}/.gitconfig is a directory with files in it" in said
        assert (home / ".gitconfig" / "mine").exists()

    def test_a_dangling_link_stops_it_and_is_kept(self, home: Path) -> None:
        (home / ".gitconfig").symlink_to("/no/such/file")
        said = self.apply(home, 1, FAILED)
        assert "is a link to /no/such/file, which does not exist" in said
        assert (home / ".gitconfig").is_symlink()

    def test_a_configuration_elsewhere_is_enough(self, home: Path) -> None:
        (home / ".config" / "git").mkdir(parents=True)
        (home / ".config" / "git" / "config").touch()
        self.apply(home, 0, OK)
        assert not (home / ".gitconfig").exists()

    def test_a_home_with_spaces_and_other_letters_is_like_any(self, tmp_path: Path) -> None:
        home = tmp_path / "höme of mé"
        home.mkdir()
        self.apply(home, 0, CHANGED, HOME=str(home))

    def test_a_home_that_cannot_be_written_fails_and_says_so(self, tmp_path: Path) -> None:
        done = bash(self.step, "apply", HOME=str(tmp_path / "nowhere"))
        assert (done.returncode, done.stdout) == (1, FAILED)
        assert "No such file or directory" in done.stderr

    def test_another_verb_is_a_usage_error(self, home: Path) -> None:
        done = bash(self.step, "destroy")
        assert (done.returncode, done.stdout) == (1, '{"type":"step","name":"gitconfig","status":"failed"}\n')
        assert "usage:" in done.stderr
        assert list(home.iterdir()) == []


class TestTools:
    """With a uv that only notes what it is asked."""

    step = BOOTSTRAP / "steps" / "40-tools.sh"

    def apply(self, tmp_path: Path, uv: Path) -> subprocess.CompletedProcess[str]:
        return bash(
            self.step, "apply", MLOPS_ENV_UV=str(uv), MLOPS_ENV_HOST_DIR=str(tmp_path / "host"), MLOPS_ENV_PYTHON="py"
        )

    def uv(self, tmp_path: Path, body: str) -> Path:
        uv = tmp_path / "fake uv"
        uv.write_text(f'#!/bin/sh\necho "$*" >>"$0.log"\n{body}\n')
        uv.chmod(0o755)
        return uv

    def make_venv(self, tmp_path: Path) -> Path:
        python = f"{tmp_path}/host/venvs/tools/bin/python"
        return self.uv(tmp_path, f'mkdir -p "${{7%/}}/bin"; ln -sf {sys.executable} {python}')

    def test_a_venv_from_the_lock_then_nothing_to_do(self, tmp_path: Path) -> None:
        uv = self.make_venv(tmp_path)
        assert self.apply(tmp_path, uv).stdout.count('"changed"') == 1
        venv = tmp_path / "host" / "venvs" / "tools"
        assert (venv / "tools.lock").read_bytes() == (BOOTSTRAP / "tools.lock").read_bytes()
        assert self.apply(tmp_path, uv).stdout == '{"type":"step","name":"tools","status":"ok"}\n'
        assert (tmp_path / "fake uv.log").read_text().splitlines() == [
            f"venv --quiet --clear --no-project --python py {venv}",
            f"pip sync --quiet --require-hashes --python {venv}/bin/python {BOOTSTRAP}/tools.lock",
        ]

    def test_a_half_made_one_is_made_anew(self, tmp_path: Path) -> None:
        self.apply(tmp_path, self.make_venv(tmp_path))
        (tmp_path / "host" / "venvs" / "tools" / "tools.lock").unlink()
        assert '"changed"' in self.apply(tmp_path, self.make_venv(tmp_path)).stdout

    def test_a_failing_uv_fails_the_step_and_leaves_no_stamp(self, tmp_path: Path) -> None:
        done = self.apply(tmp_path, self.uv(tmp_path, '[ "$1" = venv ] || { echo "error: dns error" >&2; exit 2; }'))
        assert done.returncode != 0
        assert done.stdout.endswith('"status":"failed"}\n')
        assert "dns error" in done.stderr
        assert not list(tmp_path.glob("host/venvs/tools/tools.lock"))

    def test_without_uv_it_says_where_to_get_it(self, tmp_path: Path) -> None:
        done = self.apply(tmp_path, tmp_path / "no-uv")
        assert done.returncode == 1
        assert "uv is not there. Install it" in done.stderr


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """A bootstrap folder of toy steps, a file each: a step is `ok` once its file is there."""
    folder = tmp_path / "boot strap"
    (folder / "steps").mkdir(parents=True)
    for name in ("run.sh", "lib.sh", "environment.sh"):
        shutil.copy(BOOTSTRAP / name, folder)
    for number, apply in ((10, "touch"), (20, "false"), (30, "touch")):
        (folder / "steps" / f"{number}-s{number}.sh").write_text(
            f'source "$(dirname "$0")/../lib.sh"\ncheck() {{ [ -e "$HOME/{number}" ]; }}\n'
            f'apply() {{ {apply} "$HOME/{number}"; }}\nstep_main "$@"\n'
        )
    return folder


class TestRun:
    def test_check_asks_every_step_and_changes_nothing(self, steps: Path, home: Path) -> None:
        (home / "10").touch()
        done = bash(steps / "run.sh", "check")
        assert done.returncode == 10
        assert done.stdout.splitlines() == [
            '{"type":"step","name":"s10","status":"ok"}',
            '{"type":"step","name":"s20","status":"pending"}',
            '{"type":"step","name":"s30","status":"pending"}',
        ]
        assert [path.name for path in home.iterdir()] == ["10"]

    def test_apply_stops_at_the_first_that_fails(self, steps: Path, home: Path) -> None:
        done = bash(steps / "run.sh", "apply")
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1] == '{"type":"step","name":"s20","status":"failed"}'
        assert [path.name for path in home.iterdir()] == ["10"]

    def test_apply_goes_on_where_it_stopped(self, steps: Path, home: Path) -> None:
        bash(steps / "run.sh")
        (home / "20").touch()
        done = bash(steps / "run.sh")
        assert done.returncode == 0
        assert '"s10","status":"ok"' in done.stdout
        assert done.stdout.endswith('"s30","status":"changed"}\n')
        assert bash(steps / "run.sh", "check").returncode == 0

    def test_an_apply_that_did_not_help_is_a_failure(self, steps: Path) -> None:
        step = steps / "steps" / "20-s20.sh"
        step.write_text(step.read_text().replace("{ false", "{ true"))
        done = bash(steps / "run.sh")
        assert done.returncode == 1
        assert "applied, but the check still fails" in done.stderr

    def test_a_step_that_is_killed_has_failed(self, steps: Path) -> None:
        step = steps / "steps" / "20-s20.sh"
        step.write_text(step.read_text().replace("{ false", "{ kill -TERM $$; sleep 5"))
        done = bash(steps / "run.sh")
        assert done.returncode != 0
        assert done.stdout.endswith('"s20","status":"failed"}\n')

    def test_another_verb_stops_at_once(self, steps: Path, home: Path) -> None:
        assert bash(steps / "run.sh", "destroy").returncode == 1
        assert list(home.iterdir()) == []


def test_every_script_is_valid_bash() -> None:
    assert {"run.sh", "lib.sh", "30-gitconfig.sh", "mlflow.sh"} <= {path.name for path in SCRIPTS}
    for script in SCRIPTS:
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.stderr == ""


def test_shellcheck_has_nothing_to_say() -> None:
    """It follows what these source; what they source alone tells it too little."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *CHECKED], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("", 0)


def test_nothing_relies_on_an_executable_bit() -> None:
    called = [
        line for path in SCRIPTS for line in path.read_text().splitlines() if line.strip().startswith(("./", "exec ./"))
    ]
    assert called == []
