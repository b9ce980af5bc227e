import os
import subprocess
import sys

import pytest

from tlpot.errors import TlpotError
from tlpot.optional import require


def test_a_library_that_is_there_is_imported():
    assert require("json.decoder", "use", "reading").JSONDecoder


def test_a_missing_library_is_told_with_its_extra():
    with pytest.raises(TlpotError) as told:
        require("no_such_library.part", "use", "tlpot relax")
    assert str(told.value) == (
        "tlpot relax needs no_such_library, which is not installed; pip install 'tlpot[use]'"
    )


def test_a_broken_library_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TlpotError, match=r"import fails.*no_such_library") as told:
        require("broken_library", "label", "tlpot label")
    assert "not installed" not in str(told.value)
    assert "broken_library" not in sys.modules


def test_what_a_library_writes_as_it_is_imported_is_not_heard(tmp_path, monkeypatch, capfd):
    (tmp_path / "loud_library.py").write_text("import os\nos.write(2, b'no GPU')\n")
    monkeypatch.syspath_prepend(tmp_path)
    require("loud_library", "use", "tlpot relax")
    os.write(2, b"afterwards")
    assert capfd.readouterr() == ("", "afterwards")


def test_no_terminal_is_no_hindrance():
    """As under a scheduler that closes what it does not want."""
    code = "import os; os.close(2); from tlpot.optional import require; require('wave', 'use', 'x')"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
