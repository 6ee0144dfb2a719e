"""This machine as a host: results, lines as they come, and a tree that is there whole or not at all."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from fakes import has_ended
from mlops_env.connection import LocalConnection, Piped, put, quoted

if TYPE_CHECKING:
    from pathlib import Path


def tar(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_a_failing_command_is_a_result() -> None:
    result = LocalConnection().run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.exited, result.ok, result.stdout, result.stderr) == (3, False, "out\n", "err\n")


def test_a_command_that_is_not_there_is_one_too() -> None:
    result = LocalConnection().run(["no-such-command-of-ours", "x"])
    assert (result.exited, result.stderr) == (127, "no-such-command-of-ours: No such file or directory")


def test_a_killed_one_has_the_signal() -> None:
    assert LocalConnection().run(["sh", "-c", "kill -9 $$"]).exited == -9


def test_words_are_words_whatever_is_in_them() -> None:
    word = "a b 'c' \"d\" $HOME `id` * \\ é\n; rm -rf x"
    assert LocalConnection().run(["printf", "%s", word]).stdout.rstrip("\n") == word


def test_stdin_is_passed_on_and_without_one_there_is_none() -> None:
    assert LocalConnection().run(["cat"], stdin=b"x" * 200_000).stdout == "x" * 200_000 + "\n"
    assert LocalConnection().run(["cat"]).stdout == ""


def test_a_command_that_reads_nothing_does_not_break_it() -> None:
    assert LocalConnection().run(["true"], stdin=b"x" * 200_000).ok


def test_lines_come_without_their_end_and_whatever_their_bytes() -> None:
    lines: list[tuple[str, str]] = []
    script = r"printf 'one\r\ntw\303\266\nbad \377\nlast'; echo err >&2"
    result = LocalConnection().run(["sh", "-c", script], on_line=lambda stream, line: lines.append((stream, line)))
    assert [line for stream, line in lines if stream == "stdout"] == ["one", "twö", "bad �", "last"]
    assert ("stderr", "err") in lines
    assert result.last_line() == "last"


def test_interrupted_it_ends_the_command_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Thread.join", interrupt)
    command = ["sh", "-c", "sleep 60 & sleep 60 & echo $! $$; wait"]
    with pytest.raises(KeyboardInterrupt):
        LocalConnection().run(command, on_line=lambda _, line: children.extend(map(int, line.split())))
    assert all(map(has_ended, children))


def test_into_takes_the_bytes_and_no_line_of_them_is_told() -> None:
    into, lines = io.BytesIO(), list[str]()
    script = r"printf 'a\377\r\nb'; echo err >&2"
    result = LocalConnection().run(["sh", "-c", script], into=into, on_line=lambda _, line: lines.append(line))
    assert (into.getvalue(), result.stdout, result.stderr, lines) == (b"a\xff\r\nb", "", "err\n", ["err"])


def test_what_goes_wrong_with_a_line_ends_the_command_and_is_raised() -> None:
    started: list[int] = []

    def on_line(_: str, line: str) -> None:
        started.append(int(line))
        raise LookupError(line)

    with pytest.raises(LookupError):
        LocalConnection().run(["sh", "-c", "echo $$; exec sleep 60"], on_line=on_line)
    assert has_ended(started[0])


def test_a_line_for_a_shell_has_every_word_in_quotes() -> None:
    assert quoted(["a", "it's", "\\", ""]) == """'a' 'it'"'"'s' ''"\\\\"'' ''"""


def test_a_command_at_the_other_end_of_a_socket_ends_with_it(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb") as stderr, Piped("sh -c 'echo $$; exec cat'", stderr) as end:
        pid = int(end.recv(100))
        end.sendall(b"hello")
        assert end.recv(100) == b"hello"
    assert has_ended(pid)


def test_a_tree_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a b" / "trée"
    assert put(LocalConnection(), tar(one="1"), str(target)).ok
    assert (target / "one").read_text() == "1"


def test_a_cut_short_tree_does_not_appear_and_the_next_try_mends_it(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    assert not put(LocalConnection(), tar(one="1" * 2000)[:1000], str(target)).ok
    assert not target.exists()
    assert put(LocalConnection(), tar(two="2"), str(target)).ok
    assert [path.name for path in target.iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tree")] == ["tree"]
