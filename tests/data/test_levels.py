from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tlpot.cli.main import app
from tlpot.config.data import Data
from tlpot.csp.dispersion import label_functional
from tlpot.data.check import check_frames
from tlpot.data.inspect import inspect_files
from tlpot.data.levels import FACTS, named_levels, other_levels, require_one_level
from tlpot.data.read import read_frames
from tlpot.data.vasp.tags import UNNAMED
from tlpot.data.write import write_frames
from tlpot.errors import TlpotError

PBE = {"engine": "GPAW 26.7.0", "xc": "PBE", "cutoff": 1100, "kpts": "2x2x3"}


@pytest.mark.parametrize(
    "other",
    [{"engine": "TBLite 0.8.0"}, {"xc": "PBE+D3(BJ)"}, {"cutoff": 700}, {"settings": "x=1"}],
    ids=str,
)
def test_levels_never_mix(water, other):
    frames = [water(0.01 * i, info=PBE, index=i) for i in range(3)]
    frames.append(water(0.05, info=PBE | other, index=3))
    with pytest.raises(TlpotError, match=r"water\.xyz#0 by .*water\.xyz#3 by") as caught:
        check_frames(frames, Data(files=["x"], bad_frames="drop"))
    assert str(next(iter(other.values()))).split()[0] in str(caught.value)


