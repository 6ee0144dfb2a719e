"""One side of an exchange of files between two copies of a workspace: `python exchange.py VERB WORKSPACE SCRATCH …`.

    list names|pipeline|again|everything    what is there: of the names on stdin, and of what that word says; JSON
    pack [FILE]                             the files that the plan on stdin sends, as a tar on stdout, or in FILE
    unpack [FILE]                           do what such a tar on stdin says, or what the plan on stdin says with FILE:
                                            all of it or nothing; JSON

`again` is the pipeline with the results that came of it: what a new host gets of a workspace that outlived another.

`mlops-env push` and `pull` run this on both sides and decide in between. SCRATCH is a folder for what to know again.
Any Python from 3.9 on will do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
from pathlib import Path

from listing import git, listed_by_git, walk
from side import CHUNK, DATABASE, OURS, Refused, Side, digest_of, in_project, mark_of, stays_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

_PLAN, _SENT = "plan", "sent"  # the first and the last member of the tar; those between are numbered
_CUT_SHORT = "the transfer ended before its end"


def look(side: Side, what: str, names: list[str]) -> dict[str, Any]:
    """What `list` tells. `ignored` are those of the given names that git is not to know of."""
    listed = set(names)
    ignored: set[str] = set()
    if what in {"pipeline", "again"}:
        pipeline, ignored = _pipeline(side, listed)
        listed |= pipeline
    if what == "everything":
        side.take_snapshot()  # before the artifacts, so that it names none that does not come along
        listed |= {*side.walk(), *side.results()}
    else:
        side.snapshot.unlink(missing_ok=True)
        listed |= set(side.results()) if what == "again" else set()
        if DATABASE in listed:
            side.settle_database()
    generated = side.generated()
    found = {name: side.version(name) for name in sorted(listed)}
    if what == "everything":  # an orchestrator's project is made anew wherever it is wanted
        found = {n: v for n, v in found.items() if not (v and in_project(n) and digest_of(v[0]) == generated.get(n))}
    side.remember()
    return {
        "identity": side.identity,
        "files": {name: version for name, version in found.items() if version},
        "skipped": side.skipped,
        "ignored": sorted(ignored),
        "generated": generated,
        "pipeline": side.manifest.get("pipeline", {}),
    }


def _pipeline(side: Side, names: set[str]) -> tuple[set[str], set[str]]:
    """The pipeline's files, as git lists them where it can, and which of the names are none of git's business."""
    by_git = listed_by_git(side.root)
    listed = by_git if by_git is not None else set(walk(side.root))
    listed = {name for name in listed if name.partition("/")[0].lower() != OURS}
    others = names - listed
    ignored = {name for name in others if side.path(name).is_symlink() or side.path(name).is_file()}
    return listed, ignored | (_ignored_by_git(side.root, others - ignored) if by_git is not None else set())


def _ignored_by_git(root: Path, names: set[str]) -> set[str]:
    """That a file is not there which is not to be in git either is no wish to have it deleted elsewhere."""
    if not names:
        return set()
    asked = b"\0".join(b"./" + os.fsencode(name) for name in sorted(names))  # `:(x` would be syntax
    told = git(root, "check-ignore", "--no-index", "-z", "--stdin", stdin=asked) or ""
    return {name[2:] for name in told.split("\0") if name}


def pack(side: Side, plan: dict[str, Any], output: IO[bytes]) -> None:
    """The plan, its files by number, and the versions that were really sent: without these nobody may use the rest."""
    side.identify(plan["source"])
    sent: dict[str, str] = {}
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, _PLAN, plan)
        for number, name in enumerate(plan["send"]):
            if name != DATABASE and side.path(name).is_symlink():
                sent[name] = f"-> {side.path(name).readlink()}"
                continue
            with contextlib.suppress(FileNotFoundError), side.content(name).open("rb") as file:
                status = os.fstat(file.fileno())
                info = tarfile.TarInfo(str(number))
                info.size = status.st_size
                reader = _Reader(file, status.st_size)
                archive.addfile(info, reader)  # type: ignore[arg-type] # it needs `read` alone
                if reader.is_whole:
                    sent[name] = reader.digest.hexdigest() + mark_of(status.st_mode)
        _add(archive, _SENT, sent)


class _Reader:
    """So many bytes of a file, whatever becomes of it meanwhile; a shorter one is filled up, and not whole."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self.digest = hashlib.sha256()
        self.is_whole = True

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        data = self._file.read(wanted)
        self.digest.update(data)
        self.is_whole = self.is_whole and len(data) == wanted
        self._left -= wanted
        return data.ljust(wanted, b"\0")


def _add(archive: tarfile.TarFile, member: str, value: object) -> None:
    content = json.dumps(value).encode()
    info = tarfile.TarInfo(member)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def unpack(side: Side, stream: IO[bytes], plan: dict[str, Any] | None) -> dict[str, Any]:
    """Put all aside first, look once more whether nobody changed a file meanwhile, and only then move things.

    Where the plan was made here, that one counts and not what the other side says it is.
    """
    stage = None
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            members = iter(archive)
            told = _json(archive, next(members, None), _PLAN)
            plan = plan or told
            _need_space(side.root, plan["bytes"])
            stage = _stage(side.root / OURS)
            sent = _receive(archive, members, plan["send"], stage)
        return _commit(side, plan, sent, stage)
    except tarfile.TarError as error:
        raise Refused(f"{_CUT_SHORT}: {error}") from error
    finally:
        if stage:
            shutil.rmtree(stage, ignore_errors=True)


