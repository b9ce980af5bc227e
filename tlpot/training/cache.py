"""Kept descriptors that several runs of one process share."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from tlpot.model.potential import Potential
from tlpot.structure.frames import Batch


class DescriptorCache:
    """Kept descriptors by geometry, for runs that share frames, elements and descriptor.

    Holds what was used last, up to the run's ``training.keep_gb``.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._held = 0

    def keep(
        self, potential: Potential, parts: Sequence[Sequence[Batch]], keep_gb: float
    ) -> list[list[Batch]]:
        """The batches of a run, with descriptors as far as `keep_gb` reaches, first come first.

        They are computed only if no run before has.
        """
        limit = left = keep_gb * 1e9
        found: list[list[Batch]] = []
        for part in parts:
            found.append([])
            for batch in part:
                kept = self._descriptors(potential, batch) if left > 0 else None
                left -= 0 if kept is None else kept.nbytes
                found[-1].append(replace(batch, kept=kept))
                while self._held > limit:
                    self._held -= self._kept.popitem(last=False)[1].nbytes
        return found

    def _descriptors(self, potential: Potential, batch: Batch) -> Any:
        geometry = hashlib.sha256()
        for tensor in (batch.numbers, batch.pairs, batch.vectors):
            geometry.update(tensor.cpu().numpy().tobytes())
        backbone = potential.backbone
        about = (backbone.kind, repr(backbone.describe()), backbone.dtype, potential.device)
        key = (geometry.digest(), *about)
        if key not in self._kept:
            kept = backbone.keep(batch).kept
            if kept is None:
                return None
            self._kept[key] = kept
            self._held += kept.nbytes
        self._kept.move_to_end(key)
        return self._kept[key]
