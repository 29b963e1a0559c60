"""What a sampler inside a pipeline costs beside the network, where that does not depend on the machine."""

import functools

import pytest
import torch

import lanpaint as lp
from lanpaint import cost
from lanpaint.adapters import schedulers
from lanpaint.adapters.bridge.run import _compact
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


@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"])
@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_an_evaluation_takes_few_operators_beside_the_network(preset, scheduler):
    assert cost.bridge_operators(preset, scheduler) <= 25


def test_a_scheduler_is_asked_for_the_known_answer_once(monkeypatch):
    asked, check = [], schedulers.DiffusersSolver._check_known_answer
    monkeypatch.setattr(
        schedulers.DiffusersSolver, "_check_known_answer", lambda *given: asked.append(1) or check(*given)
    )
    monkeypatch.setattr(schedulers, "_PASSED", set())
    made = tiny.sd()
    for steps in (3, 3, 4):
        with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=2)) as bridge:
            made.pipe(num_inference_steps=steps, output_type="latent", **made.call)
        assert bridge.planned == bridge.evaluations == 3 * steps
    assert len(asked) == 2


def test_a_mask_has_one_entry_where_it_does_not_vary():
    rows = torch.tensor([True, False, True])
    mask = rows[:, None].expand(2, 4, 3, 5)
    assert _compact(mask).shape == (1, 1, 3, 1)
    assert torch.equal(_compact(mask).expand_as(mask), mask)
    varied = torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    assert _compact(varied).shape == varied.shape
