import numpy as np
import pytest
from ase.build import bulk

from tlpot.errors import TlpotError
from tlpot.powder.pattern import Pattern, read_pattern, similarity, simulate
from tlpot.powder.pattern_file import read_scan

COPPER, MOLYBDENUM = 1.54184, 0.71073
ANGLES = np.arange(15.0, 80.0, 0.02)
CRYSTAL = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
IDEAL = simulate(CRYSTAL, ANGLES, COPPER)


def written(path, header, x, y=IDEAL.intensity, between=" ", form="{:.6f}{}{:.5f}".format):
    lines = [form(a, between, b) for a, b in zip(x, y, strict=True)]
    path.write_text("\n".join([header, *lines]), encoding="utf-8")
    return path


def likeness(pattern: Pattern) -> float:
    return similarity(simulate(CRYSTAL, pattern.angles, pattern.wavelength), pattern)


def q(angles, wavelength=COPPER):
    return 4 * np.pi * np.sin(np.radians(angles / 2)) / wavelength


@pytest.mark.parametrize(
    ("header", "x"),
    [
        ("# 2theta intensity", ANGLES),
        ("2-Theta Angle (Degrees)\nIntensity\n  3250", ANGLES),
        ("Pos. [°2Th.],Iobs [cts]", ANGLES),
        ("# --> 2th_rad I", np.radians(ANGLES)),
        ("# Q(A^-1) I", q(ANGLES)),
        ("Q / Å⁻¹; counts", q(ANGLES)),
        ("$Q$ ($\\AA^{-1}$)", q(ANGLES)),
        ("# sample: salt, 2nd batch\n# q_nm^-1 I", 10 * q(ANGLES)),
        ("Scattering vector q (1/nm)\tI", 10 * q(ANGLES)),
        ("d-spacing (Å)  I", 2 * np.pi / q(ANGLES)),
        ("# d (nm) I 2theta", 0.2 * np.pi / q(ANGLES)),
    ],
)
def test_the_header_says_what_the_first_column_is(tmp_path, header, x):
    pattern = read_pattern(written(tmp_path / "salt.xy", header, x))
    assert likeness(pattern) > 0.99


def test_the_endings_of_topas_say_q(tmp_path):
    assert likeness(read_pattern(written(tmp_path / "salt.qye", "", q(ANGLES)))) > 0.99


@pytest.mark.parametrize(
    ("header", "x", "said"),
    [
        ("", q(ANGLES), "does not look like 2θ"),
        ("", 2 * np.pi / q(ANGLES), "does not look like 2θ"),
        ("measured on Monday", q(ANGLES), "does not look like 2θ"),
        ("# Q I", 10 * q(ANGLES), "Q .* without a unit"),
        ("# theta (deg) counts", ANGLES / 2, "called '# theta .deg. counts'; convert it"),
        ("Energy (keV), I", ANGLES, "called 'Energy .keV., I'; convert it"),
        ("#x_units: q", q(ANGLES), "Q .* without a unit"),
    ],
)
def test_what_is_not_said_and_not_2theta_is_refused(tmp_path, header, x, said):
    with pytest.raises(TlpotError, match=rf"salt\.xy: .*{said}.*'# Q \(1/A\)'"):
        read_pattern(written(tmp_path / "salt.xy", header, x))


@pytest.mark.parametrize(
    ("header", "wavelength"),
    [
        ("# Wavelength: 7.1073e-11 m", MOLYBDENUM),
        ("K-Alpha1 wavelength,0.7093000\nAngle,Intensity", 0.7093),
        ("#lambda1: 0.71073", MOLYBDENUM),
        ("! λ = 0.71073 Å", MOLYBDENUM),
        ('*MEAS_COND_XG_WAVE_LENGTH_ALPHA1 "0.709300"', 0.7093),
        ("Wavelength Kα1: 0.70930 Å, Kα2: 0.71359 Å", 0.7093),
        ("# Energy: 17.4447 keV", MOLYBDENUM),
        ("# wavelength CuKa", COPPER),
    ],
)
def test_the_header_says_the_wavelength(tmp_path, header, wavelength):
    y = simulate(CRYSTAL, ANGLES, wavelength).intensity
    file = written(tmp_path / "salt.xy", header, ANGLES, y)
    pattern = read_pattern(file)
    assert pattern.wavelength == pytest.approx(wavelength, rel=1e-4)
    assert likeness(pattern) > 0.98