def _stage(ours: Path) -> Path:
    """An empty folder on the workspace's disk, and an end to those that a kill or a lost connection left.

    Who is still at one, waiting for a connection that will not come back, fails there: the latest exchange counts.
    """
    ours.mkdir(parents=True, exist_ok=True)
    for other in ours.glob("exchange.*.part"):
        shutil.rmtree(other, ignore_errors=True)
    return Path(tempfile.mkdtemp(".part", "exchange.", ours))


def _need_space(root: Path, size: int) -> None:
    free = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({size} bytes needed, {free} free)", str(root))


def _receive(
    archive: tarfile.TarFile, members: Iterator[tarfile.TarInfo], names: list[str], stage: Path
) -> dict[str, str]:
    """Write the members down by their number; returns the versions that came, once all have."""
    digests: dict[str, str] = {}
    for member in members:
        if member.name == _SENT:
            told = _json(archive, member, _SENT)
            sent = {name: str(told[name]) for name in names if name in told}
            if any(digests.get(name, "") != digest_of(version) for name, version in sent.items()):
                raise Refused(_CUT_SHORT)
            return sent
        digest = hashlib.sha256()
        source = archive.extractfile(member)
        with (stage / str(int(member.name))).open("wb") as file:
            while source and (chunk := source.read(CHUNK)):
                digest.update(chunk)
                file.write(chunk)
        digests[names[int(member.name)]] = digest.hexdigest()
    raise Refused(_CUT_SHORT)


def _json(archive: tarfile.TarFile, member: tarfile.TarInfo | None, name: str) -> dict[str, Any]:
    file = archive.extractfile(member) if member and member.name == name else None
    if file is None:
        raise Refused(_CUT_SHORT)
    return dict(json.loads(file.read()))


def _commit(side: Side, plan: dict[str, Any], sent: dict[str, str], stage: Path) -> dict[str, Any]:
    deleted = set(plan["delete"])
    for name, version in sent.items():
        if version.startswith("-> ") and not stays_inside(name, version[3:]):
            raise Refused(f"unsafe link: {name!r} to {version[3:]!r}")
    changed = [
        name
        for name in (*sent, *plan["delete"])
        if (side.version(name) or (None,))[0] != plan["expect"][name]
        or not (name in plan["aside"] or name in deleted or _is_clear(side, name, deleted))
    ]
    if DATABASE in sent and not side.settle_database():
        changed.append(DATABASE)
    if changed:
        return {"changed": changed, "written": {}, "aside": {}}
    for name in plan["delete"]:
        _delete(side, name)
    aside = {}
    for number, name in enumerate(plan["send"]):
        if name in sent:
            loser = plan["aside"].get(name)
            if loser and os.path.lexists(side.path(loser)):
                aside[loser] = _put_aside(side, loser)
            _place(side.path(name), sent[name], stage / str(number))
    side.adopt(plan["pipeline"])
    side.identify(plan["target"])
    return {"changed": [], "written": sent, "aside": aside}


def _is_clear(side: Side, name: str, deleted: set[str]) -> bool:
    """Whether nothing but what is deleted anyway is in a folder that is to become a file."""
    if side.path(name).is_symlink() or not side.path(name).is_dir():
        return True
    inside = (Path(folder, file) for folder, _, files in os.walk(side.path(name)) for file in files)
    return all(path.relative_to(side.root).as_posix() in deleted for path in inside)


def _delete(side: Side, name: str) -> None:
    path = side.path(name)
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == side.root:
            break
        with contextlib.suppress(OSError):  # not empty: somebody else's files are there
            folder.rmdir()


def _put_aside(side: Side, name: str) -> str:
    names = (f"{name}.orig{number}" for number in ("", *range(2, 1000)))
    other = next(name for name in names if not os.path.lexists(side.path(name)))
    side.path(name).rename(side.path(other))
    return other


def _place(path: Path, version: str, staged: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_file = path.is_file() and not path.is_symlink()
    if not is_file and not path.is_symlink() and path.is_dir():
        path.rmdir()
    if version.startswith("-> "):
        staged.symlink_to(version[3:])
    else:
        mode = stat.S_IMODE((path if is_file else staged).stat().st_mode) & ~0o111
        staged.chmod(mode | ((mode & 0o444) >> 2 if version.endswith("+x") else 0))
    try:
        staged.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = path.with_name(f".{path.name}.mlops-env")  # that folder is on another disk
        beside.unlink(missing_ok=True)
        shutil.copy2(staged, beside, follow_symlinks=False)
        beside.replace(path)


def main(verb: str, root: str, scratch: str, word: str = "") -> None:
    side = Side(Path(root), Path(scratch))
    if verb == "list":
        print(json.dumps(look(side, word, json.loads(sys.stdin.buffer.read() or b"[]"))))
    elif verb == "pack":
        with Path(word).open("wb") if word else contextlib.nullcontext(sys.stdout.buffer) as output:
            pack(side, json.loads(sys.stdin.buffer.read()), output)
    elif verb == "unpack":
        plan = json.loads(sys.stdin.buffer.read()) if word else None
        with Path(word).open("rb") if word else contextlib.nullcontext(sys.stdin.buffer) as stream:
            print(json.dumps(unpack(side, stream, plan)))
    else:
        sys.exit(f"no verb {verb}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Refused as refusal:
        sys.exit(f"exchange: {refusal}")
    except OSError as failure:
        sys.exit(f"exchange: {failure.strerror}" + (f": {failure.filename}" if failure.filename else ""))
