"""Where a run came from: data, split, versions, hardware."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from tlpot.data.levels import named_levels
from tlpot.training.manifest import about_file, about_frames, common_part

if TYPE_CHECKING:
    from tlpot.finetuning.prepare import Prepared


def make_manifest(
    prepared: Prepared, device: torch.device, processes: int, in_memory: bool = False
) -> dict[str, Any]:
    """What ``manifest.json`` holds before the first step."""
    frames = prepared.checked.frames
    everything = frames + [r.frame for r in prepared.checked.rejected]
    split = prepared.config.data.split
    base, replay = prepared.config.model.base, prepared.replay
    common = common_part(split, prepared.splits, prepared.layers, device, processes, base)
    common["inputs"]["replayed files"] = [about_file(p) for p in sorted({f.source for f in replay})]
    return common | {
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
        },
        "elements": {
            element: {"from": donor, "as": kind}
            for kind, donors in (
                ("alias", prepared.potential.backbone.donors),
                ("clone", prepared.potential.clones),
            )
            for element, donor in donors.items()
        },
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
