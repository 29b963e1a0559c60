"""Callbacks: when they are called, what they see, how they stop a run, and what those that ship do."""

import csv
import functools
import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from lanpaint import callbacks
from lanpaint.callbacks import Callback, DivergenceError, EarlyStop, LightningLogger, Stop, TrajectoryRecorder
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation
from lanpaint.samplers import LangevinPaint, LanPaint, Replace, Sampler
from lanpaint.score import CountedScore, Score
from lanpaint_toys.gaussian import Gaussian

TARGET = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
KNOWN = torch.tensor([False, True])
OBSERVATION = Observation(torch.tensor([[math.nan, 0.5], [math.nan, -1.0], [math.nan, 2.0]]), KNOWN)
HOOKS = ["on_run_start", "on_level_start", "on_inner_start", "on_inner_end", "on_level_end", "on_run_end"]
STEPS, INNER = 3, 2
PER_LEVEL = INNER + 1  # evaluations


def _seed(number=0):
    return torch.Generator().manual_seed(number)


def _run(*given, score=TARGET, sampler=LanPaint, seed=0, **options):
    """Samples and the number of evaluations that they took."""
    counted = CountedScore(score)
    options = {"steps": STEPS, "inner_steps": INNER, **options}
    x = sampler(counted, callbacks=given, **options)(OBSERVATION, generator=_seed(seed))
    return x, counted.evaluations


class _Log(Callback):
    """Notes every call, with a copy of x as it was."""

    def __init__(self, notes=None, name=None):
        self.calls = [] if notes is None else notes
        self.name = name

    def _note(self, hook, sampler, state):
        call = SimpleNamespace(hook=hook, name=self.name, sampler=sampler, state=state, x=state.x.clone())
        self.calls.append(call)


for _hook in HOOKS:
    setattr(_Log, _hook, lambda self, sampler, state, hook=_hook: self._note(hook, sampler, state))


class _At(Callback):
    """Does something at one call of one hook: number ``count``, from 0."""

    def __init__(self, hook, action, count=0):
        self.states = []

        def call(sampler, state):
            self.states.append(state)
            return action() if len(self.states) == count + 1 else None

        setattr(self, hook, call)


def _raise():
    raise LookupError("of the callback")


# --- Hooks and states


@pytest.mark.parametrize("inner_steps", [0, 1, 2])
def test_hooks_are_called_in_the_order_of_the_loop(inner_steps):
    log = _Log()
    _run(log, inner_steps=inner_steps)
    level = ["on_level_start", *["on_inner_start", "on_inner_end"] * inner_steps, "on_level_end"]
    assert [call.hook for call in log.calls] == ["on_run_start", *level * STEPS, "on_run_end"]


