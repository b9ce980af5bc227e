"""The command line, continued: verbs that use a model. Parses, calls the library, prints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

app = typer.Typer()
out = Console()
err = Console(stderr=True)

Files = Annotated[list[str], typer.Argument(help="files, folders or globs")]
Model = Annotated[str, typer.Option(help="model file, run folder or base name")]


@app.command()
def rank(
    files: Files,
    model: Model = "ani2x",
    output: Annotated[Path, typer.Option(help="folder to write")] = Path("ranking"),
    relax: Annotated[bool, typer.Option(help="cell and positions, before energies")] = True,
    symmetry: Annotated[bool, typer.Option(help="keep space groups as they relax")] = False,
    pressure: Annotated[float, typer.Option(help="GPa, of relaxation and enthalpy")] = 0.0,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force of a relaxed one")] = 0.01,
    steps: Annotated[int, typer.Option(help="evaluations that a structure may take")] = 1000,
    molecule: Annotated[
        str | None, typer.Option(help="file with the molecules of one formula unit")
    ] = None,
    experimental: Annotated[
        list[str] | None, typer.Option(help="experimental structure to look for; may be repeated")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="CSV of reference energies: id, eV per cell")
    ] = None,
    dispersion: Annotated[
        Literal["d3", "d4"] | None, typer.Option(help="add D3(BJ) or D4 to a model without")
    ] = None,
    functional: Annotated[
        str | None, typer.Option(help="of the labels, where the model does not say")
    ] = None,
    duplicates: Annotated[bool, typer.Option(help="leave out copies of one crystal")] = True,
    phonons: Annotated[
        int, typer.Option(min=0, help="lowest so many structures get a free energy")
    ] = 0,
    temperature: Annotated[float, typer.Option(min=0, help="K, of the free energy")] = 298.15,
    supercell: Annotated[float, typer.Option(min=1, help="Å, its height for phonons")] = 10.0,
) -> None:
    """Rank crystals by lattice energy, with error bars.

    Writes ranking.csv, ranking.html, landscape.png, the structures in order (structures.extxyz,
    cif/) and ranking.json.

    For thousands of structures, `tlpot relax` them first (it goes on after an interruption) and
    rank relaxed.extxyz with --no-relax.
    """
    from tlpot import console
    from tlpot.config import parse_section
    from tlpot.csp.output import refuse_full, write_ranking
    from tlpot.csp.rank import Ranking, rank
    from tlpot.potential import load

    refuse_full(output)
    how = {"symmetry": symmetry, "pressure": pressure, "fmax": fmax, "steps": steps}
    given = {
        "relaxation": how if relax else None,
        "molecule": molecule,
        "experimental": experimental or [],
        "reference": reference,
        "dispersion": dispersion,
        "functional": functional,
        "duplicates": duplicates,
        "phonons": phonons,
        "temperature": temperature,
        "supercell": supercell,
    }
    settings = parse_section(Ranking, given, "tlpot rank")
    ranked = rank(files, load(model), settings, progress=partial(console.progress_bar, console=err))
    ranked.model = model
    write_ranking(ranked, output)
    console.print_ranking(ranked, output, out)
