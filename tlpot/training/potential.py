"""Fine-tuning a potential on frames, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn

from tlpot.config.run import Training
from tlpot.engine.threads import own_threads
from tlpot.model.potential import Potential
from tlpot.structure.frames import Batch
from tlpot.training.curvature import Partner, paired
from tlpot.training.epoch import Epochs
from tlpot.training.loss import MemberLabels, count_labels, expected_counts, has_slopes, loss

VALIDATED_AT_ONCE = 16


class PotentialTask:
    """A potential's trainable weights, and the loss of its energies and forces.

    Parameters
    ----------
    potential
        Its backbone's parameters with ``requires_grad`` are trained.
    train, validation
        One `Batch` a frame.
    settings
        The config's ``training`` section.
    replay
        Frames that the base labelled itself, mixed in as ``settings.replay`` says.
    base
        Whose members with ``fit: members`` label those for themselves: labelled with their mean,
        where they are far apart, all members would be drawn together and away from the base.
    partners
        Of training frames that are displaced, what their forces are compared with as
        ``settings.curvature`` says (`tlpot.training.curvature.find_partners`).
    """

    terms: tuple[str, ...] = ("loss", "force_loss", "energy_loss")

    def __init__(
        self,
        potential: Potential,
        train: Sequence[Batch],
        validation: Sequence[Batch],
        settings: Training,
        replay: Sequence[Batch] = (),
        base: Potential | None = None,
        partners: Mapping[int, Partner] | None = None,
    ) -> None:
        self.potential, self.settings = potential, settings
        self.partners = partners or {}
        share = settings.replay.share if settings.replay else 0.0
        self.epochs = Epochs(train, settings.weighting, len(replay), share)
        self.train, self.validation = [*train, *replay], [*validation]
        self.own: list[MemberLabels] = []
        if base is not None and settings.fit == "members":
            self.own = [_member_labels(base, batch) for batch in replay]
        self.counts = expected_counts(self.train, self.epochs.expected())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As `Task.named_parameters`."""
        return self.potential.backbone.named_parameters()

    def settled(self) -> list[Tensor]:
        """As `Task.settled`."""
        return list(self.potential.backbone.settled().values())

    def threads(self) -> AbstractContextManager[None]:
        """As `Task.threads`."""
        return own_threads()

    def __len__(self) -> int:
        return len(self.epochs)

    def order(self, generator: torch.Generator) -> list[int]:
        """As `Task.order`."""
        return self.epochs.order(generator)

    def step(self, mine: Sequence[int], chosen: Sequence[int]) -> dict[str, Tensor]:
        """As `Task.step`."""
        extra, pairs = paired(mine, self.partners)
        silent = [replace(self.train[i], weight=0.0 * self.train[i].weight) for i in extra]
        batch = Batch.join([*(self.train[i] for i in mine), *silent])
        counts = [sum(kind) for kind in zip(*[self.counts[i] for i in chosen], strict=True)]
        output = self.potential.evaluate(
            batch, training=True, members=self.settings.fit == "members", slope=has_slopes(counts)
        )
        own = self._own([*mine, *extra])
        terms = loss(output, batch, self.settings, counts, own, pairs)
        return dict(zip(self.terms, (terms.total, terms.forces, terms.energy), strict=True))

    def _own(self, items: Sequence[int]) -> MemberLabels | None:
        """Labels of each member, where any is for one member alone."""
        first = len(self.train) - len(self.own)
        if not self.own or max(items) < first:
            return None
        members = len(self.own[0].energy)
        return MemberLabels.join(
            [
                self.own[i - first]
                if i >= first
                else MemberLabels(*(x.expand(members, *x.shape) for x in (f.energy, f.forces)))
                for i in items
                for f in [self.train[i]]
            ]
        )

    def validate(self) -> dict[str, float | int | None]:
        """As `Task.validate`."""
        names = ("loss", "energy_rmse_meV_per_atom", "force_rmse_meV_per_A_component")
        if not self.validation:
            return dict.fromkeys(names)
        judge = self.settings.model_copy(update={"fit": "mean"})
        counts = count_labels(self.validation)
        sums = torch.zeros(3, dtype=torch.float64)
        for start in range(0, len(self.validation), VALIDATED_AT_ONCE):
            batch = Batch.join(self.validation[start : start + VALIDATED_AT_ONCE])
            output = self.potential.evaluate(batch, slope=has_slopes(counts))
            terms = loss(output, batch, judge, counts)
            sums += torch.stack([terms.total, terms.energy, terms.forces]).cpu()
        total, energy, forces = sums.tolist()
        force_rmse = 1e3 * (forces / 3) ** 0.5 if counts[0] else None
        return dict(zip(names, (total, 1e3 * energy**0.5, force_rmse), strict=True))


def _member_labels(base: Potential, batch: Batch) -> MemberLabels:
    """What each member of `base` says, where the batch has a label."""
    output = base.evaluate(batch, members=True)
    pairs = ((output.energy, batch.energy), (output.forces, batch.forces))
    return MemberLabels(*(torch.where(label.isnan(), label, own) for own, label in pairs))
