"""Skeletons: BVH files as sequences of continuous numbers, completed by ``lanpaint complete``."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.skeletons import _nearest
from tests.command import run_lanpaint

pytest.importorskip("pybvh")
from pybvh.rotations import euler_to_rotmat, rot6d_to_rotmat

FRAMES = 120
# Positions stand behind rotations in the root, joints have other orders of their angles, and an arm turns without end.
HIERARCHY = """HIERARCHY
ROOT Hips
{
\tOFFSET 0.0 0.0 0.0
\tCHANNELS 6 Zrotation Xrotation Yrotation Xposition Yposition Zposition
\tJOINT Spine
\t{
\t\tOFFSET 0.0  10.5 0.0
\t\tCHANNELS 3 Zrotation Xrotation Yrotation
\t\tJOINT Arm
\t\t{
\t\t\tOFFSET 1e1 0.0 0.0
\t\t\tCHANNELS 3 Xrotation Yrotation Zrotation
\t\t\tEnd Site
\t\t\t{
\t\t\t\tOFFSET 5.0 0.0 0.0
\t\t\t}
\t\t}
\t}
}
MOTION
Frames: 120
Frame Time: 0.033333
"""
ORDERS = ("ZXY", "ZXY", "XYZ")


def angles():
    """Euler angles in degrees, (T, 3, 3): hips and spine swing, the arm turns once in 40 frames, from −180 to 180."""
    t = np.arange(FRAMES) / 40 * 2 * np.pi
    turned = (np.degrees(t) + 180) % 360 - 180
    hips = np.stack([5 * np.sin(t), 3 * np.cos(t), 10 * np.sin(t)], 1)
    spine = np.stack([4 * np.cos(t), 20 * np.sin(t), 0 * t], 1)
    return np.stack([hips, spine, np.stack([turned, 10 * np.sin(t), 0 * t], 1)], 1)


def text(missing=(), end="\n", joints=(0, 1, 2)):
    """A BVH file in which some frames of some joints are missing; numbers in several spellings."""
    t, cells = np.arange(FRAMES), []
    turns = angles()
    for frame in t:
        row = [f"{value:.4f}" for value in turns[frame].ravel()]
        row[3:3] = [f"{3 * frame / 40:.5e}", "9e1", f"{0.5 * np.sin(frame / 3):+.3f}"]
        for joint in joints if frame in missing else ():
            begin = (0, 6, 9)[joint]
            row[begin : begin + 3] = ["nan"] * 3
            if joint == 0:
                row[3:6] = ["NaN"] * 3
        cells.append(" ".join(row[:6]) + "  " + "\t".join(row[6:]) + " ")
    return (HIERARCHY + "\n".join(cells) + "\n").replace("\n", end)


GAP = range(50, 70)


@pytest.fixture
def walk(tmp_path):
    path = tmp_path / "walk.bvh"
    path.write_text(text())
    return path


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *given: run_lanpaint(monkeypatch, capsys, "complete", "--quiet", *given)


def rotations(path):
    """Rotation matrices (T, J, 3, 3) in a file, from its text."""
    rows = np.array([line.split() for line in path.read_text().splitlines()[-FRAMES:]], dtype=float)
    turns = np.stack([rows[:, :3], rows[:, 6:9], rows[:, 9:]], 1)
    return euler_to_rotmat(turns, ORDERS, degrees=True)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_known_frames_and_the_hierarchy_come_back_character_for_character(run, tmp_path, end):
    (tmp_path / "gap.bvh").write_bytes(text(GAP, end).encode())
    status, printed, error = run("gap.bvh", "-o", "out.bvh", "--steps", 5)
    assert (status, error) == (0, "")
    assert printed == "out.bvh: 120×21, 16.7% completed\n"
    before, after = ((tmp_path / name).read_bytes().decode().split("\n") for name in ("gap.bvh", "out.bvh"))
    assert len(before) == len(after)
    first = len(HIERARCHY.splitlines())
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        if number - first in GAP:
            assert len(one.split()) == len(other.split())
            assert np.isfinite([float(cell) for cell in other.split()]).all()
        else:
            assert one == other


def test_the_ending_may_be_in_capitals(run, tmp_path):
    for name in ("gap.bvh", "GAP.BVH"):
        (tmp_path / name).write_text(text(GAP))
        assert run(name, "-o", f"out-{name}", "--steps", 2)[0] == 0
    assert (tmp_path / "out-GAP.BVH").read_bytes() == (tmp_path / "out-gap.bvh").read_bytes()
    (tmp_path / "TEXT.BVH").write_text("no skeleton")
    status, _, error = run("TEXT.BVH", "-o", "out.bvh")
    assert status == 1
    assert "cannot read TEXT.BVH as BVH" in error
    assert error.count("\n") == 1


def test_a_joint_that_is_missing_for_a_while_is_made_and_the_others_stay(run, tmp_path):
    (tmp_path / "gap.bvh").write_text(text(GAP, joints=(2,)))
    assert run("gap.bvh", "-o", "out.bvh", "--steps", 5)[0] == 0
    before, after = ((tmp_path / name).read_text().split("\n") for name in ("gap.bvh", "out.bvh"))
    for one, other in zip(before, after, strict=True):
        cells = zip(one.split(), other.split(), strict=True)
        assert all(a == b or (a == "nan" and np.isfinite(float(b))) for a, b in cells)


def test_a_gap_in_a_periodic_motion_is_filled_smoothly_and_better_than_by_a_line(run, walk, tmp_path):
    """The arm turns by 9° in a frame, through ±180°, where its angle jumps by 360° and the arm does not."""
    assert run(walk, "-o", "out.bvh", "--missing", "50:70")[0] == 0
    made, true = rotations(tmp_path / "out.bvh"), rotations(walk)
    off = np.abs(made - true)[50:70].max((1, 2, 3))
    line = np.abs(rotations(walk)[[49]] - true)[50:70].max()  # the arm held still: 2
    assert off.max() < 0.2 < line
    steps = np.linalg.norm(np.diff(made, axis=0), axis=(2, 3))
    assert steps[48:71].max() < 1.5 * steps[:48].max()
    rows = np.array([line.split() for line in (tmp_path / "out.bvh").read_text().splitlines()[-FRAMES:]], dtype=float)
    assert np.abs(np.diff(rows[49:70], axis=0)[:, [0, 1, 2, 6, 7, 8, 9, 10, 11]]).max() < 20  # degrees


def test_python_does_what_the_command_does(run, walk, tmp_path):
    skeleton = lp.read_skeleton(walk)
    values = skeleton.values.copy()
    values[50:70] = np.nan
    made = lp.complete_series(values, lp.FittedGaussian(values, skeleton.names))[0]
    assert made[~np.isnan(values)].tobytes() == skeleton.values[~np.isnan(values)].tobytes()
    skeleton.write(tmp_path / "python.bvh", made, ~np.isnan(values))
    run(walk, "-o", "command.bvh", "--missing", "50:70")
    assert (tmp_path / "python.bvh").read_bytes() == (tmp_path / "command.bvh").read_bytes()


def test_numbers_of_a_skeleton_are_its_rotations_and_do_not_jump(walk):
    skeleton = lp.read_skeleton(walk)
    assert skeleton.names[:4] == ("Hips.x", "Hips.y", "Hips.z", "Hips.r11")
    assert skeleton.names[-2:] == ("Arm.r22", "Arm.r32")
    np.testing.assert_allclose(skeleton.values[:, 0], 3 * np.arange(FRAMES) / 40, atol=1e-4)
    turns = skeleton.values[:, 3:].reshape(FRAMES, 3, 6)
    np.testing.assert_allclose(rot6d_to_rotmat(turns), euler_to_rotmat(angles(), ORDERS, degrees=True), atol=1e-4)
    assert np.abs(np.diff(angles(), axis=0)).max() > 300  # degrees, where a turn ends
    assert np.abs(np.diff(turns, axis=0)).max() < 0.2


@pytest.mark.parametrize("order", ["ZXY", "XYZ", "ZXZ", "YXY"])
def test_angles_nearest_to_others_are_of_the_same_rotation(order):
    generator = np.random.default_rng(0)
    for given, beside in generator.uniform(-720, 720, (50, 2, 3)):
        near = _nearest(given, beside, order)
        np.testing.assert_allclose(euler_to_rotmat(near, order, True), euler_to_rotmat(given, order, True), atol=1e-9)
        assert np.abs(near - beside).sum() <= np.abs(given - beside).sum() + 1e-9
        back = _nearest(near, given, order)
        np.testing.assert_allclose(back, given, atol=1e-9)


def test_whole_rotations_are_written_anew_or_not_at_all(walk, tmp_path):
    skeleton = lp.read_skeleton(walk)
    known = np.ones(skeleton.values.shape, dtype=bool)
    known[0, 4], known[1, 1] = False, False
    skeleton.write(tmp_path / "out.bvh", skeleton.values, known)
    one, other = (path.read_text().splitlines()[-FRAMES:] for path in (walk, tmp_path / "out.bvh"))
    same = [a == b for a, b in zip(one[0].split(), other[0].split(), strict=True)]
    assert same == [False] * 3 + [True] * 9
    assert [a == b for a, b in zip(one[1].split(), other[1].split(), strict=True)].count(False) == 1
    assert float(other[1].split()[4]) == 90
    assert one[2:] == other[2:]
    np.testing.assert_allclose(rotations(tmp_path / "out.bvh"), rotations(walk), atol=1e-6)


def frames_of(change):
    lines = text().split("\n")
    first = len(HIERARCHY.splitlines())
    lines[first] = change(lines[first])
    return "\n".join(lines)


BROKEN = {
    "text.bvh": "this is no BVH\n",
    "empty.bvh": "",
    "short.bvh": frames_of(lambda line: line.rsplit(maxsplit=1)[0]),
    "long.bvh": text().replace("Frames: 120", "Frames: 121"),
    "word.bvh": frames_of(lambda line: line.replace("9e1", "high")),
    "comment.bvh": frames_of(lambda line: f"{line} # the first"),
    "infinite.bvh": frames_of(lambda line: line.replace("9e1", "inf")),
    "partly.bvh": frames_of(lambda line: " ".join(["nan", *line.split()[1:]])),
    "hinge.bvh": text().replace("CHANNELS 3 Xrotation Yrotation Zrotation", "CHANNELS 1 Xrotation"),
    "nothing.bvh": text(range(FRAMES)),
}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["text.bvh"], "cannot read text.bvh as BVH: No ROOT"),
        (["empty.bvh"], "cannot read empty.bvh as BVH"),
        (["short.bvh"], "cannot read short.bvh as BVH: the number of columns changed"),
        (["long.bvh"], "declares 121 frames but file contains 120"),
        (["word.bvh"], "cannot read word.bvh as BVH"),
        (["comment.bvh"], "more on the lines of its frames than numbers"),
        (["infinite.bvh"], "has infinite numbers"),
        (["partly.bvh"], "some of the angles of Hips in frame 0 and others missing"),
        (["hinge.bvh"], "exactly 3 rotation channels, got 1"),
        (["nothing.bvh"], "all values are missing"),
        (["gone.bvh"], "gone.bvh is not there"),
        (["walk.bvh"], "nothing is missing"),
        (["walk.bvh", "--missing", "0:120"], "all values are missing"),
        (["walk.bvh", "--missing", "Leg"], "or a channel (Hips, Spine, Arm)"),
        (["walk.bvh", "--missing", "Arm"], "Arm.r11 has 0 known values; a model fitted"),
        (
            ["walk.bvh", "--missing", "1:9", "--model", "motion"],
            "the model has 6 channels (acc_x, acc_y, acc_z, gyro_x",
        ),
        (["walk.bvh", "--missing", "1:9", "--model", "digits"], "digits is a model of pictures; give motion, fitted"),
        (["walk.bvh", "--missing", "1:9", "--columns", "Hips.x"], "--columns"),
        (["walk.bvh", "--missing", "1:9", "-o", "out.csv"], "the output of a BVH file must end in .bvh"),
        (["walk.bvh", "--missing", "1:9", "-o", "walk.bvh"], "the output walk.bvh is the data itself"),
    ],
)
def test_what_cannot_be_completed_is_told_in_one_line(run, walk, tmp_path, given, told):
    for name, broken in BROKEN.items():
        (tmp_path / name).write_text(broken)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    status, printed, error = run(*(given if "-o" in given else [*given, "-o", "out.bvh"]))
    assert status != 0
    assert told in error
    assert error.count("\n") == 1
    assert not printed
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_missing_extra_is_told(monkeypatch, run, walk):
    monkeypatch.setitem(sys.modules, "pybvh", None)
    status, _, error = run(walk, "-o", "out.bvh", "--missing", "5:9")
    assert status != 0
    assert "pip install 'lanpaint[motion]'" in error
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of a small random network of the numbers of this skeleton."""
    from diffusers import DDIMScheduler, UNet1DModel

    folder = tmp_path_factory.mktemp("skeleton")
    torch.manual_seed(0)
    UNet1DModel(
        sample_size=32, in_channels=21, out_channels=21, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownResnetBlock1D",) * 2, up_block_types=("UpResnetBlock1D",) * 2,
        mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock", time_embedding_type="positional",
        use_timestep_embedding=True, act_fn="mish", norm_num_groups=4,
    ).save_pretrained(folder / "unet")  # fmt: skip
    DDIMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    return folder


def test_a_model_of_one_s_own_completes_a_whole_joint_and_a_model_of_another_skeleton_is_refused(run, walk, model):
    given = [walk, "--missing", "Arm", "--model", model, "--method", "replace", "--steps", 2]
    skeleton = lp.read_skeleton(walk)
    lp.Units(skeleton.names, (0.0,) * 21, (1.0,) * 21).save(model)
    assert run(*given, "-o", "out.bvh")[0] == 0
    made = [line.split() for line in Path("out.bvh").read_text().splitlines()[-FRAMES:]]
    true = [line.split() for line in walk.read_text().splitlines()[-FRAMES:]]
    assert [row[:9] for row in made] == [row[:9] for row in true]
    assert all(row[9:] != other[9:] for row, other in zip(made, true, strict=True))
    lp.Units(("Pelvis.x", *skeleton.names[1:]), (0.0,) * 21, (1.0,) * 21).save(model)
    status, _, error = run(*given, "-o", "again.bvh")
    assert status == 1
    assert "the model is of another skeleton: its channel 0 is Pelvis.x" in error
    assert error.count("\n") == 1
