"""Where a run came from: data, split, versions, hardware."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tlpot.data.find import find_files
from tlpot.data.levels import named_levels
from tlpot.finetuning.prepare import PreparedPotential
from tlpot.finetuning.replay import REPLAYED
from tlpot.training.manifest import about_file, about_frames
from tlpot.trust.gate import suspect_rows


def own_part(prepared: PreparedPotential, in_memory: bool = False) -> dict[str, Any]:
    """What ``manifest.json`` holds of a fine-tuning besides `tlpot.training.manifest`."""
    frames = prepared.checked.frames
    everything = frames + [r.frame for r in prepared.checked.rejected]
    replayed = sorted({frame.source for frame in prepared.replay if frame.source})
    tables = [group.table for group in prepared.config.data.groups if group.table is not None]
    return {
        "inputs": {
            "replayed files": [about_file(path) for path in replayed],
            "energy tables": [about_file(path) for path, _ in find_files(tables)],
        },
        "split_frames": {
            part: [frame.name for frame in prepared.parts[part]] for part in prepared.parts
        },
        "data": {
            "files": about_frames(frames)
            if in_memory
            else [
                {**about_file(path), "frames": sum(f.source == path for f in frames)}
                for path in sorted({f.source for f in everything})
            ],
            "levels": named_levels(frames),
            "energy_keys": sorted({str(f.info.get("energy_key", "energy")) for f in frames}),
            "labels": dict(Counter(f.labels for f in frames)),
            "checked": prepared.checked.summary(),
            "suspects": suspect_rows(prepared.suspects),
        },
        "recipe": {
            "learning_rate": prepared.config.training.learning_rate,
            "epochs": prepared.config.training.epochs,
            "why": prepared.recipe or "as the config or its preset says",
        },
        "replayed": dict(Counter(str(f.info.get(REPLAYED, "of files")) for f in prepared.replay)),
        "elements": prepared.new_elements,
        "energy_reference": {
            "kind": prepared.potential.reference.kind,
            "why": prepared.potential.reference.why,
            "values_eV": {
                s: v
                for s, v in prepared.potential.reference.values.items()
                if any(s in f.atoms.symbols for f in prepared.parts["train"])
            },
        },
    }