def test_inspection_says_so_and_shows_the_rest(water, tmp_path):
    frames = [water(0.01 * i, info=PBE | {"cutoff": 700 + i // 2}, index=i) for i in range(4)]
    files = [str(write_frames(tmp_path / "mixed.extxyz", frames))]
    found = inspect_files(files, None, Data(files=files))
    assert "2 different levels" in found.conflict
    assert len(found.checked.frames) == 4
    assert inspect_files([f"{files[0]}@:2"], None, Data(files=files)).conflict == ""


def test_versions_k_points_and_silence_pass(water):
    kinds = [PBE, PBE | {"engine": "GPAW 25.1"}, PBE | {"kpts": "1x1x1"}, {}, {"pressure": 1.0}]
    require_one_level([replace(water(), info=info) for info in kinds])


def test_our_own_urea_is_of_one_level():
    frames = read_frames("datasets/urea/urea.extxyz")
    assert frames[0].info["engine"]
    require_one_level(frames)


def outcars(tmp_path, outcar_text, *tags, **change):
    paths = [tmp_path / f"OUTCAR_{i}" for i in range(len(tags))]
    for i, (path, lines) in enumerate(zip(paths, tags, strict=True)):
        text = outcar_text(*[4] * (i + 1), tags=lines, **change)  # no two geometries alike
        path.write_text(text.replace("0.59000", f"0.59{i}00"))
    return [str(path) for path in paths]


MIXED = {
    "GGA": ("GGA = PE", "GGA = PS", "functional", "'PBE'", "'PBEsol'"),
    "METAGGA": ("GGA = PE", "GGA = PE\nMETAGGA = R2SCAN", "functional", "'PBE'", "'R2SCAN'"),
    "TPSS": ("GGA = PE", "METAGGA = TPSS\nMETAGGA=  F", "functional", "'PBE'", "'TPSS'"),
    "IVDW": ("", "IVDW = 12", "dispersion", "'none'", "'D3(BJ) (IVDW = 12)'"),
    "IVDW 11": ("IVDW = 11", "IVDW = 12", "dispersion", "D3(zero)", "D3(BJ)"),
    "vdW-DF": ("GGA = PE", "GGA = ML\nLUSE_VDW = T", "functional", "'PBE'", "'vdW-DF2'"),
    "hybrid": (
        "GGA = PE",
        "GGA = PE\nLHFCALC = T\nAEXX = 0.25\nHFSCREEN = 0.2",
        "functional",
        "'PBE'",
        "'HSE06'",
    ),
    "HFSCREEN": (
        "LHFCALC = T\nAEXX = 0.25\nHFSCREEN = 0.0",
        "LHFCALC = T\nAEXX = 0.25\nHFSCREEN = 0.2",
        "functional",
        "'PBE0'",
        "'HSE06'",
    ),
    "LDAU": (
        "LDAU = F",
        "LDAU = T\nLDAUTYPE = 2\nLDAUL = -1 1\nLDAUU = 0.0 4.0\nLDAUJ = 0.0 0.0",
        "Hubbard U of O",
        "'none'",
        "'l 1 U 4 J 0",
    ),
    "U": (
        "LDAU = T\nLDAUL = -1 1\nLDAUU = 0.0 3.0",
        "LDAU = T\nLDAUL = -1 1\nLDAUU = 0.0 4.0",
        "Hubbard U of O",
        "U 3",
        "U 4",
    ),
    "LIBXC": (
        "GGA = LI\nLIBXC1 = GGA_X_PBE\nLIBXC2 = GGA_C_PBE",
        "GGA = LI\nLIBXC1 = GGA_X_B88\nLIBXC2 = GGA_C_LYP",
        "functional",
        "'GGA_X_PBE+GGA_C_PBE'",
        "'GGA_X_B88+GGA_C_LYP'",
    ),
    "ISPIN": ("ISPIN = 1", "ISPIN = 2", "spin", "'ISPIN = 1'", "'ISPIN = 2'"),
}


@pytest.mark.parametrize("name", MIXED)
def test_outcars_of_different_levels_are_refused(tmp_path, outcar_text, name):
    one, two, what, *values = MIXED[name]
    files = outcars(tmp_path, outcar_text, one, two)
    frames = read_frames(files)
    with pytest.raises(TlpotError, match="different levels") as caught:
        check_frames(frames, Data(files=files))
    said = str(caught.value)
    assert f"The {what} is" in said
    assert all(value in said for value in values)
    assert "OUTCAR_0#0" in said
    assert "OUTCAR_1#0" in said
    again = write_frames(tmp_path / "both.extxyz", [frames[0], frames[-1]])
    with pytest.raises(TlpotError, match=what):  # what a frame says goes along with it
        require_one_level(read_frames(again))


def test_potentials_are_compared_by_element(tmp_path, outcar_text):
    files = outcars(tmp_path, outcar_text, "", "")
    text = Path(files[1]).read_text()
    Path(files[1]).write_text(text.replace("PAW_PBE O_s 07Sep2000", "PAW_PBE O_h 06Feb2004"))
    with pytest.raises(TlpotError, match=r"pseudopotential of O is 'PAW_PBE O_s'.*'PAW_PBE O_h'"):
        require_one_level(read_frames(files))
    Path(files[1]).write_text(text.replace("O_s 07Sep2000", "O_s 01Jan2010"))
    require_one_level(read_frames(files))


def test_an_outcar_that_echoes_no_tags_tells_by_its_energies(tmp_path, outcar_text):
    """VASP 5 prints IVDW and the dispersion energy only where it computes them."""
    without, with_d3, named = outcars(tmp_path, outcar_text, "", "", "")
    for path, more in ((with_d3, ""), (named, "  IVDW = 12\n")):
        text = Path(path).read_text()
        loop = " ------ aborting loop"
        Path(path).write_text(text.replace(loop, f"{more}  Edisp (eV)      -0.1\n{loop}"))
    found = [read_frames(path)[0].info["dispersion"] for path in (without, with_d3, named)]
    assert found == ["none", UNNAMED, "D3(BJ) (IVDW = 12)"]
    require_one_level(read_frames([with_d3, named]))
    with pytest.raises(TlpotError, match="dispersion is 'none'"):
        require_one_level(read_frames([without, with_d3]))


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        (("ENCUT  =  400.0 eV", "ENCUT  =  520.0 eV"), "ENCUT"),
        ((" generate k-points for:  2  2  2", " generate k-points for:  4  4  4"), "k-points"),
    ],
)
def test_cutoff_and_k_points_are_warned_of(tmp_path, outcar_text, tags, name):
    files = outcars(tmp_path, outcar_text, *tags)
    checked = check_frames(read_frames(files), Data(files=files, max_force=200))
    (remark,) = checked.remarks
    assert remark.startswith(f"{name} differs: ")
    assert "OUTCAR_0#0" in remark
    assert "OUTCAR_1#0" in remark


def test_outcar_and_vasprun_of_one_run_say_the_same(tlpot_data):
    folder = tlpot_data / "vasp_samples"
    pairs = [("OUTCAR.h2o.md.10", "vasprun.h2o.md.10.xml"), ("OUTCAR.Ge.vdw", "vasprun.Ge.vdw.xml")]
    for one, two in [*pairs, ("Ti-O-Ti-v6/OUTCAR", "Ti-O-Ti-v6/vasprun.xml")]:
        a, b = (read_frames(folder / name)[0].info for name in (one, two))
        assert {key: a[key] for key in FACTS if key in a} == {
            key: b[key] for key in FACTS if key in b
        }
        assert (a["xc"], a["dispersion"]) == ("PBE", "none")


def test_levels_of_the_x23_runs(tlpot_data):
    """What the folder names say, from the files alone."""
    wanted = {"vdW-DF2": ("vdW-DF2", "nonlocal (LUSE_VDW)"), "R2SCAN": ("R2SCAN", "none")}
    for path in tlpot_data.glob("x23/*/OUTCAR.*"):
        info = read_frames(path)[0].info
        assert (info["xc"], info["dispersion"]) == wanted[path.name.split(".")[-1]]
        assert (info["encut"], info["spin_treatment"]) == (1000.0, "ISPIN = 1")


def test_a_vasprun_without_ivdw_tells_by_its_energies(tmp_path, vasprun_text, outcar_text):
    """Older versions do not print the tag, and leave dispersion out of the electronic steps."""
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(4).replace("PAW_PBE O", "PAW_PBE O_s"))
    assert read_frames(path)[0].info["dispersion"] == UNNAMED
    with_d3, without = outcars(tmp_path, outcar_text, "IVDW = 12", "")
    require_one_level(read_frames([path, with_d3]))
    with pytest.raises(TlpotError, match="'unnamed' in the one and 'none' in the other"):
        require_one_level(read_frames([path, without]))
    path.write_text(vasprun_text(4).replace("-15.2", "-15.0"))
    assert read_frames(path)[0].info["dispersion"] == "none"
    path.write_text(vasprun_text(4, tags="IVDW = 0").replace("-15.2", "-15.0"))
    assert read_frames(path)[0].info["dispersion"] == "none"


