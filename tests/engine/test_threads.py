import threading

import pytest
import torch

from tlpot.config.run import Training
from tlpot.engine.threads import available, own_threads, shares, spread
from tlpot.training.loss import loss

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 7, 8])
@pytest.mark.parametrize("parts", [1, 3, 8, 20])
def test_shares_cover_everything_once(count, parts):
    found = shares(count, parts)
    assert [i for share in found for i in range(count)[share]] == list(range(count))
    assert len(found) == min(count, parts)
    sizes = [len(range(count)[share]) for share in found]
    assert max(sizes) - min(sizes) <= 1


def test_work_is_spread_in_order_and_without_gradients(threads):
    seen = set()
    meet = threading.Barrier(threads, timeout=10)

    def work(item: int) -> tuple[int, bool, int]:
        meet.wait()  # passes only if as many threads as torch has work at once
        seen.add(threading.get_ident())
        return item, torch.is_grad_enabled(), torch.get_num_threads()

    with own_threads():
        assert available(CPU) == threads
        assert spread(work, range(threads)) == [(i, False, 1) for i in range(threads)]
    assert len(seen) == threads


def test_torch_gets_its_threads_back(threads):
    with own_threads(), own_threads():
        assert torch.get_num_threads() == 1
    with pytest.raises(ZeroDivisionError), own_threads():
        spread(lambda item: 1 / item, [1, 0, 2])
    assert torch.get_num_threads() == threads
    assert available(CPU) == 1


def test_a_gpu_takes_all_work_at_once():
    with own_threads():
        assert available(torch.device("cuda")) == 1


@pytest.mark.parametrize("fit", ["mean", "members"])
def test_results_do_not_depend_on_the_number_of_threads(small, labelled, fit, threads):
    potential = small()
    settings = Training.model_validate({"fit": fit, "lambda": 0.4})
    batch = potential.batch(labelled(4))
    weights = list(potential.backbone.requires_grad_().parameters())

    def results() -> list[torch.Tensor]:
        output = potential.evaluate(batch, training=True, members=fit == "members")
        gradients = torch.autograd.grad(loss(output, batch, settings).total, weights)
        inferred = potential.evaluate(batch)
        return [inferred.energy, inferred.forces, inferred.virial, output.forces, *gradients]

    with own_threads():
        ours = results()
    torch.set_num_threads(1)
    for one, expected in zip(ours, results(), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-10)
