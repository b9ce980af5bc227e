"""Opinions on files: measured patterns, or crystals whose ideal pattern is simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tlpot.config.sections import no_effect
from tlpot.data.compression import plain_name
from tlpot.data.crystals.read import read_crystals
from tlpot.errors import TlpotError
from tlpot.powder.classifier import Classifier, Opinion, load_classifier
from tlpot.powder.lines import lines_of
from tlpot.powder.pattern import Pattern, read_pattern

PATTERNS = (
    *(".xy", ".xye", ".qye", ".chi", ".qchi", ".csv", ".tsv", ".dat", ".txt", ".asc"),
    *(".fxye", ".gsa", ".gsas", ".ras"),
)
"""Endings of files that hold a pattern; any other holds crystals."""


def classify_files(
    files: Sequence[str], classifier: Classifier, wavelength: str | float | None = None
) -> dict[str, Opinion]:
    """Opinions by file, or by ``file#index`` of a crystal.

    Parameters
    ----------
    wavelength
        Of the measured patterns: Å, or a name; left out, what each says, or else CuKα.

    Raises
    ------
    TlpotError
        Naming the file or crystal that cannot be used; if there is a wavelength, and no pattern.
    """
    measured = {file for file in files if plain_name(Path(file)).endswith(PATTERNS)}
    if wavelength is not None and not measured:
        raise TlpotError(no_effect("wavelength", "without a measured pattern"))
    return {
        name: opinion
        for file in files
        for name, opinion in (
            [(file, classify_pattern(file, classifier, wavelength))]
            if file in measured
            else _crystals(file, classifier)
        )
    }


def classify_pattern(
    file: str | Path, classifier: Classifier, wavelength: str | float | None = None
) -> Opinion:
    """The opinion on one measured pattern; raises as `classify_files`."""
    pattern = read_pattern(file, wavelength)
    try:
        return classifier.classify(pattern)
    except TlpotError as error:
        raise TlpotError(f"{file}: {error}") from None


def _crystals(file: str, classifier: Classifier) -> Iterator[tuple[str, Opinion]]:
    frames, refused = read_crystals(file)
    if refused:
        raise TlpotError(f"{refused[0].name}: {refused[0].reason}")
    for frame in frames:
        try:
            yield frame.name, classifier.classify_lines(lines_of(frame.atoms))
        except TlpotError as error:
            raise TlpotError(f"{frame.name}: {error}") from None


def classify(
    pattern: Pattern | str | Path, model: str | Path, wavelength: str | float | None = None
) -> Opinion:
    """Which crystal system a powder pattern belongs to, and how surely.

    Parameters
    ----------
    pattern
        A measured pattern, or its file.
    model
        Model file or run folder of `tlpot xrd train`.
    wavelength
        Of the pattern: Å, or a name such as ``CuKa``, ``MoKa1``; left out, what the file says, or
        else CuKα.

    Raises
    ------
    TlpotError
        If one of the three cannot be used.
    """
    if isinstance(pattern, Pattern):
        return load_classifier(model).classify(pattern, wavelength)
    return classify_pattern(pattern, load_classifier(model), wavelength)
