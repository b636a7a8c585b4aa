"""What is checked, each by one name: ``nox``, or ``nox -s types``."""

import nox

nox.options.sessions = ["test", "lint", "types", "imports"]
nox.options.reuse_existing_virtualenvs = True

REQUIREMENTS = ("-r", "requirements-dev.txt")


@nox.session
def test(session: nox.Session) -> None:
    """Every test that needs no real ComfyUI; arguments go to pytest."""
    session.install(*REQUIREMENTS)
    session.run("python", "-m", "pytest", "-m", "not comfyui", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, layout and spelling."""
    session.install(*REQUIREMENTS)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    session.install(*REQUIREMENTS)
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Who may import whom."""
    session.install(*REQUIREMENTS)
    session.run("lint-imports")


@nox.session
def acceptance(session: nox.Session) -> None:
    """Real processes, killed and started again; nothing may be lost, doubled or half there."""
    session.install(*REQUIREMENTS)
    session.run("python", "benchmarks/killed_runs.py")
    session.run("python", "benchmarks/interrupted_syncs.py")


@nox.session
def comfyui(session: nox.Session) -> None:
    """Against a real ComfyUI: COMFYUI_DIR and COMFYUI_PYTHON name it."""
    session.install(*REQUIREMENTS)
    session.run("python", "-m", "pytest", "-m", "comfyui", *session.posargs)
