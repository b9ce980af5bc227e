"""Runs the tutorials as their readers would, whole, and keeps what they print and draw.

    python tools/tutorials.py [NAME …]        minutes; all of them, in the order of the site

For each block of docs/tutorials/NAME.md a file build/tutorials/NAME/NN.txt, beside it the pictures
that the page shows; tools/pages.py puts them in. The first that fails ends it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "build/tutorials"
ORDER = ("first", "elements", "landscape", "pattern", "learning", "teacher")
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^!\[[^]]*\]\((\w+/[\w.]+)\)", re.MULTILINE)


def main() -> None:
    names = sys.argv[1:] or ORDER
    work = BUILT / "work"
    if names == ORDER:
        shutil.rmtree(BUILT, ignore_errors=True)
    (work / "runs/tutorial").mkdir(parents=True, exist_ok=True)
    for part in ("examples", "datasets"):
        if not (work / part).exists():
            (work / part).symlink_to(ROOT / part)
    for name in names:
        show(name, work)


def blocks(text: str) -> list[tuple[str, str]]:
    """Kind and text of a page's blocks of commands (kind ``""``) and scripts."""
    return [(kind, block) for kind, block in BLOCK.findall(text) if kind in ("", "python")]


def show(name: str, work: Path) -> None:
    """Run a page's blocks in the folder `work`."""
    text = (ROOT / f"docs/tutorials/{name}.md").read_text(encoding="utf-8")
    shutil.rmtree(BUILT / name, ignore_errors=True)
    (BUILT / name).mkdir()
    for number, (kind, block) in enumerate(blocks(text)):
        program = ["bash", "-ec", block] if not kind else [sys.executable, "-c", block]
        start = time.monotonic()
        done = subprocess.run(
            program,
            cwd=work,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "COLUMNS": "100",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - start
        some_went_astray = done.returncode == 1 and "Traceback" not in done.stdout
        if done.returncode and not some_went_astray:
            sys.exit(f"{name}: {block}\n{done.stdout}")
        print(f"{name} {number}: {seconds:.0f} s", flush=True)
        printed = f"{done.stdout.rstrip()}\n\n[{seconds:.0f} s]\n" if done.stdout.strip() else ""
        (BUILT / name / f"{number:02d}.txt").write_text(printed)
    for picture in PICTURE.findall(text):
        made = work.glob(f"runs/tutorial/**/{Path(picture).name}")
        newest = max(made, key=lambda path: path.stat().st_mtime)
        shutil.copyfile(newest, BUILT / picture)


if __name__ == "__main__":
    main()