def test_names_with_blanks_of_newer_versions(tmp_path, vasprun_text):
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun_text(4, tags="GGA     = PS\nISPIN  = 2"))
    info = read_frames(path)[0].info
    assert (info["xc"], info["spin_treatment"]) == ("PBEsol", "ISPIN = 2")


@pytest.mark.parametrize(
    ("one", "two", "refused"),
    [
        ({"functional": "PBE"}, {"xc": "pbe"}, False),
        ({"functional": "PBE"}, {"xc": "r2SCAN"}, True),
        ({"xc": "PBE-D3(BJ)"}, {"xc": "PBE", "dispersion": "D3BJ"}, False),
        ({"xc": "PBE-D3(BJ)"}, {"xc": "PBE"}, True),
        ({"level_of_theory": "wB97X/6-31G*"}, {"level_of_theory": "wB97X/def2-TZVP"}, True),
        ({"code": "CP2K", "xc": "PBE"}, {"program": "cp2k 2024.1", "xc": "PBE"}, False),
        ({"code": "CP2K", "xc": "PBE"}, {"program": "FHI-aims", "xc": "PBE"}, True),
        ({"dispersion": -0.12}, {"dispersion": -0.14}, False),
        ({"cutoff": 5.0}, {"cutoff": 6.0}, False),
        ({}, {"xc": "PBE"}, False),
    ],
)
def test_what_other_codes_state(water, one, two, refused):
    frames = [water(info=one), water(0.1, info=two, index=1)]
    if refused:
        with pytest.raises(TlpotError, match="different levels"):
            require_one_level(frames)
    else:
        require_one_level(frames)


