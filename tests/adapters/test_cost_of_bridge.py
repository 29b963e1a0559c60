"""What a sampler inside a pipeline costs beside the network, where that does not depend on the machine."""

import functools

import pytest
import torch

import lanpaint as lp
from lanpaint import cost
from lanpaint.adapters import bridge as bridges
from lanpaint.adapters import schedulers
from lanpaint.adapters.bridge import _compact
from lanpaint.dynamics.oscillator import Oscillator, OscillatorStrang
from tests.adapters import tiny


def test_a_run_needs_few_latents_beside_the_pipeline_s_own():
    # One prediction kept from the step before is three latents more.
    assert cost.bridge_memory(steps=3, inner_steps=3, side=32) < 12


def test_time_is_counted_for_as_many_calls_as_there_are():
    took = cost.bridge_time(steps=2, inner_steps=1, repeats=1, width=8)
    assert took.calls == 4
    assert took.ratio > 1
    assert took.untouched > 1


def test_coefficients_of_few_numbers_are_solved_once_and_others_each_time():
    friction, damping, time = (torch.tensor(numbers).double() for numbers in ([225.0, 9.0], [1.0, 9.0], [0.1, 0.2]))
    for kind in (Oscillator, OscillatorStrang):
        first = kind.solve(friction, damping, time)
        assert kind.solve(friction.clone(), damping.clone(), time.clone()) is first
        other = kind.solve(friction, damping, time + 1e-9)
        assert other is not first
        assert not torch.equal(other.position_momentum, first.position_momentum)
        many = kind.solve(*(numbers.repeat(40) for numbers in (friction, damping, time)))
        assert torch.equal(many.position_momentum[:2], first.position_momentum)
        assert kind.solve(friction[:1], damping[:1], time[:1]).position_momentum.shape == (1,)


def test_coefficients_that_have_a_gradient_keep_it():
    time = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    Oscillator.solve(torch.tensor([225.0]), torch.tensor([1.0]), time).position_momentum.sum().backward()
    assert time.grad is not None


@pytest.fixture
def counted(monkeypatch):
    """How often a plan was made by a dry run, and a scheduler asked for the known answer."""
    counts = {"plans": 0, "answers": 0}
    asked, check = bridges._Run._asked_levels, schedulers.DiffusersSolver._check_known_answer

    def planning(*args, **kwargs):
        counts["plans"] += 1
        return asked(*args, **kwargs)

    def checking(*args):
        counts["answers"] += 1
        return check(*args)

    monkeypatch.setattr(bridges._Run, "_asked_levels", planning)
    monkeypatch.setattr(schedulers.DiffusersSolver, "_check_known_answer", checking)
    monkeypatch.setattr(bridges, "_PLANS", {})
    monkeypatch.setattr(schedulers, "_PASSED", set())
    return counts


def _run(made, steps=3, **options):
    with lp.bridged(made.pipe, functools.partial(lp.LanPaint, **options)) as bridge:
        call = {"num_inference_steps": steps, "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
        latents = made.pipe(**call, **made.call)[0]
    return latents, bridge.planned


def test_a_second_picture_finds_its_plan_made_and_other_settings_make_another(counted):
    made = tiny.sd()
    first, planned = _run(made, inner_steps=2)
    second, again = _run(made, inner_steps=2)
    assert torch.equal(first, second)
    assert (planned, again) == (9, 9)
    assert counted == {"plans": 1, "answers": 1}
    assert _run(made, inner_steps=1)[1] == 6
    assert _run(made, inner_steps=2, step_size=0.1)[1] == 9
    assert _run(made, inner_steps=2, dynamics=lp.Langevin())[1] == 9
    assert _run(made, steps=4, inner_steps=2)[1] == 12
    assert counted == {"plans": 5, "answers": 2}


def test_one_s_own_sampler_is_planned_each_time(counted):
    class Mine(lp.LanPaint):
        pass

    made = tiny.sd()
    for _ in range(2):
        with lp.bridged(made.pipe, Mine):
            made.pipe(num_inference_steps=2, output_type="latent", **made.call)
    assert counted["plans"] == 4  # two trials each


def test_a_mask_has_one_entry_where_it_does_not_vary():
    rows = torch.tensor([True, False, True])
    mask = rows[:, None].expand(2, 4, 3, 5)
    assert _compact(mask).shape == (1, 1, 3, 1)
    assert torch.equal(_compact(mask).expand_as(mask), mask)
    varied = torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    assert _compact(varied).shape == varied.shape