def test_callbacks_are_called_in_the_order_given():
    notes = []
    _run(_Log(notes, "first"), _Log(notes, "second"))
    assert [note.name for note in notes] == ["first", "second"] * (len(notes) // 2)
    assert [note.hook for note in notes[::2]] == [note.hook for note in notes[1::2]]


def test_states_say_where_the_run_stands():
    log = _Log()
    sampler = LanPaint(TARGET, steps=STEPS, inner_steps=INNER, callbacks=[log])
    start = torch.randn(3, 2, generator=_seed(1))
    result = sampler(OBSERVATION, generator=_seed(), start=start)
    assert all(call.sampler is sampler and call.state.observation is OBSERVATION for call in log.calls)

    begin, *inside, end = log.calls
    assert (begin.state.kind, begin.state.step, begin.state.inner) == ("start", 0, 0)
    assert torch.equal(begin.x, start)
    assert begin.state.prediction is begin.state.denoised is None
    assert (end.state.kind, end.state.step, end.state.inner) == ("outer", STEPS - 1, INNER)
    assert torch.equal(end.x, result)

    kinds = {"on_level_start": "start", "on_inner_start": "inner", "on_inner_end": "inner", "on_level_end": "outer"}
    expected = [
        (step, hook, inner)
        for step in range(STEPS)
        for hook, inner in [
            ("on_level_start", 0),
            *(pair for n in range(INNER) for pair in (("on_inner_start", n), ("on_inner_end", n + 1))),
            ("on_level_end", INNER),
        ]
    ]
    assert [(call.state.step, call.hook, call.state.inner) for call in inside] == expected
    for call in inside:
        state = call.state
        assert state.kind == kinds[call.hook]
        assert state.level is sampler.levels[state.step + (state.kind == "outer")]
        assert (state.memory.drift is not None) == (state.kind != "outer")
        assert (state.momentum is not None) == (state.kind != "outer")
        if state.kind == "inner":
            assert state.momentum.shape == (3, 2)
            assert state.memory.drift.level is state.level
            assert state.memory.dynamics.x.numel() == state.memory.solver.x.numel() == 0  # x is held once


def test_a_hook_sees_the_state_that_the_hook_before_left():
    log = _Log()
    _run(log)
    for before, after in itertools.pairwise(log.calls):
        if after.hook in ("on_inner_start", "on_run_end"):
            assert torch.equal(before.x, after.x)
        elif after.hook in ("on_inner_end", "on_level_end"):
            assert not torch.equal(before.x, after.x)
        elif before.hook == "on_level_end":  # entering a level moves the known part and nothing else
            moved = before.x != after.x
            assert bool(moved[:, 1].all())
            assert not bool(moved[:, 0].any())


def test_states_keep_what_the_run_goes_on_to_change():
    log = _Log()
    _run(log)
    assert all(torch.equal(call.x, call.state.x) for call in log.calls)


def test_denoised_of_a_state_is_that_of_its_last_evaluation_at_no_cost():
    log = _Log()
    _, evaluations = _run(log)
    assert evaluations == STEPS * PER_LEVEL
    for before, call in itertools.pairwise(log.calls):
        if call.hook == "on_level_end":  # the outer step was made from the state that the hook before it saw
            level = call.sampler.levels[call.state.step]
            torch.testing.assert_close(call.state.denoised, TARGET.denoised(before.x, level), rtol=0, atol=1e-6)
        elif call.hook == "on_inner_end":
            at = call.state.prediction.x
            torch.testing.assert_close(call.state.denoised, TARGET.denoised(at, call.state.level), rtol=0, atol=1e-6)


def test_a_dynamics_without_momentum_shows_none():
    log = _Log()
    _run(log, sampler=LangevinPaint)
    assert all(call.state.momentum is None for call in log.calls)


def test_states_cannot_be_changed():
    log = _Log()
    _run(log)
    with pytest.raises(AttributeError):
        log.calls[0].state.x = torch.zeros(3, 2)


def test_watching_does_not_change_the_result():
    assert torch.equal(_run(_Log(), TrajectoryRecorder())[0], _run()[0])


# --- Stopping

# Hook, call of it, evaluations made by then, inner steps of that level that Stop.LEVEL spares.
STOPS = [
    ("on_level_start", 1, PER_LEVEL, INNER),
    ("on_inner_start", INNER + 1, PER_LEVEL + 1, INNER - 1),
    ("on_inner_end", INNER, PER_LEVEL + 1, INNER - 1),
    ("on_inner_end", 2 * INNER - 1, PER_LEVEL + INNER, 0),
    ("on_level_end", 1, 2 * PER_LEVEL, 0),
]


@pytest.mark.parametrize(("hook", "count", "made", "_spared"), [("on_run_start", 0, 0, 0), *STOPS])
def test_stopped_run_returns_the_best_guess_at_one_more_evaluation(hook, count, made, _spared):
    stop, log = _At(hook, lambda: Stop.RUN, count), _Log()
    x, evaluations = _run(stop, log)
    assert evaluations == made + 1
    assert len(stop.states) == count + 1  # nothing came after it
    state = stop.states[-1]
    torch.testing.assert_close(x[:, 0], TARGET.denoised(state.x, state.level)[:, 0], rtol=0, atol=1e-6)
    assert torch.equal(x[:, 1], OBSERVATION.values[:, 1])
    assert [call.hook for call in log.calls[-2:]] == [hook, "on_run_end"]
    assert torch.equal(log.calls[-1].x, x)


@pytest.mark.parametrize(("hook", "count", "_made", "spared"), STOPS)
def test_stopped_level_spares_the_rest_of_its_inner_steps_and_nothing_else(hook, count, _made, spared):
    stop, log = _At(hook, lambda: Stop.LEVEL, count), _Log()
    x, evaluations = _run(stop, log)
    assert evaluations == STEPS * PER_LEVEL - spared
    inner = [sum(c.hook == "on_inner_end" and c.state.step == step for c in log.calls) for step in range(STEPS)]
    assert inner == [INNER, INNER - spared, INNER]
    assert torch.equal(x[:, 1], OBSERVATION.values[:, 1])


def test_stopping_a_level_before_there_is_one_does_nothing():
    x, evaluations = _run(_At("on_run_start", lambda: Stop.LEVEL))
    assert evaluations == STEPS * PER_LEVEL
    assert torch.equal(x, _run()[0])


@pytest.mark.parametrize(("hook", "count"), [("on_level_end", STEPS - 1), ("on_run_end", 0)])
def test_stopping_when_all_is_done_changes_nothing(hook, count):
    x, evaluations = _run(_At(hook, lambda: Stop.RUN, count))
    assert evaluations == STEPS * PER_LEVEL
    assert torch.equal(x, _run()[0])


@pytest.mark.parametrize("order", [1, -1])
def test_stopping_the_run_wins_over_stopping_the_level(order):
    both = [_At("on_inner_end", lambda: Stop.LEVEL), _At("on_inner_end", lambda: Stop.RUN)][::order]
    assert _run(*both)[1] == 2


def test_stopping_a_level_without_inner_steps_changes_nothing():
    stop = _At("on_level_start", lambda: Stop.LEVEL)
    plain, stopped = (Replace(TARGET, steps=4, callbacks=given) for given in ([], [stop]))
    assert torch.equal(plain(OBSERVATION, generator=_seed()), stopped(OBSERVATION, generator=_seed()))


# --- Errors


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("before", [True, False])
def test_error_of_a_callback_propagates_after_every_other_has_been_closed(hook, before):
    log, failing = _Log(), _At(hook, _raise)
    with pytest.raises(LookupError, match="of the callback"):
        _run(*((log, failing) if before else (failing, log)))
    hooks = [call.hook for call in log.calls]
    assert hooks[-1] == "on_run_end"
    assert hooks.count("on_run_end") == 1
    # The one in front of it in the list has seen the hook that failed, the one behind it has not.
    if hook != "on_run_end":
        assert (hook in hooks) == before


def test_error_of_the_score_closes_the_callbacks_at_the_last_good_moment():
    class Failing(Score):
        calls = 0

        def predict(self, x, level):
            self.calls += 1
            if self.calls == PER_LEVEL + 2:
                raise LookupError("of the score")
            return TARGET.predict(x, level)

    log = _Log()
    with pytest.raises(LookupError, match="of the score"):
        _run(log, score=Failing())
    before, end = log.calls[-2:]
    assert end.hook == "on_run_end"
    assert (end.state.step, end.state.kind, end.state.inner) == (1, "inner", 1)
    assert (before.hook, before.state.inner) == ("on_inner_start", 1)
    assert torch.equal(before.x, end.x)


def test_run_by_hand_that_is_left_early_closes_the_callbacks():
    log = _Log()
    run = LanPaint(TARGET, steps=STEPS, callbacks=[log]).iterate(OBSERVATION, generator=_seed())
    next(run), next(run)
    run.close()
    assert log.calls[-1].hook == "on_run_end"


# --- Divergence


def _nan_after(calls, rows=slice(None)):
    """The target's score, NaN from one evaluation on."""
    made = itertools.count()

    def score(x, level):
        value = TARGET.score(x, level)
        if next(made) >= calls:
            value[rows] = math.nan
        return value

    return score


@pytest.mark.parametrize(
    ("calls", "where", "reached"),
    [
        (0, "after inner step 1 of step 1 of 3,", 0),
        (PER_LEVEL + 1, "after inner step 2 of step 2 of 3,", 1),
        (PER_LEVEL + 2, "after step 2 of 3,", 2),
        (3 * PER_LEVEL - 1, "after step 3 of 3,", 3),
    ],
)
def test_divergence_is_told_with_its_step_its_level_and_a_remedy(calls, where, reached):
    sampler = LanPaint(_nan_after(calls), steps=3, inner_steps=INNER)
    with pytest.raises(DivergenceError) as diverged:
        sampler(OBSERVATION, generator=_seed())
    told = str(diverged.value)
    assert f"no longer finite {where} at {sampler.levels[reached]} (3 of 3 samples)" in told
    assert told.endswith("the model returned NaN or infinite values at a finite state; check its weights, or its dtype")


def test_early_stop_and_the_logger_see_past_entries_without_noise():
    clean = torch.tensor([[1.0, 1.0], [0.6, 0.8]]).unsqueeze(-1)  # (α, 1) and (α, σ): the first sample is clean
    levels = [NoiseLevel(clean[:, 0], torch.tensor([[0.0], [0.8]])), NoiseLevel(1.0, 0.0)]
    early, rows = EarlyStop(threshold=100.0, patience=1), []
    logger = LightningLogger(SimpleNamespace(log_metrics=lambda metrics, step: rows.append(metrics)))
    LanPaint(TARGET, levels=levels, inner_steps=6, callbacks=[early, logger])((2, 2), generator=_seed())
    assert early.inner_steps == [2]
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_divergence_counts_the_samples_that_it_concerns():
    with pytest.raises(DivergenceError, match=r"\(1 of 3 samples\)"):
        _run(score=_nan_after(2, rows=1))


def test_overflow_within_the_inner_loop_is_told_where_it_happens():
    # dτ overflows float32, and with it the first inner step.
    with pytest.raises(DivergenceError, match=r"no longer finite after inner step 1 of step 1 of 3, .*lower step_size"):
        _run(sampler=LangevinPaint, step_size=1e39, inner_steps=5)


def test_unstable_steps_are_told_long_before_they_overflow():
    # Euler–Maruyama on a unit Gaussian multiplies the state by 1 − dτ: by 1e3, then by 1e6, and the limit is 1e4.
    with pytest.raises(
        DivergenceError, match=r"grown to ten thousand .* after inner step 2 of step 1 of 3, .*lower step"
    ):
        _run(sampler=LangevinPaint, step_size=1e3, inner_steps=100)


def test_divergence_closes_the_callbacks_and_leaves_them_out_of_the_bad_moment():
    log = _Log()
    with pytest.raises(DivergenceError):
        _run(log, score=_nan_after(1))
    assert [call.hook for call in log.calls[-2:]] == ["on_inner_start", "on_run_end"]
    assert isinstance(DivergenceError("…"), FloatingPointError)


def test_divergence_on_another_device_is_checked_once_a_level():
    finite, sampler, level = (
        callbacks.FiniteCheck(),
        SimpleNamespace(remedy="", plan=SimpleNamespace(steps=1, scale=1.0)),
        NoiseLevel(1.0, 1.0),
    )
    elsewhere = SimpleNamespace(device=SimpleNamespace(type="cuda"))  # nothing else of x is looked at
    assert finite.on_inner_end(sampler, SimpleNamespace(x=elsewhere, kind="inner")) is None
    bad = {"x": torch.full((2, 2), math.nan), "observation": Observation.none((2, 2)), "prediction": None}
    with pytest.raises(DivergenceError):
        finite.on_level_end(sampler, SimpleNamespace(kind="outer", step=0, level=level, **bad))


def test_slow_growth_over_many_levels_is_found_too():
    # A factor of 20 a level: no level sees much of it, the run does.
    def score(x, level):
        return -20 * x / level.sigma

    with pytest.raises(DivergenceError, match="grown to ten thousand"):
        LangevinPaint(score, steps=20, inner_steps=1, step_size=1.1)(OBSERVATION, generator=_seed())


def test_a_stopped_run_whose_best_guess_is_not_finite_is_an_error():
    class AtOnce(Callback):
        def on_run_start(self, sampler, state):
            return Stop.RUN

    with pytest.raises(DivergenceError, match="no longer finite"):
        Sampler(lambda x, level: x * math.nan, callbacks=[AtOnce()])((2, 3))


def test_runs_stepped_by_hand_at_the_same_time_are_checked_each_on_its_own():
    sampler = LanPaint(TARGET, steps=3, inner_steps=1)
    large = Observation(OBSERVATION.values * 1e5, OBSERVATION.known)
    runs = [sampler.iterate(observation, generator=_seed()) for observation in (large, OBSERVATION)]
    for states in itertools.zip_longest(*runs):
        assert None not in states


# --- TrajectoryRecorder

_COPY = 3 * 2 * 4  # bytes of one (3, 2) tensor in float32


def _bytes(recorder):
    held = [record[name] for record in recorder.records for name in ("x", "denoised")]
    return sum(t.numel() * t.element_size() for t in held if t is not None)


@functools.cache
def _moments(steps, inner_steps):
    """All states of a run by (step, inner, kind), in order."""
    run = LanPaint(TARGET, steps=steps, inner_steps=inner_steps).iterate(OBSERVATION, generator=_seed())
    return {(m.step, m.inner, m.kind): (m.x.clone(), m.denoised, m.level) for m in run}


@pytest.mark.parametrize("copies", [4, 5, 6, 7, 16, 33, 10_000])
@pytest.mark.parametrize(("steps", "inner_steps"), [(1, 0), (7, 3), (20, 5)])
def test_recorder_stays_within_its_bound_and_covers_the_run_evenly(copies, steps, inner_steps):
    recorder = TrajectoryRecorder(max_bytes=copies * _COPY)
    held = []
    watch = _Log()
    watch._note = lambda *_: held.append(_bytes(recorder))
    _run(recorder, watch, steps=steps, inner_steps=inner_steps)
    assert max(held) <= copies * _COPY
    states = _moments(steps, inner_steps)
    order = {key: index for index, key in enumerate(states)}
    kept = [order[record["step"], record["inner"], record["kind"]] for record in recorder.records]
    assert kept[0] == 0
    assert kept[-1] == len(states) - 1
    gaps = [after - before for before, after in itertools.pairwise(kept)]
    stride = gaps[0]
    # Every stride-th, and the last; where the last replaced a record, the gap in front of it may be wider.
    assert all(gap == stride for gap in gaps[:-1])
    assert gaps[-1] <= 2 * stride
    if copies >= 2 * len(states):
        assert stride == 1


@pytest.mark.parametrize("copies", [7, 10_000])
def test_records_are_copies_of_what_was_there(copies):
    recorder = TrajectoryRecorder(max_bytes=copies * _COPY)
    _run(recorder, steps=4, inner_steps=2)
    states = _moments(4, 2)
    assert len(recorder.records) > 1
    for record in recorder.records:
        x, denoised, level = states[record["step"], record["inner"], record["kind"]]
        assert torch.equal(record["x"], x)
        assert float(record["level"].sigma) == float(level.sigma)
        assert record["denoised"] is denoised is None or torch.equal(record["denoised"], denoised)


def test_recorder_can_leave_out_inner_steps():
    recorder = TrajectoryRecorder(inner=False)
    _run(recorder)
    assert [record["kind"] for record in recorder.records] == ["start", "outer"] * STEPS


def test_recorder_forgets_the_run_before():
    recorder = TrajectoryRecorder()
    _run(recorder, steps=5)
    _run(recorder, steps=2, seed=1)
    assert len(recorder.records) == 2 * (INNER + 2)
    assert torch.equal(recorder.records[-1]["x"], _run(steps=2, seed=1)[0])


def test_recorder_keeps_what_a_run_that_fails_has_shown():
    recorder = TrajectoryRecorder()
    with pytest.raises(LookupError):
        _run(recorder, _At("on_inner_end", _raise, 3))
    assert recorder.records[-1]["step"] == 1
    assert recorder.records[-1]["inner"] == 2


@pytest.mark.parametrize("hook", ["on_level_start", "on_inner_end", "on_level_end"])
def test_last_record_of_a_stopped_run_is_its_result(hook):
    recorder = TrajectoryRecorder()
    x, _ = _run(recorder, _At(hook, lambda: Stop.RUN, 1))
    assert torch.equal(recorder.records[-1]["x"], x)


def test_bound_that_does_not_hold_two_records_is_refused():
    with pytest.raises(ValueError, match="two records of 48 bytes do not fit in max_bytes=95; raise it or record a"):
        _run(TrajectoryRecorder(max_bytes=4 * _COPY - 1))
    for bad in (0, -1):
        with pytest.raises(ValueError, match=f"max_bytes must be positive, got {bad}"):
            TrajectoryRecorder(max_bytes=bad)


# --- EarlyStop


class _Guess(Score):
    """x̂₀ is what a function of the number of the evaluation and the level says, whatever x is."""

    def __init__(self, guess):
        self.guess, self.calls = guess, 0

    def predict(self, x, level):
        self.calls += 1
        return Prediction(x, level, denoised=self.guess(self.calls, level) * torch.ones_like(x))


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_settled_guess_ends_the_inner_loop_after_the_patience(patience):
    stop = EarlyStop(patience=patience)
    _, evaluations = _run(stop, score=_Guess(lambda call, level: 0.3), inner_steps=10)
    # The first inner step has nothing to compare with; then each of `patience` is settled.
    assert stop.inner_steps == [1 + patience] * STEPS
    assert evaluations == STEPS * (1 + patience + 1)


def test_guess_that_never_settles_keeps_all_inner_steps():
    stop = EarlyStop()
    swinging = _Guess(lambda call, level: (-1) ** call * float(level.sigma / level.alpha))
    _, evaluations = _run(stop, score=swinging, inner_steps=6)
    assert stop.inner_steps == [6] * STEPS
    assert evaluations == STEPS * 7


@pytest.mark.parametrize(("swing", "settled"), [(0.9, True), (1.1, False)])
def test_threshold_is_in_units_of_the_noise(swing, settled):
    stop = EarlyStop(threshold=0.1)
    guess = _Guess(lambda call, level: (call % 2) * swing * 0.1 * float(level.sigma / level.alpha))
    _run(stop, score=guess, inner_steps=6)
    assert stop.inner_steps == [3 if settled else 6] * STEPS


def test_known_entries_do_not_keep_a_level_from_settling():
    class KnownSwings(_Guess):
        def predict(self, x, level):
            prediction = super().predict(x, level)
            prediction.denoised[:, 1] = (-1) ** self.calls * 10.0
            return prediction

    stop = EarlyStop()
    _run(stop, score=KnownSwings(lambda call, level: 0.3), inner_steps=6)
    assert stop.inner_steps == [3] * STEPS


def test_unsettled_step_starts_the_patience_anew():
    # Changes of x̂₀ at steps 2, 3, … of a level: none, large, none, none → settled at step 5.
    guesses = [0.0, 0.0, 100.0, 100.0, 100.0, 0.0]  # five inner and one outer evaluation
    stop = EarlyStop(patience=2)
    levels = [NoiseLevel(1.0, 2.0), NoiseLevel(1.0, 1.0), NoiseLevel(1.0, 0.0)]
    _run(stop, score=_Guess(lambda call, level: guesses[(call - 1) % 6]), inner_steps=9, levels=levels)
    assert stop.inner_steps == [5, 5]


@pytest.mark.parametrize("bad", [{"threshold": 0.0}, {"threshold": -1.0}, {"threshold": math.nan}, {"patience": 0}])
def test_settings_that_never_stop_or_always_do_are_refused(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"^{name} must be"):
        EarlyStop(**bad)


# --- LightningLogger


class _FakeLogger:
    def __init__(self):
        self.rows, self.saved_after = [], []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))

    def save(self):
        self.saved_after.append(len(self.rows))