def test_labels_of_tlpot_and_outcars_are_one_level_if_they_are(tmp_path, water, outcar_text):
    info = {"engine": "VASP 6.3.0", "settings": "ENCUT=520 GGA=PE IVDW=12 PREC=Accurate"}
    ours = water(info=info)
    same, other = outcars(tmp_path, outcar_text, "GGA = PE\nIVDW = 12", "GGA = PE")
    require_one_level([ours, *read_frames(same)])
    with pytest.raises(TlpotError, match="dispersion"):
        require_one_level([ours, *read_frames(other)])


def test_two_runs_in_one_file_may_differ(tmp_path, outcar_text):
    path = tmp_path / "OUTCAR"
    path.write_text(outcar_text(4, tags="GGA = PE") + outcar_text(4, tags="GGA = RP"))
    with pytest.raises(TlpotError, match="functional is 'PBE' in the one and 'RPBE'"):
        require_one_level(read_frames(path))


def test_inspection_shows_the_level(tmp_path, outcar_text):
    files = outcars(tmp_path, outcar_text, "GGA = PE\nIVDW = 12", "GGA = PE\nIVDW = 12")
    (line,) = inspect_files(files, None, Data(files=files)).levels
    assert "OUTCAR_0, OUTCAR_1: engine VASP 6.3.0, xc PBE, dispersion D3(BJ) (IVDW = 12)" in line


def test_a_model_remembers_and_evaluation_compares(water):
    trained = named_levels([water(info={"engine": "VASP 6", "xc": "PBE", "dispersion": "none"})])
    assert other_levels(trained, [water(info={"engine": "VASP 5", "xc": "pbe"})]) == []
    (remark,) = other_levels(trained, [water(info={"engine": "VASP 5", "xc": "RPBE"})])
    assert "'RPBE' in water.xyz#0 and was 'PBE'" in remark
    assert other_levels([], [water(info={"xc": "RPBE"})]) == []


@pytest.mark.parametrize("tags", ["GGA = PE\nIVDW = 12", "GGA = ML\nLUSE_VDW = T", "IVDW = 202"])
def test_a_model_of_such_outcars_takes_no_more_dispersion(tmp_path, outcar_text, tags):
    levels = named_levels(read_frames(outcars(tmp_path, outcar_text, tags, tags)))
    assert len(levels) == 1
    functional, why = label_functional({"training": {}, "data": {"levels": levels}})
    assert functional is None
    assert "dispersion" in why


def test_a_model_of_plain_outcars_names_their_functional(tmp_path, outcar_text):
    levels = named_levels(read_frames(outcars(tmp_path, outcar_text, "GGA = RE")))
    assert label_functional({"training": {}, "data": {"levels": levels}}) == ("revPBE", "")


@pytest.mark.parametrize("verb", ["validate", "finetune"])
def test_verbs_refuse_mixed_levels(tmp_path, outcar_text, verb):
    files = outcars(tmp_path, outcar_text, "IVDW = 12", "")
    config = tmp_path / "c.yaml"
    data = f"data: {{files: {files[:1]}, groups: [{{files: {files[1:]}}}], max_force: 200}}"
    config.write_text(f"{data}\nmodel: {{base: mini}}\noutput: {tmp_path / 'run'}\n")
    result = CliRunner().invoke(app, [verb, str(config)])
    assert isinstance(result.exception, TlpotError)
    assert "dispersion is 'D3(BJ) (IVDW = 12)' in the one and 'none'" in str(result.exception)
    assert not (tmp_path / "run" / "model.safetensors").exists()
