"""Grids: what they expand to, what a results file keeps, and going on after a kill."""

import pytest

import lanpaint.bench.grid as grid_module
from lanpaint.bench import Results, Section, Settings, expand, read_grid, run, run_sections

SMALL = {"target": "gaussian", "samples": 20, "steps": 2, "inner_steps": 1}


def test_every_combination_once():
    runs = expand({**SMALL, "steps": [2, 3], "seed": [0, 1], "lam": [0, 8]})
    assert {(s.steps, s.seed, s.lam) for s in runs} == {(a, b, c) for a in (2, 3) for b in (0, 1) for c in (0, 8)}
    assert len(runs) == 8


def test_options_that_only_some_of_the_methods_have():
    runs = expand({**SMALL, "method": ["replace", "lanpaint"], "inner_steps": [1, 2], "step_size": [0.1, 0.2]})
    assert [(s.method, s.inner_steps, s.step_size) for s in runs] == [
        ("replace", None, None),
        *[("lanpaint", n, eta) for n in (1, 2) for eta in (0.1, 0.2)],
    ]
    with pytest.raises(ValueError, match="replace has no step_size"):
        expand({**SMALL, "method": "replace", "step_size": [0.1, 0.2]})


def test_defaults_are_filled_in_so_that_equal_runs_are_equal():
    (one,), (other,) = (
        expand({"target": "gaussian"}),
        expand({"target": "gauss2", "solver": "euler", "levels": "paper"}),
    )
    assert one == other
    assert (one.inner_steps, one.samples) == (5, 20_000)
    assert expand({"target": "gaussian", "preset": "fast"})[0].levels == "focused"


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ({"targets": "star"}, "unknown setting 'targets'; expected target, images or another option"),
        ({"steps": 3}, "target is missing among the settings steps; give one"),
        ({"target": "gaussian", "steps": []}, "steps is an empty list"),
        ({"target": "gaussian", "method": ["replace", "magic"]}, "unknown method 'magic'"),
    ],
)
def test_grids_that_say_nothing_sensible(grid, told):
    with pytest.raises(ValueError, match=told):
        expand(grid)


def test_yaml_has_sections(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "- {title: A, target: gaussian, steps: [2, 3], friction: .inf}\n"
        "- {target: star, method: replace}\n"
        "- {title: A, target: gaussian, preset: fast}\n"
    )
    sections = read_grid(path)
    assert [(s.title, len(s.runs)) for s in sections] == [("A", 3), ("study 2", 1)]
    assert sections[0].runs[0].friction == float("inf")
    path.write_text("target: gaussian\nstepsize: 3\n")
    with pytest.raises(ValueError, match=r"study.yaml: study 1: unknown setting 'stepsize'"):
        read_grid(path)
    for text, told in (("- [1]", "entry 1 must have settings"), ("a: [", "is not YAML"), ("", "must have settings")):
        path.write_text(text)
        with pytest.raises(ValueError, match=told):
            read_grid(path)
    with pytest.raises(ValueError, match="cannot read"):
        read_grid(tmp_path / "none.yaml")


def _counting(monkeypatch):
    made = []

    def counted(settings, **options):
        made.append(settings)
        return run(settings, **options)

    monkeypatch.setattr(grid_module, "run", counted)
    return made


@pytest.mark.parametrize(
    ("text", "given", "told"),
    [
        ("target: gaussian\nsteps: 2\nsteps: 3", {}, "line 1: steps is given twice; give a list of values"),
        ("- {target: gaussian}\n- {title: a, title: b, target: star}", {}, "line 2: title is given twice"),
        ("target: gaussian", {"model": "m"}, "has no target MODEL:MASK; leave the model out"),
        ("target: [gaussian, digits:box]", {"images": "i"}, "needs images; leave them out"),
        ("target: [gaussian, star]\nimages: i", {}, "the target gaussian takes no images; leave images out"),
        ("target: motion:last-half\nprompt: p", {}, "the target motion:last-half takes no prompt; leave prompt out"),
        (
            "target: star\nimages: i\nprompt: p",
            {},
            "the target star takes no images or prompt; leave images and prompt out",
        ),
        ("target: emoji-pixel:bxo\nimages: i", {}, "unknown target 'emoji-pixel:bxo'"),
    ],
)
def test_settings_of_a_file_that_would_be_lost_are_told(tmp_path, text, given, told):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_grid(path, **given)


