"""Two processes on one machine train what one does."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tlpot
from tlpot.training.loss import count_labels, loss
from tlpot.training.parallel import Team
from tlpot.training.run_folder import claimed


def test_shares_are_disjoint_and_complete(monkeypatch):
    batch, shares = list(range(7)), []
    for rank in range(3):
        team = Team()
        team.size, team.rank = 3, rank
        shares.append(team.share(batch))
    assert sorted(i for share in shares for i in share) == batch
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_everything_is_ones_own():
    team = Team()
    assert (team.size, team.writer, team.share([1, 2])) == (1, True, [1, 2])
    tensor = torch.ones(2)
    assert team.add([tensor])[0] is tensor


def test_whoever_comes_first_finds_the_folder_free(settings, tmp_path):
    """Before the writer has made it, and after."""
    team = Team()
    team.size, team.rank = 2, 1
    folder = tmp_path / "not" / "yet"
    for _ in range(2):
        with claimed(folder, tlpot.config.run.parse_config(settings), False, team) as resume:
            assert resume is False
        folder.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("fit", ["mean", "members"])
def test_losses_of_shares_add_up_to_the_whole(small, labelled, fit):
    potential = small()
    settings = tlpot.config.run.Training(fit=fit, stress_weight=0.5)
    batches = [potential.batch([frame]) for frame in labelled(7)]
    counts = count_labels(batches)

    def total(part):
        batch = type(part[0]).join(part)
        output = potential.evaluate(batch, members=fit == "members")
        return loss(output, batch, settings, counts if len(part) < 7 else None).total

    torch.testing.assert_close(total(batches[::2]) + total(batches[1::2]), total(batches))


def test_all_processes_take_the_writers_number(tmp_path):
    script = tmp_path / "agree.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tlpot.training.parallel import Team\n"
        "team = Team()\n"
        "heard = (team.agreed(team.rank + 0.25), team.agreed(None))\n"
        f"Path({str(tmp_path)!r}, f'heard-{{team.rank}}').write_text(repr(heard))\n"
        "team.wait()\n"
    )
    launch = ["torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run([sys.executable, "-m", *launch], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert (tmp_path / f"heard-{rank}").read_text() == "(0.25, None)"


def test_all_processes_take_the_writers_components(tmp_path):
    script = tmp_path / "settle.py"
    script.write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from ase.build import molecule\n"
        "from tlpot import load\n"
        "from tlpot.structure.frames import Frame\n"
        "from tlpot.config.run import Training\n"
        "from tlpot.training.parallel import Team\n"
        "from tlpot.training.potential import PotentialTask\n"
        "from tlpot.training.trainer import Trainer\n"
        "team, potential, settings = Team(), load('mini'), Training()\n"
        "backbone = potential.backbone = potential.backbone.with_fine_angles(components=4)\n"
        "backbone.requires_grad_()\n"
        "backbone.projection.fill_(team.rank + 1.0)\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "frame = Frame(molecule('H2O'), 0.0, np.zeros((3, 3)))\n"
        "task = PotentialTask(potential, [potential.batch([frame])], [], settings)\n"
        "Trainer(task, settings, folder, team)\n"
        "values = sorted(set(backbone.projection.flatten().tolist()))\n"
        "Path(folder, f'settled-{team.rank}').write_text(repr(values))\n"
        "team.wait()\n"
    )
    launch = ["torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run([sys.executable, "-m", *launch], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert (tmp_path / f"settled-{rank}").read_text() == "[1.0]"


def test_two_processes_train_what_one_does(settings, labelled, write_frames, tmp_path):
    bare = [replace(frame, forces=None, stress=None) for frame in labelled(22)[16:]]
    group = {"files": str(write_frames(tmp_path / "bare.extxyz", bare)), "weight": 0.5}
    settings["data"]["groups"] = [group | {"energy_only": True}]
    settings["training"] |= {"epochs": 4, "batch_size": 5, "stress_weight": 0.1}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings | {"output": str(tmp_path / "two")}))
    launch = ["torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "tlpot"]
    command = [sys.executable, "-m", *launch, "finetune", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("\n", "").count("report.html") == 1
    one = tlpot.finetune(settings | {"output": str(tmp_path / "one")})
    a, b = (load_file(folder / "model.safetensors") for folder in (one.folder, tmp_path / "two"))
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=0, atol=1e-5)
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())["finetuned"]["test"]
    for name in ("energy_rmse_meV_per_atom", "force_rmse_meV_per_A_component"):
        assert two[name] == pytest.approx(one.metrics["finetuned"]["test"][name], rel=1e-3)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["hardware"]["processes"] == 2