def test_logger_gets_one_row_per_inner_and_outer_step_and_is_saved_at_the_end():
    logger = _FakeLogger()
    _run(LightningLogger(logger))
    assert [step for step, _ in logger.rows] == list(range(STEPS * PER_LEVEL))
    assert logger.saved_after == [STEPS * PER_LEVEL]
    where = [(metrics["outer_step"], metrics["inner_step"]) for _, metrics in logger.rows]
    assert where == [(step, inner) for step in range(STEPS) for inner in (*range(1, INNER + 1), INNER)]


def test_logged_figures_are_what_they_are_called():
    logger, log = _FakeLogger(), _Log()
    _run(LightningLogger(logger), log)
    states = [call.state for call in log.calls if call.hook in ("on_inner_end", "on_level_end")]
    previous = None
    for (_, metrics), state in zip(logger.rows, states, strict=True):
        alpha, sigma = float(state.level.alpha), float(state.level.sigma)
        assert metrics["sigma"] == pytest.approx(sigma / math.hypot(alpha, sigma))
        rms = math.sqrt(float((state.x.double() ** 2).mean()))
        assert metrics["rms"] == pytest.approx(rms / math.hypot(alpha, sigma), rel=1e-5)
        if previous is not None and sigma > 0:
            change = math.sqrt(float(((state.denoised - previous).double() ** 2).mean()))
            assert metrics["change"] == pytest.approx(change * alpha / sigma, rel=1e-5)
        else:
            assert "change" not in metrics
        previous = state.denoised