def test_yaml_s_anchors_and_an_empty_title_are_right(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("- &first {target: gaussian, steps: 2, title: }\n- {<<: *first, steps: 3, title: B}\n- *first\n")
    assert [(s.title, [run.steps for run in s.runs]) for s in read_grid(path)] == [
        ("study 1", [2]),
        ("B", [3]),
        ("study 3", [2]),
    ]


def test_images_are_for_the_targets_of_a_grid_that_take_them(monkeypatch):
    monkeypatch.setattr(Settings, "complete", lambda self: self)  # without images that can be read
    runs = expand({"target": ["gaussian", "digits:box", "own:box"], "images": "i", "guidance_scale": 2.0})
    assert [(run.images, run.guidance_scale) for run in runs] == [(None, None), (None, 2.0), ("i", 2.0)]


def test_what_is_in_the_file_is_not_run_again(tmp_path, monkeypatch):
    made, path = _counting(monkeypatch), tmp_path / "r.jsonl"
    sections = [Section("A", tuple(expand({**SMALL, "seed": [0, 1, 2]})))]
    rows = run_sections(sections, Results(path))
    next(rows)
    next(rows)  # killed here
    assert path.read_text().count("\n") == len(made) == 2
    assert len(list(run_sections(sections, Results(path)))) == 3
    assert [s.seed for s in made] == [0, 1, 2]
    # In another section the row is there as well, and in no other version.
    (row,) = run_sections([Section("B", sections[0].runs[:1])], Results(path))
    assert row.section == "B"
    assert len(made) == 3
    assert [r.section for r in Results(path).rows] == ["A", "A", "A", "B"]
    path.write_text(path.read_text().replace('"lanpaint": "', '"lanpaint": "0.0.'))
    list(run_sections([Section("B", sections[0].runs[:1])], Results(path)))
    assert len(made) == 4


def test_a_line_cut_short_by_a_kill_is_written_anew(tmp_path, monkeypatch):
    made, path = _counting(monkeypatch), tmp_path / "r.jsonl"
    sections = [Section("A", tuple(expand({**SMALL, "seed": [0, 1]})))]
    list(run_sections(sections, Results(path)))
    whole = path.read_bytes()
    for cut in (1, 40, len(whole) // 2 - 10):
        path.write_bytes(whole[:-cut])
        before = len(made)
        list(run_sections(sections, Results(path)))
        rows = Results(path).rows
        assert [row.settings.seed for row in rows] == [0, 1], cut
        assert len(made) - before <= 1
    for nonsense in ("nonsense\n" + whole.decode(), "nonsense"):
        path.write_text(nonsense)
        with pytest.raises(ValueError, match=r"r.jsonl, line 1: .*; delete the line or give another file"):
            Results(path)
        assert path.read_text() == nonsense
    with pytest.raises(ValueError, match="is a folder"):
        Results(tmp_path)
    with pytest.raises(ValueError, match=r"cannot write .*: the folder .* does not exist"):  # before anything is run
        Results(tmp_path / "none" / "r.jsonl")


def test_planar_samples_are_kept_for_pictures(tmp_path):
    results = Results(tmp_path / "r.jsonl")
    section = Section("", (Settings(**SMALL).complete(), Settings("ar1", samples=20, steps=2).complete()))
    list(run_sections([section], results))
    assert Results(results.path).kept(section.runs[0]).shape == (20, 2)
    assert results.kept(section.runs[1]) is None


def test_notices_are_told_once():
    told = []
    list(
        run_sections(
            [Section("", tuple(expand({"target": "digits:box", "method": "replace", "steps": [1, 2], "samples": 10})))],
            notice=told.append,
        )
    )
    assert len(told) <= 1


def test_a_method_that_refuses_a_target_stops_no_other(monkeypatch):
    def refusing(settings, **options):
        if settings.method == "ddrm":
            raise ValueError("takes no such thing")
        return run(settings, **options)

    monkeypatch.setattr(grid_module, "run", refusing)
    runs, told = tuple(expand({**SMALL, "method": ["ddrm", "replace"]})), []
    rows = list(run_sections([Section("A", runs)], notice=told.append))
    assert [row.settings.method for row in rows] == ["replace"]
    assert told == ["ddrm refuses gaussian: takes no such thing"]
    with pytest.raises(ValueError, match="takes no such thing"):
        list(run_sections([Section("A", runs[:1])]))


def test_images_beside_a_study_are_for_the_models_that_come_without(tmp_path, monkeypatch):
    monkeypatch.setattr(Settings, "complete", lambda self: self)  # without images that can be read
    path = tmp_path / "study.yaml"
    path.write_text("- {target: 'digits:box'}\n- {target: gaussian}\n- {target: ['folder:box', gaussian]}\n")
    sections = read_grid(path, images="somewhere.zip")
    assert [run.images for section in sections for run in section.runs] == [None, None, "somewhere.zip", None]
