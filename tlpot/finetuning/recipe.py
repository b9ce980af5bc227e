"""What the default recipe takes for the labels at hand, where the config leaves it open."""

from __future__ import annotations

from collections.abc import Sequence

from tlpot.config.run import Config
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame

MOST_FRAMES = 300
"""Training frames up to which rate and epochs are a landscape's; measured with some thirty."""


def settle_recipe(config: Config, base: Potential, train: Sequence[Frame]) -> tuple[Config, str]:
    """Settle rate and epochs by what the training frames teach.

    The default preset is made for frames with forces. Where most have an energy alone, or are
    minima whose forces are zero, as a landscape of crystals is, and no more than `MOST_FRAMES`,
    an ANI base is trained with `Training.by_data`: a frame says little there, and small steps do
    not get far in time. What the config states stays; with a rate stated, epochs do too.

    Returns
    -------
    The config, and what to say of it; an empty string: it is as it was.
    """
    settings = config.training
    computed = sum(frame.forces is not None and bool(frame.forces.any()) for frame in train)
    dense = 2 * computed >= len(train) or len(train) > MOST_FRAMES
    pretrained = config.model.init == "pretrained" and base.backbone.fine_angles is not None
    if dense or not pretrained or "learning_rate" in settings.model_fields_set:
        return config, ""
    chosen = {k: v for k, v in settings.by_data.items() if k not in settings.model_fields_set}
    if settings.warmup_epochs >= settings.by_data["epochs"]:
        chosen.pop("epochs", None)
    settings = settings.model_copy(update=chosen)
    words = " and ".join(f"{name}: {value:g}" for name, value in chosen.items())
    reason = (
        f"training.{words}, since only {computed} of {len(train)} training frames have forces that "
        "were computed (a landscape); state them to have others"
    )
    return config.model_copy(update={"training": settings}), reason