def test_another_wavelength_than_the_file_says_is_refused(tmp_path):
    file = written(tmp_path / "salt.xy", "# wavelength = 0.71073", ANGLES)
    assert read_pattern(file, "MoKa1").wavelength == pytest.approx(0.70930)
    with pytest.raises(TlpotError, match=r"salt\.xy: was measured at 0\.71073 Å.*not at CuKa"):
        read_pattern(file, "CuKa")


def test_columns_as_programs_write_them(tmp_path):
    plain = read_scan(written(tmp_path / "plain.xy", "", ANGLES))
    shapes = {
        "falling": (ANGLES[::-1], IDEAL.intensity[::-1], " ", "{:.6f}{}{:.5f}".format),
        "errors": (ANGLES, IDEAL.intensity, " ", "{:.6f}{}{:.5f} 1.0 ! good".format),
        "commas": (
            ANGLES,
            IDEAL.intensity,
            "\t",
            lambda *given: "{:.6f}{}{:.5f}".format(*given).replace(".", ","),
        ),
        "comma and blank": (ANGLES, IDEAL.intensity, ", ", "{:.6f}{}{:.5f}".format),
        "twice": (
            np.repeat(ANGLES, 2),
            np.repeat(IDEAL.intensity, 2) * np.tile([0.5, 1.5], len(ANGLES)),
            " ",
            "{:.6f}{}{:.5f}".format,
        ),
    }
    comments = "! 1 2 3\n' 4 5\n; 6 7\n# 8 9\n\n"
    for name, (x, y, between, form) in shapes.items():
        scan = read_scan(written(tmp_path / f"{name}.xy", comments, x, y, between, form))
        np.testing.assert_allclose(scan.position, plain.position, err_msg=name)
        np.testing.assert_allclose(scan.intensity, plain.intensity, atol=2e-5, err_msg=name)


def test_gsas_and_fullprof(tmp_path):
    n = len(ANGLES)
    bank = f"Salt\nBANK 1 {n} {n} CONS 1500.0 2.0 0 0 FXYE"
    gsas = read_scan(
        written(
            tmp_path / "salt.fxye", bank, 100 * ANGLES, between=" ", form="{:.4f}{}{:.5f} 1".format
        )
    )
    rows = [" ".join(f"{y:.5f}" for y in IDEAL.intensity[i : i + 10]) for i in range(0, n, 10)]
    (tmp_path / "salt.dat").write_text("\n".join([f"15.0 0.02 {ANGLES[-1]:.2f}", *rows]))
    fullprof = read_scan(tmp_path / "salt.dat")
    for scan in (gsas, fullprof):
        np.testing.assert_allclose(scan.position, ANGLES, atol=1e-6)
        np.testing.assert_allclose(scan.intensity, IDEAL.intensity, atol=1e-5)
    (tmp_path / "old.gsa").write_text(
        "Salt\nBANK 1 100 10 CONST 1500 2 0 0 STD\n" + "1 2 3 4\n" * 60
    )
    with pytest.raises(TlpotError, match=r"old\.gsa: is a GSAS file .* export it as \.xy"):
        read_scan(tmp_path / "old.gsa")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20.0 100\n", "holds 1 lines"),
        ("\n".join(f"{i / 10} 0" for i in range(400)), "has no peak"),
        ("\n".join(f"{i // 50},{i % 50:02d},100,0" for i in range(1000)), "position of their own"),
        ("# Q (1/A)\n" + "\n".join(f"{9 + i / 10} 5" for i in range(100)), "can be seen at 1.54"),
    ],
)
def test_what_is_no_pattern_is_named(tmp_path, text, said):
    (tmp_path / "bad.xy").write_text(text)
    with pytest.raises(TlpotError, match=rf"bad\.xy: .*{said}"):
        read_pattern(tmp_path / "bad.xy")


def test_a_gap_and_negative_intensities_are_no_peaks(tmp_path):
    kept = (ANGLES < 40) | (ANGLES > 43)
    y = (IDEAL.intensity - 0.01 * IDEAL.intensity.max())[kept]
    assert likeness(read_pattern(written(tmp_path / "gap.xy", "", ANGLES[kept], y))) > 0.98
