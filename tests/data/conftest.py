"""Small VASP files in VASP's own layout, written by hand, and frames to check."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from tlpot.frames import Frame

OUTCAR_HEAD = """ vasp.6.3.0 20Jan22 complex
 POTCAR:    PAW_PBE H 15Jun2001
 POTCAR:    PAW_PBE O_s 07Sep2000
   TITEL  = PAW_PBE H 15Jun2001
   TITEL  = PAW_PBE O_s 07Sep2000
   number of dos      NEDOS =    301   number of ions     NIONS =      3
   ions per type =               2   1
   NELM   =     {nelm};   NELMIN=  2; NELMDL= -5     # of ELM steps
   ISIF   =      {isif}    stress and relaxation
   ZVAL   =   1.00  6.00
   NELECT =       {electrons}    total number of electrons
{tags}"""
OUTCAR_SCF = (
    " Iteration      {step}(   {scf})  ---\n free energy    TOTEN  =  -1.0 eV\n"
    " number of electron       8.0000000 magnetization {moment}\n"
)
OUTCAR_STEP = """ ------ aborting loop because EDIFF is reached ------
  in kB       1.00000     2.00000     3.00000     4.00000     5.00000     6.00000
      direct lattice vectors                 reciprocal lattice vectors
     4.000000000  0.000000000  0.000000000     0.250000000  0.000000000  0.000000000
     0.000000000  4.000000000  0.000000000     0.000000000  0.250000000  0.000000000
     0.000000000  0.000000000  4.000000000     0.000000000  0.000000000  0.250000000
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.00000      0.76000      {z:.5f}         0.000000      0.100000     -0.200000
      0.00000     -0.76000      0.59000        -0.100000-100.000000      0.200000
      0.00000      0.00000      0.00000         0.100000     99.900000      0.000000
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =       {free:.8f} eV

  energy  without entropy=      -14.00000000  energy(sigma->0) =      {zero:.8f}
"""


@pytest.fixture
def outcar_text() -> Callable[..., str]:
    """Builds an OUTCAR of water from the number of electronic steps of each ionic step."""

    def build(
        *scf_steps: int,
        nelm: int = 60,
        isif: int = 2,
        electrons: float = 8.0,
        tags: str = "",
        moment: str = "",
    ) -> str:
        lines = "".join(f"   {line}\n" for line in tags.splitlines())
        text = OUTCAR_HEAD.format(nelm=nelm, isif=isif, electrons=electrons, tags=lines)
        for step, count in enumerate(scf_steps, 1):
            for k in range(1, count + 1):
                text += OUTCAR_SCF.format(step=step, scf=k, moment=moment)
            text += OUTCAR_STEP.format(free=-14.2 - step, zero=-14.1 - step, z=0.59 + 0.01 * step)
        return text

    return build


XML_HEAD = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="version" type="string">6.3.0  </i></generator>
 <parameters>
  <separator name="electronic convergence"><i type="int" name="NELM">{nelm}</i></separator>
  <i name="NELECT">8.0</i><i name="PSTRESS">{pstress}</i><i type="int" name="ISIF">2</i>
  <i type="logical" name="ML_LMLFF"> {learned} </i><i type="int" name="NELM">1</i>
{tags} </parameters>
 <atominfo>
  <array name="atoms"><set>
   <rc><c>H </c><c>1</c></rc><rc><c>H </c><c>1</c></rc><rc><c>O </c><c>2</c></rc>
  </set></array>
  <array name="atomtypes"><set>
   <rc><c>2</c><c>H </c><c>1.0</c><c>1.0</c><c>PAW_PBE H</c></rc>
   <rc><c>1</c><c>O </c><c>16.0</c><c>6.0</c><c>PAW_PBE O</c></rc>
  </set></array>
 </atominfo>
"""
XML_SCF = """  <scstep><energy>
   <i name="e_fr_energy">-15.0</i><i name="e_0_energy">-14.9</i>
  </energy></scstep>
"""
XML_STEP = """  <structure>
   <crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
   <varray name="positions"><v>0 .19 .15</v><v>0 -.19 .15</v><v>0 0 0</v></varray>
  </structure>
  <varray name="forces"><v>0 .1 -.2</v><v>-.1 0 .2</v><v>.1 -.1 ********</v></varray>
  <varray name="stress"><v>1 4 6</v><v>4 2 5</v><v>6 5 3</v></varray>
  <energy><i name="e_fr_energy">-15.2</i><i name="e_0_energy">0.1</i></energy>
"""


@pytest.fixture
def vasprun_text() -> Callable[..., str]:
    """Builds a vasprun.xml of water from the number of electronic steps of each ionic step."""

    def build(
        *scf_steps: int,
        nelm: int = 60,
        pstress: float = 0.0,
        learned: str = "F",
        tags: str = "",
        more: str = "",
    ) -> str:
        """`tags` as ``NAME = value`` lines; `more` stands at the end of every step."""
        items = [line.split(" = ") for line in tags.splitlines()]
        lines = "".join(f'  <i name="{name}">{value}</i>\n' for name, value in items)
        text = XML_HEAD.format(nelm=nelm, pstress=pstress, learned=learned, tags=lines)
        for count in scf_steps:
            text += f" <calculation>\n{XML_SCF * count}{XML_STEP}{more} </calculation>\n"
        return text + "</modeling>\n"

    return build


@pytest.fixture
def water() -> Callable[..., Frame]:
    """Builds a good frame of water in a 4 Å box; `change` replaces fields of Frame."""

    def build(shift: float = 0.0, **change: object) -> Frame:
        positions = np.array([[0.0, 0.76, 0.59 + shift], [0.0, -0.76, 0.59], [0.0, 0.0, 0.0]])
        atoms = Atoms("H2O", positions, cell=[4.0, 4.0, 4.0], pbc=True)
        fields = dict(
            atoms=atoms, energy=-14.0 + shift, forces=np.full((3, 3), shift), source="water.xyz"
        )
        return Frame(**{**fields, **change})  # type: ignore[arg-type]

    return build
