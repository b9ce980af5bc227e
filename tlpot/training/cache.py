"""Kept descriptors that several runs of one process share."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from tlpot.frames import Batch
from tlpot.potential import Potential


class DescriptorCache:
    """Kept descriptors by geometry, for runs that share frames, elements and descriptor.

    Holds what was used last, up to the run's ``training.keep_gb``.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._held = 0

    def keep(self, potential: Potential, batch: Batch, keep_gb: float) -> Batch:
        """The batch with its descriptors, computed only if no run before has."""
        geometry = hashlib.sha256()
        for tensor in (batch.numbers, batch.pairs, batch.vectors):
            geometry.update(tensor.cpu().numpy().tobytes())
        backbone = potential.backbone
        about = (backbone.kind, repr(backbone.describe()), backbone.dtype, potential.device)
        key = (geometry.digest(), *about)
        if key not in self._kept:
            kept = backbone.keep(batch).kept
            if kept is None:
                return batch
            self._kept[key] = kept
            self._held += self._kept[key].nbytes
        self._kept.move_to_end(key)
        while self._held > keep_gb * 1e9:
            self._held -= self._kept.popitem(last=False)[1].nbytes
        return replace(batch, kept=self._kept.get(key))
