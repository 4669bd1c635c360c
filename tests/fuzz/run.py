"""Look for inputs that break a target: ``python tests/fuzz/run.py TARGET [--seconds N]``.

Needs atheris (``pip install .[fuzz]``). Coverage of our own code guides it; it begins with corpus/TARGET.txt and
dictionaries/NAME.dict. What breaks a target, or takes it more than five seconds, is written to crashes/, and
``run.py TARGET --replay FILE`` runs it again, without atheris.

The name of a module (``fuzz_engines``) runs all targets in it on each input; ``all`` one target after the other.
``--merge`` adds what was found, less what brings nothing new, to the corpus of a target.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from fuzzing import TARGETS, Target  # noqa: E402
from keeping import read_corpus, write_corpus  # noqa: E402

MODULES = {
    name: path.stem
    for path in sorted(HERE.glob("fuzz_*.py"))
    for name in re.findall(r"(?m)^@target\(.*\)\ndef (\w+)", path.read_text())
}
"""Where each target is, without loading it."""

SLOW = 5
"""Seconds that an input may take at the most; on a quiet machine none takes a tenth of that."""

WRITTEN = "Test unit written to "
"""What libFuzzer says of a file."""


def _fuzz(name: str, arguments: list[str]) -> None:
    """In this process, which ends in it."""
    import atheris

    # Not for more than is run: it takes time to prepare a module.
    with atheris.instrument_imports(include=["twisted_mail"], enable_loader_override=False):
        importlib.import_module(MODULES.get(name, name))

    runs = [one.run for one in chosen(name)]

    prefix = "".join(re.findall(r"-artifact_prefix=(.*)", "\n".join(arguments)))

    def run(data: bytes) -> None:
        try:
            for one in runs:
                one(data)
        except BaseException:
            # libFuzzer writes it under this name, too, at the end of the process, which not every process comes to.
            if prefix:
                path = Path(f"{prefix}crash-{hashlib.sha1(data).hexdigest()}")
                path.write_bytes(data)
                print(f"\n{WRITTEN}{path}", file=sys.stderr, flush=True)
            raise

    # A merge begins itself again, by a shell.
    again = shlex.join([sys.executable, str(Path(__file__)), name, "--inside"])
    atheris.Setup([again, *arguments], run)
    atheris.Fuzz()


def chosen(name: str) -> list[Target]:
    """The target, or those of a module."""
    return [one for one in TARGETS.values() if name in (one.name, one.module)]


def _arguments(name: str, slow: int, seed: int = 0) -> list[str]:
    importlib.import_module(MODULES.get(name, name))
    these = chosen(name)
    longest = max(one.longest for one in these)
    made = [f"-max_len={longest}", f"-timeout={slow}", "-rss_limit_mb=2048", f"-seed={seed}"]
    dictionary = these[0].dictionary
    if dictionary:
        made.append(f"-dict={HERE / 'dictionaries' / dictionary}.dict")
    return made


def _child(name: str, arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__)), name, "--inside", *arguments],
        text=True,
        **options,  # type: ignore[call-overload]
    )


def fuzz(
    name: str,
    seconds: int,
    merge: bool,
    seeds: Path | None,
    crashes: Path,
    slow: int,
    seed: int,
    runs: int = -1,
) -> bool:
    """Whether nothing was found."""
    crashes.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        known, new = Path(scratch, "known"), Path(scratch, "new")
        known.mkdir()
        new.mkdir()
        if seeds is not None:
            shutil.copytree(seeds / name, known, dirs_exist_ok=True)
        arguments = _arguments(name, slow, seed)
        inputs = [data for one in chosen(name) for data in read_corpus(one.name)]
        for number, data in enumerate(inputs):
            (known / str(number)).write_bytes(data)
        began = time.monotonic()
        done = _child(
            name,
            [
                *arguments,
                f"-max_total_time={seconds}",
                f"-runs={runs}",
                f"-artifact_prefix={crashes}/{name}-",
                "-print_final_stats=1",
                # Nobody else writes there; to look once a second makes the runs hang on the machine's speed.
                "-reload=0",
                str(new),
                str(known),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        took = time.monotonic() - began
        told = done.stdout.splitlines()
        last = [line for line in told if "cov:" in line][-1:]
        count = [line.split()[-1] for line in told if "number_of_executed_units" in line]
        if done.returncode:
            print(done.stdout[-6000:])
            for path in dict.fromkeys(re.findall(f"{WRITTEN}(.*)", done.stdout)):
                print(
                    f"again: {Path(sys.executable).name} tests/fuzz/run.py {name} --replay {path}"
                )
        said = " ".join(last[0].split()[2:8]) if last else "no coverage"
        print(
            f"{name}: {'FOUND' if done.returncode else 'ok'} {took:.0f} s, {''.join(count)} runs, {said}",
            flush=True,
        )
        if merge and not done.returncode:
            merged = Path(scratch, "merged")
            merged.mkdir()
            _child(
                name,
                ["-merge=1", *arguments, str(merged), str(known), str(new)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            kept = [path.read_bytes() for path in merged.iterdir()]
            assert kept, "the merge lost everything"
            write_corpus(name, kept)
    return not done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("target", help="its name, or all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--runs", type=int, default=-1, help="end after so many, too")
    parser.add_argument("--total", type=int, metavar="SECONDS", help="for all of them together")
    parser.add_argument("--slow", type=int, default=SLOW, help="seconds that an input may take (5)")
    parser.add_argument("--seed", type=int, default=0, help="the same mutations again; 0: others")
    parser.add_argument("--merge", action="store_true", help="keep what is new")
    parser.add_argument(
        "--seeds", type=Path, metavar="DIRECTORY", help="begin with these, too (of seeds.py)"
    )
    parser.add_argument(
        "--crashes",
        type=Path,
        default=HERE / "crashes",
        metavar="DIRECTORY",
        help="for what is found",
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input alone")
    if sys.argv[2:3] == ["--inside"]:
        _fuzz(sys.argv[1], sys.argv[3:])
        return 0
    wish = parser.parse_args()
    if wish.target != "all" and wish.target not in {*MODULES, *MODULES.values()}:
        parser.error(f"there are {', '.join(sorted(MODULES))}")
    if wish.merge and wish.target in MODULES.values():
        parser.error("a corpus is a target's")
    if wish.replay:
        importlib.import_module(MODULES.get(wish.target, wish.target))
        for one in chosen(wish.target):
            one.run(wish.replay.read_bytes())
        print("nothing happened")
        return 0
    names = sorted(MODULES) if wish.target == "all" else [wish.target]
    seconds = max(wish.total // len(names), 1) if wish.total else wish.seconds
    good = [
        fuzz(name, seconds, wish.merge, wish.seeds, wish.crashes, wish.slow, wish.seed, wish.runs)
        for name in names
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
