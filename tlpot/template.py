"""The commented config that `tlpot init` writes, made from the config's own descriptions."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tlpot.config import PRESETS, Config

EXAMPLES: dict[str, Any] = {"data.files": ["OUTCAR", "runs/*/vasprun.xml"]}
HEADER = """\
# tlpot finetune FILE    key=value on the command line overrides
# Lines that begin with '#' show what the preset sets; remove the '#' to choose for yourself.
"""
BY_PRESET = {f"training.{key}" for preset in PRESETS.values() for key in preset}


def config_template() -> str:
    """Every key with its default and its description as a comment."""
    return HEADER + "\n".join(_lines(Config, "", 0)) + "\n"


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
        text = yaml.safe_dump(_value(prefix + key, field), default_flow_style=True, width=1000)
        pad += "# " if prefix + key in BY_PRESET else ""
        lines.append(f"{pad}{key}: {text.removesuffix(chr(10)).removesuffix('...').strip()}{note}")
    return lines


def _value(key: str, field: FieldInfo) -> Any:
    if key in EXAMPLES:
        return EXAMPLES[key]
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined, f"{key} has no default and no example"
    return value
