"""`tlpot sample`: geometries to label, and those most worth it. Parses, calls, prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from tlpot.cli.options import described
from tlpot.cli.shared import (
    FRAMES,
    ConfigPath,
    FileNames,
    Overrides,
    RefusedTable,
    Verbs,
    Writes,
    err,
    out,
)
from tlpot.config.sections import Needs
from tlpot.errors import TlpotError
from tlpot.sampling.settings import Method, Proposal

if TYPE_CHECKING:
    from tlpot.structure.frames import Frame

NewFile = Annotated[
    Path, typer.Option(help=".extxyz file to write", show_default=False), Writes(FRAMES)
]
USES_MODEL = Needs(by=("committee", "farthest"))
FORMER = {
    "--method": ("propose", ["--method"]),
    "--pick": ("choose", ["--by"]),
    "--from": ("choose", ["--by", "doubt"]),
}
"""Options of the one verb that `tlpot sample` was: the verb for them now, and how it has them."""


class Sample(TyperGroup):
    """The verbs; what was written for the one verb before them still runs, and is told anew."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Words of the command line; click calls this."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = _in_new_words(args)
            err.print(
                f"note: tlpot sample has three verbs now; type: tlpot sample {shlex.join(args)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        return super().parse_args(ctx, args)


def _in_new_words(words: list[str]) -> list[str]:
    """The same command with its verb, `propose` or `choose`.

    Raises
    ------
    TlpotError
        If it is none that there was, or active learning, which takes a config now.
    """
    parts = [p for word in words for p in (word.split("=", 1) if word[:2] == "--" else [word])]
    verbs = {FORMER[part][0] for part in parts if part in FORMER}
    if "active" in parts:
        raise TlpotError(
            "active learning is a verb of its own: tlpot sample learn config.yaml "
            "data.files=FILES --output chosen.extxyz"
        )
    if len(verbs) != 1:
        raise TlpotError(
            f"{words[0]}: say what to do: tlpot sample propose FILES --method …, choose FILES "
            "--by … or learn CONFIG"
        )
    return [*verbs, *(new for part in parts for new in FORMER.get(part, ("", [part]))[1])]


app = Verbs(
    cls=Sample,
    no_args_is_help=True,
    help="Propose new geometries, choose those worth a label, or learn which are.",
)


@app.command(
    epilog="Example: tlpot sample propose POSCAR --method md --number 50 --output pool.extxyz"
)
@described(Proposal, *Proposal.model_fields)
def propose(
    *,
    files: FileNames,
    method: Method,
    number: int,
    output: NewFile,
    model: Annotated[
        str,
        typer.Option(help="model file, run folder or base name"),
        Needs(method=("modes", "md")),
    ] = "ani2x",
    temperature: float,
    strain: float,
    rattle: float,
    min_distance: float,
    seed: int,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda …"), Needs(method=("modes", "md"))
    ] = "auto",
) -> None:
    """Propose new geometries around those of FILES.

    --method modes relaxes, then displaces along normal modes (Γ-phonons); md takes Langevin
    snapshots; rattle strains and shifts at random, without a model.
    """
    from tlpot.cli import console
    from tlpot.data.read import read_frames
    from tlpot.model.load import load_onto
    from tlpot.sampling.propose import propose

    potential = None if method == "rattle" else load_onto(model, device)
    start = read_frames(files)
    with console.progress_bar("structures", len(start), err) as advance:
        frames = propose(
            start,
            method,
            number,
            potential,
            temperature=temperature,
            strain=strain,
            rattle=rattle,
            min_distance=min_distance,
            seed=seed,
            on_structure=advance,
        )
    _write(output, frames)


@app.command(
    epilog="Examples: tlpot sample choose pool.extxyz --by committee --model runs/mycrystal "
    "--number 20 --output next.extxyz; tlpot sample choose ranking --by doubt --number 10 "
    "--output next.extxyz"
)
def choose(
    *,
    files: Annotated[
        list[str], typer.Argument(help="files, folders or globs; doubt: a folder of tlpot rank")
    ],
    by: Annotated[
        Literal["committee", "farthest", "random", "doubt"],
        typer.Option(help="what makes a structure worth a label"),
    ],
    number: Annotated[int, typer.Option(min=1, help="how many")],
    output: NewFile,
    model: Annotated[
        str, typer.Option(help="model file, run folder or base name"), USES_MODEL
    ] = "ani2x",
    known: Annotated[
        list[str] | None,
        typer.Option(help="farthest: files of frames that you have already"),
        Needs(by="farthest"),
    ] = None,
    window: Annotated[
        float,
        typer.Option(min=0, help="doubt: kJ/mol above the lowest that matter"),
        Needs(by="doubt"),
    ] = 7.0,
    seed: Annotated[int, typer.Option(min=0, help="of random"), Needs(by="random")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …"), USES_MODEL] = "auto",
) -> None:
    """Choose the structures most worth a label, best first; their labels and notes are kept.

    --by committee takes the largest ensemble spread per √N; farthest the most unlike in
    descriptor space; random any; doubt, of a ranking, those whose order near the lowest is most
    in doubt: what to compute with DFT next.
    """
    from tlpot.cli.show.data import print_seen
    from tlpot.data.fingerprints import TrainingSet, overlap, teacher_lines
    from tlpot.data.read import read_frames
    from tlpot.model.load import load_onto
    from tlpot.sampling.choose import choose, choose_from_ranking

    if by == "doubt":
        if len(files) > 1:
            raise TlpotError(f"{' '.join(files)}: name one folder of tlpot rank")
        frames = choose_from_ranking(files[0], number, window)
    else:
        potential = None if by == "random" else load_onto(model, device)
        candidates, existing = read_frames(files), read_frames(known) if known else []
        if potential and by == "committee":
            seen = TrainingSet.of(potential.metadata).parts(candidates)
            print_seen(teacher_lines(overlap(seen), "structures"), err)
        frames = choose(candidates, by, number, potential, seed, existing)
    _write(output, frames)


@app.command(epilog="Example: tlpot sample learn config.yaml --output chosen.extxyz")
def learn(
    config: ConfigPath,
    overrides: Overrides = None,
    *,
    output: NewFile,
    number: Annotated[
        int | None, typer.Option(min=1, help="at most so many frames", show_default=False)
    ] = None,
    refused: RefusedTable = None,
) -> None:
    """Choose labelled frames by training: add the worst, round by round, until few are in doubt.

    The config is that of tlpot finetune; its section active says when a frame is in doubt, and
    training goes to its output.
    """
    from tlpot.cli import console
    from tlpot.config.run import load_config

    _write(output, console.show_learning(load_config(config, overrides), number, refused, err))


def _write(output: Path, frames: list[Frame]) -> None:
    from tlpot.data.write import write_frames

    write_frames(output, frames)
    out.print(f"wrote {len(frames)} frames to {output}")