def test_logger_is_saved_after_an_error():
    logger = _FakeLogger()
    with pytest.raises(LookupError):
        _run(LightningLogger(logger), _At("on_inner_end", _raise, INNER))
    assert logger.saved_after == [PER_LEVEL + 1]


def test_what_is_no_logger_is_refused():
    with pytest.raises(TypeError, match=r"must be a Lightning logger with log_metrics\(\), got list"):
        LightningLogger([])


@pytest.mark.parametrize("fail", [False, True])
def test_csv_logger_of_lightning_holds_every_row_after_an_error_too(tmp_path, fail):
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.CSVLogger(tmp_path, name="run")
    if fail:
        with pytest.raises(LookupError):
            _run(LightningLogger(logger), _At("on_level_end", _raise, 1))
    else:
        _run(LightningLogger(logger))
    (file,) = tmp_path.rglob("metrics.csv")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    count = (2 if fail else STEPS) * PER_LEVEL
    assert [int(row["step"]) for row in rows] == list(range(count))
    assert all(math.isfinite(float(row["rms"])) for row in rows)
    assert rows[0]["change"] == ""
    assert float(rows[1]["change"]) > 0


# --- ProgressBar


class _FakeBar:
    def __init__(self, total, desc, leave):
        self.total, self.n, self.closed, self.seen = total, 0, False, []

    def update(self, count):
        self.n += count
        self.seen.append(self.n)

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    made = []

    def make(**options):
        made.append(_FakeBar(**options))
        return made[-1]

    monkeypatch.setattr("tqdm.tqdm", make)
    return made


