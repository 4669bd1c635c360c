"""Look for inputs that break a target: ``python tests/fuzz/run.py TARGET [--seconds N]``.

Needs atheris (``pip install .[fuzz]``). Coverage of our own code guides it; it begins with corpus/TARGET.txt and
dictionaries/NAME.dict. What breaks a target, or takes it more than two seconds, is written to crashes/, and
``run.py TARGET --replay FILE`` runs it again, without atheris.

``all`` runs one after the other; ``--merge`` adds what was found, less what brings nothing new, to the corpus.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from keeping import read_corpus, write_corpus  # noqa: E402

CRASHES = HERE / "crashes"
SLOW = 2
"""Seconds that an input may take, at the most."""


def _fuzz(name: str, arguments: list[str]) -> None:
    """In this process, which ends in it."""
    import atheris

    with atheris.instrument_imports(include=["twisted_mail"], enable_loader_override=False):
        from targets import TARGETS

    atheris.Setup([sys.argv[0], *arguments], TARGETS[name].run)
    atheris.Fuzz()


def _names() -> list[str]:
    from targets import TARGETS

    return sorted(TARGETS)


def _arguments(name: str) -> list[str]:
    from targets import TARGETS

    one = TARGETS[name]
    made = [f"-max_len={one.longest}", f"-timeout={SLOW}", "-rss_limit_mb=2048"]
    if one.dictionary:
        made.append(f"-dict={HERE / 'dictionaries' / one.dictionary}.dict")
    return made


def _child(name: str, arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__)), name, "--inside", *arguments],
        text=True,
        **options,  # type: ignore[call-overload]
    )


def fuzz(name: str, seconds: int, merge: bool, seeds: Path | None) -> bool:
    """Whether nothing was found."""
    CRASHES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        known, new = Path(scratch, "known"), Path(scratch, "new")
        known.mkdir()
        new.mkdir()
        if seeds is not None:
            shutil.copytree(seeds / name, known, dirs_exist_ok=True)
        for number, data in enumerate(read_corpus(name)):
            (known / str(number)).write_bytes(data)
        began = time.monotonic()
        done = _child(
            name,
            [
                *_arguments(name),
                f"-max_total_time={seconds}",
                f"-artifact_prefix={CRASHES}/{name}-",
                "-print_final_stats=1",
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
            for line in told:
                if "Test unit written to " in line:
                    path = line.rpartition(" ")[2]
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
                ["-merge=1", *_arguments(name), str(merged), str(known), str(new)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            write_corpus(name, [path.read_bytes() for path in merged.iterdir()])
    return not done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("target", help="its name, or all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--merge", action="store_true", help="keep what is new")
    parser.add_argument(
        "--seeds", type=Path, metavar="DIRECTORY", help="begin with these, too (of seeds.py)"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input alone")
    if sys.argv[2:3] == ["--inside"]:
        _fuzz(sys.argv[1], sys.argv[3:])
        return 0
    wish = parser.parse_args()
    if wish.replay:
        from targets import TARGETS

        TARGETS[wish.target].run(wish.replay.read_bytes())
        print("nothing happened")
        return 0
    names = _names() if wish.target == "all" else [wish.target]
    good = [fuzz(name, wish.seconds, wish.merge, wish.seeds) for name in names]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
