"""The suites by name: ``nox -s tests``, ``nox -s lint``, ``nox -s e2e``.

Each runs in an environment of its own, at the versions of requirements-ci.txt.
"""

import os
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True

LOCK = "-c", "requirements-ci.txt"


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The quick tests, on each Python."""
    session.install(*LOCK, "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def e2e(session: nox.Session) -> None:
    """Against a twistd subprocess, with whatever real clients this machine has."""
    session.install(*LOCK, "-e", ".[test]")
    session.run("pytest", "-m", "e2e", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Storms over a simulated site for an hour, or $SOAK_SECONDS."""
    session.install(*LOCK, "-e", ".[test]")
    session.run("pytest", "-m", "soak", "-s", "tests/simulation", *session.posargs)


@nox.session
def kills(session: nox.Session) -> None:
    """A server under load is killed five hundred times, or $KILLS."""
    session.install(*LOCK, "-e", ".[test]")
    session.run("pytest", "-m", "soak", "-s", "tests/e2e/test_killed_often.py", *session.posargs)


@nox.session
def powercuts(session: nox.Session) -> None:
    """The power goes forty times, or $CUTS, on a file system that forgets what was not synced. As root."""
    session.install(*LOCK, "-e", ".[test]")
    session.run("pytest", "-m", "soak", "-s", "tests/e2e/test_power_cut.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """New inputs for engines and parsers, an hour in all or $FUZZ_SECONDS; or: -- TARGET --seconds N."""
    session.install(*LOCK, "-e", ".[test,fuzz]")
    wish = session.posargs or ["all", "--total", os.environ.get("FUZZ_SECONDS", "3600")]
    session.run("python", "tests/fuzz/run.py", *wish)


@nox.session
def lint(session: nox.Session) -> None:
    """Form, types, and which way imports go."""
    session.install(*LOCK, "-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def coverage(session: nox.Session) -> None:
    """The quick tests, with branches counted."""
    session.install(*LOCK, "-e", ".[test]")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report", "--show-missing", "--skip-covered")


@nox.session(name="tls-scan")
def tls_scan(session: nox.Session) -> None:
    """All ports as sslyze and testssl.sh see them; half an hour."""
    session.install(*LOCK, "-e", ".[test]", "sslyze==6.3.1")
    session.run("pytest", "-m", "soak", "-s", "tests/e2e/test_tls_scan.py", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what requirements.lock has."""
    session.install("pip-audit==2.10.1")
    session.run("python", ".ci/audit", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """requirements.lock anew, at the versions of requirements-ci.txt."""
    session.install("uv")
    path = Path("requirements.lock")
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    build = Path(session.create_tmp()) / "build.in"
    build.write_text("hatchling\n")
    made = session.run(
        *("uv", "pip", "compile", "-q", "pyproject.toml", str(build), "--universal"),
        *("--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"),
        *("--no-annotate", "--no-header", *LOCK),
        silent=True,
    )
    path.write_text("\n".join([*head, str(made)]))