def test_progress_bar_ticks_once_per_evaluation_to_its_end(bars):
    _run(progress=True)
    (bar,) = bars
    assert bar.total == STEPS * PER_LEVEL
    assert bar.closed
    assert bar.seen == list(range(1, bar.total + 1))


def test_progress_bar_reaches_its_end_when_levels_end_early(bars):
    _run(_At("on_inner_end", lambda: Stop.LEVEL), progress=True)
    (bar,) = bars
    assert bar.n == bar.total
    assert bar.closed
    assert bar.seen == sorted(bar.seen)


def test_progress_bar_is_closed_after_an_error(bars):
    with pytest.raises(LookupError):
        _run(_At("on_inner_end", _raise, 1), progress=True)
    assert bars[0].closed


@pytest.mark.parametrize("sampler", [LanPaint, LangevinPaint])
def test_real_progress_bar_goes_to_stderr_and_does_not_change_the_result(sampler, capsys):
    expected = _run(sampler=sampler)[0]
    capsys.readouterr()
    assert torch.equal(_run(sampler=sampler, progress=True)[0], expected)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "sampling" in shown.err


# --- Stepping by hand


@pytest.mark.parametrize("sampler", [LanPaint, LangevinPaint])
@pytest.mark.parametrize("inner_steps", [0, 2])
def test_stepping_by_hand_gives_what_a_call_gives(sampler, inner_steps):
    paint = sampler(TARGET, steps=STEPS, inner_steps=inner_steps)
    states = list(paint.iterate(OBSERVATION, generator=_seed(5)))
    assert torch.equal(states[-1].x, paint(OBSERVATION, generator=_seed(5)))
    level = ["start", *["inner"] * inner_steps, "outer"]
    assert [state.kind for state in states] == level * STEPS


def test_stepping_by_hand_takes_the_noise_itself():
    paint = LanPaint(TARGET, steps=STEPS, inner_steps=INNER)
    generator = _seed(5)
    states = list(paint.iterate(OBSERVATION, noise=lambda x: torch.randn(x.shape, generator=generator)))
    assert torch.equal(states[-1].x, paint(OBSERVATION, generator=_seed(5)))


def test_stepping_by_hand_makes_no_evaluation_ahead():
    counted = CountedScore(TARGET)
    run = LanPaint(counted, steps=STEPS, inner_steps=INNER).iterate(OBSERVATION, generator=_seed())
    made = [counted.evaluations for _ in run]
    assert made == [step * PER_LEVEL + n for step in range(STEPS) for n in (*range(INNER + 1), PER_LEVEL)]
