"""The commented config that `tlpot init` writes, made from the config's own descriptions."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tlpot.config.reading import dumped
from tlpot.config.run import PRESETS, Config
from tlpot.errors import TlpotError

EXAMPLES: dict[str, Any] = {"data.files": ["OUTCAR", "runs/*/vasprun.xml"]}
TEMPLATE_HEADER = """\
# tlpot finetune FILE    key=value on the command line overrides
# Lines that begin with '#' show what the preset sets; remove the '#' to choose for yourself.
"""
BY_PRESET = {f"training.{key}" for preset in PRESETS.values() for key in preset}


def config_template() -> str:
    """Every key with its default and its description as a comment."""
    return TEMPLATE_HEADER + "\n".join(_lines(Config, "", 0)) + "\n"


def lay_out_examples(folder: Path) -> list[Path]:
    """Copy ``examples`` and the frames of ``datasets/urea`` into a folder, as in the repository.

    Returns
    -------
    The files.

    Raises
    ------
    TlpotError
        If one of them is there already; then nothing is written.
    """
    bundled = Path(str(files("tlpot") / "bundled"))
    sources = [p for p in sorted(bundled.rglob("*.*")) if p.parent.name != "__pycache__"]
    copies = {folder / source.relative_to(bundled): source for source in sources}
    for path in copies:
        if path.exists():
            raise TlpotError(f"{path} exists already; name another folder after --examples")
    for path, source in copies.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
    return list(copies)


def _lines(section: type[BaseModel], prefix: str, depth: int) -> list[str]:
    lines: list[str] = []
    for name, field in section.model_fields.items():
        key = field.alias or name
        pad = "  " * depth
        note = f"  # {field.description}" if field.description else ""
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += [f"{pad}{key}:{note}", *_lines(kind, f"{prefix}{key}.", depth + 1)]
            continue
        text = dumped(_value(prefix + key, field), default_flow_style=True, width=1000)
        pad += "# " if prefix + key in BY_PRESET else ""
        lines.append(f"{pad}{key}: {text.removesuffix(chr(10)).removesuffix('...').strip()}{note}")
    return lines


def _value(key: str, field: FieldInfo) -> Any:
    if key in EXAMPLES:
        return EXAMPLES[key]
    assert not field.is_required(), f"{key} has no default and no example"
    return field.get_default(call_default_factory=True)
