"""Bad and strange command lines: pictures, masks, numbers, flags, outputs, models, results and grids."""

import contextlib
import io
import itertools
import os
import random
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from tests.hostile import files
from tests.hostile.files import BAD, EITHER, GOOD, File
from tests.hostile.judge import LOST, MISLEADING, SILENT, TRACEBACK, Counts, changes, complaint, snapshot

COUNT = 1020
_PATIENCE = 20  # seconds; what takes longer has hung


@dataclass(frozen=True)
class Painting:
    """What a run that paints must leave in its output.

    Attributes:
        output: Name of the output.
        pixels: The picture, (H, W, 3).
        painted: Where it is painted, (H, W).
        pad: Pixels added at the left, top, right and bottom.
        feather: Width of the seam, in which known pixels may change.
        frames: Number of frames.
    """

    output: str
    pixels: np.ndarray
    painted: np.ndarray
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    feather: int = 0

    def complaint(self, folder: Path) -> str | None:
        """What is wrong with the output, or None."""
        path = folder / self.output
        if not path.exists():
            return f"success, and there is no {self.output}"
        with Image.open(path) as image:
            made = np.array(image.convert("RGB"))
        left, top, right, bottom = self.pad
        painted = np.pad(self.painted, ((top, bottom), (left, right)), constant_values=True)
        expected = np.pad(self.pixels, ((top, bottom), (left, right), (0, 0)))
        if made.shape != expected.shape:
            return f"size {made.shape} for {expected.shape}"
        known = ~_near(painted, self.feather)
        if path.suffix.lower() in (".jpg", ".jpeg", ".webp"):  # with loss: near is all that can be
            return None if np.abs(made.astype(int) - expected)[known].mean() < 30 else "the known part is another"
        wrong = (made != expected).any(-1) & known
        if wrong.any():
            return f"{wrong.sum()} of {known.sum()} known pixels changed"
        same = (made == expected).all(-1) & painted
        if painted.sum() >= 4 and same.sum() > painted.sum() / 2:
            return f"{same.sum()} of {painted.sum()} pixels of the hole were not painted"
        return None


def _near(painted: np.ndarray, reach: int) -> np.ndarray:
    """Pixels within ``reach`` of a painted one."""
    grown = painted.copy()
    for _ in range(min(reach, max(painted.shape))):
        grown[1:] |= grown[:-1].copy()
        grown[:-1] |= grown[1:].copy()
        grown[:, 1:] |= grown[:, :-1].copy()
        grown[:, :-1] |= grown[:, 1:].copy()
    return grown


Patch = Callable[[], Any]


@dataclass(frozen=True)
class Command:
    """A command line and what may come of it.

    Attributes:
        group: The kind of input.
        arguments: The arguments.
        verdict: GOOD if it must succeed, BAD if it must be refused, EITHER if both are honest.
        about: Words of which a refusal must have one.
        writes: Names of the files that a success may write or replace.
        painting: What a success must have painted.
        patch: A context that the command runs in, such as a full disk.
    """

    group: str
    arguments: tuple[str, ...]
    verdict: str
    about: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    painting: Painting | None = None
    patch: Patch = field(default=contextlib.nullcontext)

    @property
    def is_patched(self) -> bool:
        """Whether the command runs in a context of this process."""
        return self.patch is not contextlib.nullcontext

    @property
    def name(self) -> str:
        """The command line as text."""
        return f"[{self.group}] " + " ".join(
            argument if len(argument) < 60 else argument[:60] + "…" for argument in self.arguments
        )


@contextlib.contextmanager
def full_disk(room: int = 40) -> Iterator[None]:
    """Files cannot grow beyond ``room`` bytes: the system refuses the write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def without(*modules: str) -> Patch:
    """The context in which these modules are not installed."""
    return lambda: mock.patch.dict(sys.modules, dict.fromkeys(modules))


@contextlib.contextmanager
def interrupted_at(target: str, after: int = 0) -> Iterator[None]:
    """Ctrl-C when a function is called for the time number ``after`` (from 0)."""
    calls = itertools.count()
    owner, _, name = target.rpartition(".")
    from pydoc import locate

    original = getattr(locate(owner), name)

    def interrupting(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == after:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with mock.patch(target, interrupting):
        yield


@contextlib.contextmanager
def failing_write(kind: str) -> Iterator[None]:
    """Pictures are written in part, and then the disk is full."""
    original = Image.Image.save

    def save(self: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device") if kind == "full" else KeyboardInterrupt

    with mock.patch.object(Image.Image, "save", save):
        yield
    assert original is Image.Image.save


class Hangs(BaseException):
    """A run takes too long."""


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Raise :class:`Hangs` after so many seconds."""

    def stop(*_: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_process(arguments: tuple[str, ...], folder: Path) -> tuple[Any, str, str]:
    """Exit status, stdout and stderr of the command line, run in this process."""
    from lanpaint.cli import main

    out, err = io.StringIO(), io.StringIO()
    here, paths = Path.cwd(), list(sys.path)
    os.chdir(folder)
    status: Any = 0
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(sys, "argv", ["lanpaint", *arguments]))
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            stack.enter_context(mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True))
            stack.enter_context(warnings.catch_warnings())
            main()
    except SystemExit as stop:
        status = stop.code or 0
    except Hangs:
        status = "hangs"
    except BaseException as error:
        status = f"{type(error).__name__} leaves main: {error}"
    finally:
        os.chdir(here)
        sys.path[:] = paths
    return status, out.getvalue(), err.getvalue()


def judge(command: Command, status: Any, err: str, before: dict[str, str], folder: Path, counts: Counts) -> None:
    """Count one command's outcome."""
    after = snapshot(folder)
    allowed = command.writes if status == 0 else ()
    lost, new = changes(before, after, allowed)
    lost = [name for name in lost if not _same_content(folder / name, folder.parent / "kept" / name)]
    if lost:
        counts.fault(LOST, command.name, f"status {status}; lost or changed: {lost}")
    elif new:
        counts.fault(LOST, command.name, f"status {status}; left behind: {new}; {err}")
    if status == 0:
        if command.verdict == BAD:
            counts.fault(SILENT, command.name, f"success, of an input that cannot be right; {err}")
        elif command.painting is not None and (wrong := command.painting.complaint(folder)):
            counts.fault(SILENT, command.name, f"{wrong}; {err}")
        stray = [line for line in err.splitlines() if "Warning" in line or "Traceback" in line]
        if stray:
            counts.fault(MISLEADING, command.name, f"a success prints {stray[0]}")
        return
    counts.refused += 1
    lines = [line for line in err.strip().splitlines() if line.strip() and not line.startswith("note: ")]
    text = "\n".join(lines)
    if status == "hangs":
        counts.fault(MISLEADING, command.name, f"takes more than {_PATIENCE} s")
    elif isinstance(status, str) or "Traceback" in err or ("shows where" in err and command.group != "one's own"):
        counts.fault(TRACEBACK, command.name, f"{status}; {err}")
    elif status == 2 and lines and lines[0].startswith("Usage: "):
        if wrong := complaint(lines[-1], command.about):
            counts.fault(MISLEADING, command.name, wrong)
    elif status == 130:
        if len(lines) != 1:
            counts.fault(MISLEADING, command.name, f"an interruption prints {len(lines)} lines: {err}")
    elif status != 1:
        counts.fault(MISLEADING, command.name, f"exit status {status}; {err}")
    elif not text.startswith("lanpaint: "):
        counts.fault(MISLEADING, command.name, f"more than the error: {text}")
    elif command.verdict == GOOD:
        counts.fault(MISLEADING, command.name, f"refused, and it is right: {text}")
    elif wrong := complaint(text.removeprefix("lanpaint: "), command.about):
        counts.fault(MISLEADING, command.name, wrong)


def _same_content(path: Path, kept: Path) -> bool:
    return path.is_file() and kept.is_file() and path.read_bytes() == kept.read_bytes()


def restore(folder: Path, kept: Path, before: dict[str, str]) -> dict[str, str]:
    """Put back what a command has changed in the folder. What is there then."""
    after = snapshot(folder)
    for name in sorted(set(before) | set(after), key=len, reverse=True):
        if before.get(name) == after.get(name):
            continue
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name, what in sorted(before.items()):
        path = folder / name
        if not os.path.lexists(path):
            if what == "folder":
                path.mkdir()
            else:
                shutil.copy2(kept / name, path, follow_symlinks=False)
    if not (folder / "hard.png").samefile(folder / "d-plain.png"):
        (folder / "hard.png").unlink()
        os.link(folder / "d-plain.png", folder / "hard.png")
    return snapshot(folder)


def run_all(folder: Path, seed: int, chosen: Callable[[Command], bool] = lambda command: True) -> Counts:
    """Run :data:`COUNT` command lines in ``folder``, and count how they fare."""
    here, kept, models = folder / "here", folder / "kept", folder / "models"
    here.mkdir()
    models.mkdir()
    commands = generate(here, seed)
    shutil.copytree(here, kept, symlinks=True)
    counts, before, models_before = Counts("command line"), snapshot(here), snapshot(models)
    for command in commands:
        if not chosen(command):
            continue
        start = time.perf_counter()
        with contextlib.ExitStack() as stack:
            stack.enter_context(patience(_PATIENCE))
            stack.enter_context(command.patch())
            status, _, err = in_process(command.arguments, here)
        seconds = time.perf_counter() - start
        judge(command, status, err, before, here, counts)
        if snapshot(here) != before:
            before = restore(here, kept, before)
        counts.inputs += 1
        counts.groups[command.group] += 1
        if os.environ.get("HOSTILE_VERBOSE"):
            print(f"{seconds:5.1f} s  {status}  {command.name}  {err.strip()[-300:]}", flush=True)
    lost, new = changes(models_before, snapshot(models), ())
    if lost or new:
        counts.fault(LOST, "the folders of models", f"{lost} {new}")
    return counts


# The inputs


def _words(name: str, value: str) -> tuple[str, ...]:
    return tuple(word for word in (name, name.replace("-", "_"), value) if word)


def generate(folder: Path, seed: int) -> list[Command]:
    """:data:`COUNT` commands, and the files that they name, in ``folder``."""
    rng = random.Random(seed)
    small = files.pictures(folder, 8, False, "d-")
    small_masks = files.masks(folder, 8, "d-")
    photos = files.pictures(folder, 16, True, "c-")
    photo_masks = files.masks(folder, 16, "c-")
    wrong_models = files.models(folder.parent / "models")
    rows, grids = files.rows(folder), files.grids(folder)
    (folder / "empty-folder").mkdir()
    (folder / "broken.zip").write_bytes(b"PK\3\4 nothing")
    (folder / "x-1.png").write_bytes((folder / "d-plain.png").read_bytes())
    (folder / "old.png").write_bytes((folder / "d-mask.png").read_bytes())
    (folder / "hostile_parts.py").write_text(PARTS)
    for link, target in {"same.png": "d-plain.png", "same-mask.png": "d-mask.png", "to-old.png": "old.png"}.items():
        os.symlink(target, folder / link)
    os.link(folder / "d-plain.png", folder / "hard.png")
    shutil.copy(folder / "rows-good.jsonl", folder / "figures.csv")
    shutil.copy(folder / "rows-good.jsonl", folder / "report.md")
    steps = [files.ROW | {"settings": files.ROW["settings"] | {"steps": n}} for n in (2, 3)]
    import json

    (folder / "runs.png").write_text("".join(json.dumps(row) + "\n" for row in steps))
    shutil.copy(folder / "runs.png", folder / "runs-samples.png")
    shutil.copy(folder / "runs.png", folder / "r.png")
    os.symlink("r.png", folder / "r-link.png")

    made: list[Command] = []
    for group in (
        _numbers(small, small_masks),
        _pipeline_flags(photos, photo_masks),
        _combinations(),
        _outputs(folder, small),
        _models(wrong_models),
        _results(rows, grids),
        _others(),
        _further_commands(folder),
        _of_ones_own(small),
    ):
        made += group
    pairs = [
        *(_paint("picture", picture, None if picture.painted is not None else small_masks[0]) for picture in small),
        *(_paint("mask", small[0], mask) for mask in small_masks),
        *(
            _paint("picture", picture, None if picture.painted is not None else photo_masks[0], "sd")
            for picture in photos
        ),
        *(_paint("mask", photos[0], mask, "sd") for mask in photo_masks),
    ]
    room = COUNT - len(made)
    if len(pairs) > room:
        raise AssertionError(f"{len(made)} commands and {len(pairs)} pictures are more than {COUNT}")
    made += pairs
    while len(made) < COUNT:  # strange with strange
        made.append(
            _paint("picture and mask", rng.choice(small), rng.choice([None, *small_masks]), pad=rng.choice(_PADS))
        )
    return made


_PADS = [(0, 0, 0, 0), (0, 0, 0, 0), (4, 0, 0, 4), (0, 8, 0, 0), (1, 0, 0, 0)]
QUICK = ("--steps", "2", "--inner-steps", "1", "-q")


def _paint(
    group: str,
    picture: File,
    mask: File | None,
    model: str = "digits",
    further: tuple[str, ...] = (),
    verdict: str | None = None,
    about: tuple[str, ...] = (),
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    feather: int = 0,
    output: str = "out.png",
    writes: tuple[str, ...] = (),
    patch: Patch = contextlib.nullcontext,
) -> Command:
    """``lanpaint inpaint`` on a picture and a mask, with what must come of it."""
    painted = picture.painted if mask is None else mask.painted
    fits = picture.pixels is not None and (painted is None or painted.shape == picture.pixels.shape[:2])
    verdicts = [picture.verdict, *([] if mask is None else [mask.verdict])]
    if verdict is None:
        nothing = mask is None and picture.painted is None and not any(pad)
        odd = picture.pixels is not None and (
            (picture.pixels.shape[0] + pad[1] + pad[3]) % 2 or (picture.pixels.shape[1] + pad[0] + pad[2]) % 2
        )
        verdict = (
            BAD
            if BAD in verdicts or nothing or (not fits and EITHER not in verdicts)
            else EITHER
            if EITHER in verdicts or odd or any(pad)
            else GOOD
        )
    if mask is not None and mask.name.endswith("mask-black.png") and any(pad):
        verdict = EITHER
    names = [picture.name, *([] if mask is None else [mask.name])]
    painting = None
    if fits and picture.pixels is not None and (painted is not None or any(pad)):
        hole = np.zeros(picture.pixels.shape[:2], dtype=bool) if painted is None else painted
        painting = Painting(output, picture.pixels, hole, pad, feather)
    padding = ("--pad", ",".join(map(str, pad))) if any(pad) else ()
    words = (
        *about,
        *(Path(name).name for name in names if name),
        "mask",
        "image",
        "picture",
        *(["pad"] if any(pad) else []),
    )
    return Command(
        group,
        (
            "inpaint",
            *further,
            *padding,
            "-o",
            output,
            *(() if model == "digits" else ("--model", f"../models/{model}")),
            *QUICK,
            "--",
            *names,
        ),
        verdict,
        words,
        writes or (output,),
        painting,
        patch,
    )


def _flag(
    group: str, picture: File, mask: File, model: str, flag: str, value: str, verdict: str, **options: Any
) -> Command:
    command = _paint(group, picture, mask, model, verdict=verdict, **options)
    arguments = list(command.arguments)
    at = arguments.index("--")
    if flag == "--method":  # most methods have no inner steps
        at = arguments.index("--inner-steps")
        del arguments[at : at + 2]
        at = arguments.index("--")
    if flag in QUICK:
        del arguments[arguments.index(flag) : arguments.index(flag) + 2]
        at -= 2
    arguments[at:at] = [f"{flag}={value}"] if value.startswith("-") else [flag, value]
    name = value.split("=")[0]
    about = (*_words(flag.strip("-"), name), name.replace("-", "_"), "finite")
    return Command(group, tuple(arguments), verdict, about, command.writes, command.painting, command.patch)


NUMBERS: dict[str, tuple[str, str, str]] = {  # flag → bad, either, good
    "--steps": ("0 -1 nan inf 1e400 2.5 two  99999999999999999999 10001 100000000 0x10", " +2", "2 1"),
    "--inner-steps": ("-1 nan inf 1.5 many  99999999999999999999 100000000 1,2", "", "0 1"),
    "--lam": ("nan inf -inf -1 -1.0 -5 1e400 high  1,2 1e999", "1e300 1e30", "0 -0.5 8"),
    "--step-size": ("0 -1 nan inf 1e400 high  0.0", "1e300 1e10", "1e-300 0.1"),
    "--friction": ("0 -1 nan -inf high ", "1e300 1e-300", "inf 3"),
    "--expected-noise": ("-1 nan inf high  1e400", "1e300", "0 0.1"),
    "--seed": ("-1 4294967296 nan 1.5 1e400 x  99999999999999999999", "", "0 4294967295"),
    "--count": ("0 -1 10000000 nan x  2.5", "", ""),
    "--levels": ("even nan 3  paper,karras", "", "paper logsnr karras"),
    "--preset": ("slow  3 paper,fast", "", "fast paper"),
    "--dynamics": (
        "magic  os:system json:loads a.py:B : a: :b no_such_module:X hostile_parts:missing",
        "",
        "langevin hfhr",
    ),
    "--solver": ("magic  os:system json:loads a.py:B no_such_module:X", "", "heun ddim 2m"),
    "--method": ("magic  os:system json:loads all lanpaint,replace : no_such_module:X", "", "replace ddrm dps"),
    "--device": ("tpu9  cuda:99 cuda:-1 CPU0 meta", "cpu:0 mps", "cpu"),
    "--dtype": ("int8  float64 torch.float32 complex64 bool", "", "bf16 float32"),
    "--option": (
        "=3 a a=1 =  psi=3 lam=high step_size=nan self=3 score=1 plan=1 a-b=3 a.b=3 callbacks=1 levels=3",
        "",
        "lam=3",
    ),
    "--pad": (
        "1 1,2,3 1,2,3,4,5 -1,0,0,0 nan,0,0,0 1.5,0,0,0 a,b,c,d  1000000,0,0,0 99999999999999999999,0,0,0",
        "",
        "",
    ),
    "--model": (
        " / . .. nobody/nothing /dev/null a/b/c/d http://nowhere/at-all emoji c-plain.png ~ empty-folder",
        "",
        "digits",
    ),
}


def _numbers(pictures: list[File], masks: list[File]) -> list[Command]:
    """Every flag of a pixel model with every absurd value."""
    made = []
    for flag, (bad, either, good) in NUMBERS.items():
        for texts, verdict in ((bad, BAD), (either, EITHER), (good, GOOD)):
            values = list(dict.fromkeys(texts.split(" "))) if texts else []
            made += [_flag("number", pictures[0], masks[0], "digits", flag, value, verdict) for value in values]
    made += [
        _paint("number", pictures[0], masks[0], further=(f"--feather={n}",), verdict=BAD, about=("feather",))
        for n in ("-1", "1000000", "nan", "1.5", "")
    ]
    made += [_paint("number", pictures[0], masks[0], further=("--feather", str(n)), feather=n) for n in (0, 2, 1000)]
    made += [
        _paint(
            "number",
            pictures[0],
            masks[0],
            further=("--count", "2"),
            output="many.png",
            writes=("many-1.png", "many-2.png"),
            verdict=EITHER,
        )
    ]
    return [
        command
        if command.painting is None or command.painting.output != "many.png"
        else Command(
            command.group,
            command.arguments,
            GOOD,
            (),
            command.writes,
            Painting("many-2.png", command.painting.pixels, command.painting.painted),
        )
        for command in made
    ]


def _pipeline_flags(photos: list[File], masks: list[File]) -> list[Command]:
    """Every flag of a pipeline with every absurd value."""
    values = {
        "--guidance-scale": ("nan inf 1e400 high ", "-1 1e30", "0 5"),
        "--known-guidance-scale": ("nan inf high ", "-1", "0 2"),
        "--crop": ("0 0.5 nan inf -1 high ", "1e300", "1 2"),
        "--scheduler": ("magic  euler-euler os:system -karras", "ddpm", "euler dpm++-karras"),
        "--prompt": ("", "", "☃ a;b"),
        "--set": (
            "x =3  nosuch=3 output_type=latent height=3 height=a width=999 height=16.5 generator=3 "
            "callback_on_step_end=3 latents=3 prompt_embeds=3 num_images_per_prompt=0 num_images_per_prompt=x "
            "timesteps=[1,2] sigmas=[1] cross_attention_kwargs=3 clip_skip=99 num_inference_steps=4 mask=3 image=3 "
            "output_type=pil output_type=pt return_dict=false num_images_per_prompt=2 prompt=3 crop=2 "
            "self=3 args=3 pad=3 feather=x eta=high guidance_scale=x guidance_scale=NaN",
            "guidance_rescale=0.5",
            "eta=0.5 height=16",
        ),
    }
    made = []
    for flag, (bad, either, good) in values.items():
        for texts, verdict in ((bad, BAD), (either, EITHER), (good, GOOD)):
            for value in list(dict.fromkeys(texts.split(" "))) if texts else []:
                made.append(_flag("pipeline's flag", photos[0], masks[0], "sd", flag, value, verdict))
    control = [("c-missing.png", BAD), ("c-text.png", BAD), ("c-plain.png", BAD), ("", BAD)]
    made += [
        _flag("pipeline's flag", photos[0], masks[0], "sd", "--control-image", name, verdict)
        for name, verdict in control
    ]
    return made


def _combinations() -> list[Command]:
    """Flags that cannot be together, and arguments that are too many or too few."""
    digit, photo = (
        ("d-plain.png", "d-mask.png", "-o", "out.png"),
        ("c-plain.png", "c-mask.png", "-o", "out.png", "--model", "../models/sd"),
    )
    impossible: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        *(
            (("inpaint", *digit, *QUICK, *flags), (flags[0].strip("-"),))
            for flags in (
                ("--prompt", "a cat"),
                ("--negative-prompt", "a"),
                ("--guidance-scale", "3"),
                ("--known-guidance-scale", "3"),
                ("--scheduler", "euler"),
                ("--offload",),
                ("--set", "eta=1"),
                ("--control-image", "d-plain.png"),
            )
        ),
        *(
            (("inpaint", *photo, *QUICK, *flags), (flags[0].strip("-"), *words))
            for flags, words in (
                (("--levels", "karras"), ()),
                (("--method", "dps"), ("gradient",)),
                (("--method", "copaint"), ("gradient",)),
                (("--offload",), ()),
                (("--method", "tds"), ("gradient",)),
                (("--solver", "ddim", "--scheduler", "euler"), ("scheduler",)),
            )[:5]
        ),
        (("inpaint", *digit, *QUICK, "--friction", "3", "--dynamics", "ou"), ("friction",)),
        (("inpaint", *digit, *QUICK, "--friction", "3", "--dynamics", "langevin"), ("friction",)),
        (("inpaint", *digit, *QUICK, "--lam", "3", "--option", "lam=3"), ("lam",)),
        (("inpaint", *digit, *QUICK, "--option", "lam=3", "--option", "lam=4"), ("lam",)),
        (("inpaint", *digit, "-q", "--method", "replace", "--lam", "3"), ("lam",)),
        (("inpaint", *digit, "-q", "--method", "replace", "--dynamics", "fld"), ("dynamics",)),
        (("inpaint", *digit, "-q", "--method", "ddrm", "--solver", "heun"), ("solver",)),
        (("inpaint", *digit, "-q", "--method", "tds", "--particles", "0"), ("particles",)),
        (("inpaint", *digit, "-q", "--method", "tds", "--particles", "1000000000"), ("particles",)),
        (("inpaint", *digit, "-q", "--method", "copaint", "--travels", "-1"), ("travels",)),
        (("inpaint", *digit, "-q", "--method", "repaint", "--inner-steps", "nan"), ("inner",)),
        (("inpaint", *digit, "-q", "--method", "ddrm", "--eta", "2"), ("eta", "η")),
        (("inpaint", *digit, "-q", "--method", "ddrm", "--eta", "nan"), ("eta", "η")),
        (("inpaint", *digit, "-q", "--method", "dps", "--step-size", "nan"), ("step",)),
        (("inpaint", *digit, "-q", "--method", "mcg", "--step-size", "inf"), ("step",)),
        (("inpaint", "d-plain.png"), ("output",)),
        (("inpaint",), ("image",)),
        (("inpaint", "d-plain.png", "d-mask.png", "d-mask.png", "-o", "out.png"), ("argument",)),
        (("inpaint", *digit, "--wish", "3"), ("wish",)),
        (("inpaint", "-dash.png", "d-mask.png", "-o", "out.png"), ("-d", "dash")),
        (("paint",), ("paint",)),
        (("bench",), ("target",)),
        (("report",), ("results",)),
        (("models", "extra"), ("extra",)),
        (("demo", "extra"), ("extra",)),
        (("--wish",), ("wish",)),
        (("models", "--wish"), ("wish",)),
        (("",), ("command",)),
    ]
    return [Command("combination", arguments, BAD, about) for arguments, about in impossible]


def _outputs(folder: Path, pictures: list[File]) -> list[Command]:
    """Outputs that cannot be written, or must not be."""
    from tests.hostile.files import File

    mask = File("d-mask.png", GOOD, None, _box(8))
    made = []
    for output, verdict in {
        "out.PNG": GOOD,
        "out.bmp": GOOD,
        "out.tif": GOOD,
        "ünï ☃.png": GOOD,
        "old.png": GOOD,
        "to-old.png": GOOD,
        "out.jpg": EITHER,
        "out.webp": EITHER,
        "new-folder/out.png": EITHER,
        "out.gif": EITHER,
        "out.txt": BAD,
        "out": BAD,
        "": BAD,
        "/": BAD,
        ".": BAD,
        "..": BAD,
        ".png": EITHER,
        "empty-folder": BAD,
        "d-folder.png": BAD,
        "out.mp4": EITHER,
        "/dev/null": BAD,
        "/proc/out.png": BAD,
        "/nowhere/\0.png"[:9] + "out.txt": BAD,
        "n" * 300 + ".png": BAD,
        "d-plain.png/out.png": BAD,
        "d-plain.png": BAD,
        "d-mask.png": BAD,
        "same.png": BAD,
        "hard.png": BAD,
        "same-mask.png": BAD,
        "./d-plain.png": BAD,
        "empty-folder/../d-mask.png": BAD,
        "d-circle.png": EITHER,
    }.items():
        writes = (
            ("new-folder",)
            if output.startswith("new-folder")
            else (output, "old.png")
            if output == "to-old.png"
            else (output,)
        )
        about = tuple(word for word in (output[:40], Path(output).name[:40], "output", "cannot write") if word)
        command = _paint("output", pictures[0], mask, output=output, verdict=verdict, writes=writes)
        made.append(
            Command(
                "output", command.arguments, verdict, about, writes, command.painting if output != "out.gif" else None
            )
        )
    made += [
        Command(
            "output", ("inpaint", "x-1.png", "d-mask.png", "-o", "x.png", "--count", "2", *QUICK), BAD, ("x-1.png",)
        ),
        Command(
            "output",
            (
                "inpaint",
                "c-plain.png",
                "c-mask.png",
                "-o",
                "c-rgb.png",
                "--model",
                "../models/sd",
                "--control-image",
                "c-rgb.png",
                *QUICK,
            ),
            BAD,
            ("c-rgb.png",),
        ),
        *(
            Command(
                "full disk",
                ("inpaint", "d-plain.png", "d-mask.png", "-o", out, *QUICK),
                BAD,
                ("write", "space", "large", out),
                patch=full_disk,
            )
            for out in ("out.png", "old.png", "out.bmp", "out.tif")
        ),
        *(
            Command(
                "full disk",
                ("inpaint", "d-plain.png", "d-mask.png", "-o", out, *QUICK),
                BAD,
                ("space", "write"),
                patch=lambda: failing_write("full"),
            )
            for out in ("out.png", "old.png")
        ),
        Command(
            "full disk",
            ("inpaint", "d-plain.png", "d-mask.png", "-o", "out.png", "--count", "3", *QUICK),
            BAD,
            ("write", "large", "space"),
            patch=full_disk,
        ),
        Command(
            "full disk",
            ("bench", "gaussian", "--steps", "2", "--samples", "50", "-q", "-r", "new.jsonl"),
            BAD,
            ("new.jsonl", "write"),
            patch=full_disk,
        ),
        Command(
            "full disk",
            ("bench", "gaussian", "--steps", "2", "--samples", "50", "-q", "-r", "rows-good.jsonl"),
            BAD,
            ("rows-good", "write"),
            patch=full_disk,
        ),
        Command(
            "full disk",
            ("bench", "star", "--steps", "2", "--samples", "50", "-q", "-r", "new.jsonl"),
            BAD,
            ("new.jsonl", "write"),
            patch=full_disk,
        ),
        Command(
            "full disk",
            ("bench", "gaussian", "--steps", "2", "--samples", "50", "-q", "-r", "rows-good.jsonl"),
            BAD,
            ("rows-good", "write"),
            patch=lambda: full_disk(1000),  # enough for the samples, and not for the row
        ),
        Command("full disk", ("report", "rows-good.jsonl", "-o", "rep"), BAD, ("write", "rep"), patch=full_disk),
        Command(
            "full disk",
            ("bench", "gaussian", "--steps", "2,3", "--inner-steps", "1", "--samples", "50", "-q", "-o", "old.png"),
            BAD,
            ("old.png", "write"),
            patch=full_disk,
        ),
        *(
            Command(
                "Ctrl-C",
                ("inpaint", "d-plain.png", "d-mask.png", "-o", out, *QUICK),
                BAD,
                patch=(lambda where=where, after=after: interrupted_at(where, after)),
            )
            for out, where, after in (
                ("out.png", "lanpaint.painting.media.read_media", 0),
                ("old.png", "lanpaint.score.NetworkScore.predict", 2),
                ("old.png", "lanpaint.painting.media.write_media", 0),
                ("old.png", "os.replace", 0),
                ("out.png", "lanpaint.names.model_folder", 0),
            )[:4]
        ),
        Command(
            "Ctrl-C",
            ("inpaint", "d-plain.png", "d-mask.png", "-o", "old.png", *QUICK),
            BAD,
            patch=lambda: failing_write("stopped"),
        ),
        Command(
            "Ctrl-C",
            ("bench", "gaussian", "--steps", "2,3", "--samples", "50", "-q", "-r", "rows-good.jsonl"),
            BAD,
            patch=lambda: interrupted_at("lanpaint.bench.grid.run", 0),
        ),
        Command(
            "Ctrl-C",
            ("inpaint", "c-plain.png", "c-mask.png", "-o", "old.png", "--model", "../models/sd", *QUICK),
            BAD,
            patch=lambda: interrupted_at("lanpaint.samplers.lanpaint.LanPaint.refine", 1),
        ),
        Command(
            "Ctrl-C",
            ("inpaint", "c-plain.png", "c-mask.png", "-o", "old.png", "--model", "../models/sd", *QUICK),
            BAD,
            patch=lambda: interrupted_at("diffusers.AutoencoderKL.encode", 0),
        ),
    ]
    return made


def _box(side: int) -> np.ndarray:
    box = np.zeros((side, side), dtype=bool)
    box[side // 4 : -side // 4, side // 4 : -side // 4] = True
    return box


def _models(wrong: list[str]) -> list[Command]:
    """Model folders that are wrong in one thing."""
    made = []
    for name in wrong:
        prefix = "d-" if name.startswith("ddpm") else "c-"
        made.append(
            Command(
                "model",
                (
                    "inpaint",
                    f"{prefix}plain.png",
                    f"{prefix}mask.png",
                    "-o",
                    "out.png",
                    "--model",
                    f"../models/{name}",
                    *QUICK,
                ),
                BAD if name not in _HARMLESS else EITHER,
                (name, "weights", "prediction_type"),
                ("out.png",),
            )
        )
    for modules, extra in (
        (("transformers", "transformers.utils"), "lanpaint[pipelines]"),
        (("greenlet",), "lanpaint[pipelines]"),
        (("diffusers",), "diffusers"),
    ):
        arguments = ("inpaint", "c-plain.png", "c-mask.png", "-o", "out.png", "--model", "../models/sd", *QUICK)
        made.append(Command("missing extra", arguments, BAD, (extra, modules[0]), patch=without(*modules)))
        made.append(Command("missing extra", arguments[:-1], BAD, (extra, modules[0]), patch=without(*modules)))
    made.append(
        Command(
            "missing extra",
            ("inpaint", "c-moving.gif", "c-mask.png", "-o", "out.mp4", "--model", "../models/sd", *QUICK),
            BAD,
            ("imageio", "frames"),
            patch=without("imageio", "imageio.v3", "imageio_ffmpeg"),
        )
    )
    made.append(
        Command(
            "missing extra",
            ("bench", "gaussian", "--steps", "2,3", "--samples", "50", "-q", "-o", "out.png"),
            BAD,
            ("matplotlib",),
            patch=without("matplotlib", "matplotlib.pyplot", "matplotlib.figure"),
        )
    )
    made.append(Command("missing extra", ("bench", "grid-good.yaml"), BAD, ("yaml",), patch=without("yaml")))
    return made


# Wrong in the file, and without a say in what is painted.
_HARMLESS = {
    "ddpm-index-unknown-class",
    "ddpm-index-no-class",
    "ddpm-index-class-number",
    "ddpm-index-unknown-part",
    "ddpm-index-strange-library",
    "ddpm-index-part-short",
    "ddpm-index-part-empty",
    "ddpm-index-part-text",
    "ddpm-index-part-numbers",
    "sd-no-tokenizer",
}


def _results(rows: dict[str, str], grids: dict[str, str]) -> list[Command]:
    """Files of results and grids that are wrong in one thing, and outputs in the way of inputs."""
    made = [
        Command("rows", ("report", name, "-o", "rep"), verdict, (name,), ("rep",)) for name, verdict in rows.items()
    ]
    small = ("--steps", "2", "--samples", "50", "-q")
    for name in list(rows)[:14]:
        made.append(
            Command("rows", ("bench", "gaussian", *small, "-r", name), EITHER, (name,), (name, f"{name}.samples"))
        )
    for name, verdict in grids.items():
        made.append(
            Command(
                "grid", ("bench", name, "-q", "-r", "new.jsonl"), verdict, (name,), ("new.jsonl", "new.jsonl.samples")
            )
        )
    several = ("--steps", "2,3", "--inner-steps", "1", "--samples", "50", "-q")
    for arguments, about in (
        (("report", "figures.csv", "-o", "."), ("figures.csv",)),
        (("report", "report.md", "-o", "."), ("report.md",)),
        (("report", "runs.png", "-o", "."), ("runs.png",)),
        (("report", "rows-good.jsonl", "-o", "d-plain.png"), ("d-plain.png",)),
        (("report", "rows-good.jsonl", "-o", "/proc/rep"), ("/proc/rep",)),
        (("report", "rows-good.jsonl", "--figures", "wish"), ("wish",)),
        (("report", "missing.jsonl"), ("missing.jsonl",)),
        (("report", "empty-folder"), ("empty-folder",)),
        (("report", ""), ("results", "folder")),
        (("report", "d-plain.png"), ("d-plain.png",)),
        (("bench", "gaussian", *several, "-r", "r.png", "-o", "r.png"), ("r.png",)),
        (("bench", "gaussian", *several, "-r", "r.png", "-o", "r-link.png"), ("r-link.png",)),
        (("bench", "gaussian", *several, "-r", "r.png", "-o", "./empty-folder/../r.png"), ("r.png",)),
        (("bench", "gaussian", *small, "-r", "d-plain.png"), ("d-plain.png",)),
        (("bench", "gaussian", *small, "-r", "empty-folder"), ("empty-folder",)),
        (("bench", "gaussian", *small, "-r", "nowhere/at/all.jsonl"), ("nowhere",)),
        (("bench", "gaussian", *small, "-r", ""), ("results", "folder")),
        (("bench", "gaussian", *small, "-r", "/proc/new.jsonl"), ("/proc/new.jsonl",)),
        (("bench", "grid-good.yaml", "-q", "-r", "grid-good.yaml"), ("grid-good.yaml",)),
        (("bench", "grid-good.yaml", "-q", "--steps", "3"), ("steps",)),
        (("bench", "grid-missing.yaml"), ("grid-missing.yaml",)),
        (("bench", "grid-good.yaml", "-q", "-o", "old.png"), ("output",)),
        (("bench", "gaussian", *small, "-o", "out.png"), ("output",)),
        (("bench", "gaussian", *several, "-o", "out.txt"), ("out.txt",)),
        (("bench", "digits:d-mask-narrow.png", *small), ("mask",)),
        (("bench", "digits:d-mask-black.png", *small), ("mask",)),
        (("bench", "digits:d-text.png", *small), ("d-text.png",)),
        (("bench", "digits:box", *small, "--images", "empty-folder"), ("images",)),
        (("bench", "emoji-pixel:box", *small, "--images", "empty-folder"), ("empty-folder",)),
        (("bench", "emoji-pixel:box", *small, "--images", "broken.zip"), ("broken.zip",)),
        (("bench", "emoji-pixel:box", *small, "--images", "nowhere"), ("nowhere",)),
        (("bench", "emoji-pixel:box", *small), ("images",)),
        (("bench", ":box", *small), (":box",)),
        (("bench", "digits:", *small), ("digits:",)),
        (("bench", "", *small), ("target",)),
        (("bench", ",", *small), ("target",)),
        (("bench", "gaussian,moon", *small), ("moon",)),
        (("bench", "os:getcwd", *small), ("os:getcwd",)),
        (("bench", "../models/ddpm-config-list:box", *small, "--images", "empty-folder"), ("ddpm-config-list",)),
        *(
            (("bench", "gaussian", "-q", f"--samples={n}", "--steps", "2"), ("samples",))
            for n in ("0", "-1", "9", "nan", "1e400", "1000000000000")
        ),
        *(
            (("bench", "gaussian", "-q", "--samples=50", f"--steps={n}"), ("steps",))
            for n in ("0", "-1", "nan", "", "2,", "1000000000", "1e3")
        ),
        *((("bench", "gaussian", *small, f"--seed={n}"), ("seed",)) for n in ("-1", "nan", "", "99999999999", "0,")),
        *((("bench", "gaussian", *small, f"--lam={n}"), ("lam", "λ")) for n in ("nan", "inf", "-1", "1e400", "8,high")),
        *((("bench", "gaussian", *small, f"--inner-steps={n}"), ("inner",)) for n in ("-1", "1.5", "1000000000")),
        *((("bench", "gaussian", *small, f"--device={n}"), (n,)) for n in ("tpu9", "cuda:99", "meta")),
        (("bench", "gaussian", *small, "--wish", "3"), ("wish",)),
        (("bench", "gaussian", *small, "--method", "all,magic"), ("magic",)),
        (("bench", "gaussian", *small, "--dynamics", "fld,"), ("dynamics",)),
    ):
        made.append(Command("results", arguments, BAD, about))
    return made


def _others() -> list[Command]:
    return [
        *(
            Command("demo", ("demo", *flags, "-o", "out.png"), BAD, about)
            for flags, about in (
                (("--count", "2"), ("count", "digits")),
                (("--count", "-1"), ("count", "digits")),
                (("--count", "nan"), ("count",)),
                (("--count", "1000000000"), ("count", "digits")),
                (("--pictures", "0"), ("pictures",)),
                (("--pictures", "65"), ("pictures",)),
                (("--images", "nowhere"), ("nowhere",)),
                (("--images", "d-text.png"), ("d-text.png",)),
                (("--images", "empty-folder"), ("empty-folder",)),
                (("--images", "broken.zip"), ("broken.zip",)),
                (("--seed", "-1"), ("seed",)),
                (("--seed", "4294967296"), ("seed",)),
            )
        ),
        Command("demo", ("demo", "-o", "out.txt"), BAD, ("out.txt",)),
        Command("demo", ("demo", "-o", "d-folder.png"), BAD, ("d-folder.png",)),
        Command("demo", ("demo", "-o", ""), BAD, ("ending", "output")),
        Command("others", ("models",), GOOD),
        Command("others", ("--version",), GOOD),
        Command("others", ("inpaint", "--help"), GOOD),
    ]


def _further_commands(folder: Path) -> list[Command]:
    """``wide``, ``texture``, folders, ``serve`` and ``verify``. Each is refused, names why, and keeps all files."""
    for name in ("folder-in", "folder-masks"):
        (folder / name).mkdir()
    shutil.copy(folder / "d-plain.png", folder / "folder-in" / "one.png")
    shutil.copy(folder / "d-mask.png", folder / "folder-masks" / "one.png")
    (folder / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    wide = ("wide", "d-plain.png", "-o", "out.png", "--steps", "2", "-q")
    folders = ("inpaint", "folder-in", "folder-masks", "-o", "folder-out", "--steps", "2", "-q")
    serve = ("serve", "--no-browser", "--port", "0")
    given = {
        "wide": [
            (wide, ("width", "height", "pad", "size")),
            (("wide", "-o", "out.png"), ("width", "height", "size")),
            (("wide", "nowhere.png", "-o", "out.png", "--width", "40"), ("nowhere.png",)),
            (("wide", "d-text.png", "-o", "out.png", "--width", "40"), ("d-text.png",)),
            (("wide", "d-plain.png", "-o", "out.txt", "--width", "40"), ("out.txt",)),
            (("wide", "d-plain.png", "-o", "d-folder.png", "--width", "40"), ("d-folder.png",)),
            *(
                ((*wide, flag, value), about)
                for flag, values, about in (
                    ("--width", ("0", "-1", "nan", "1000000000", "2"), ("width", "picture", "smaller")),
                    ("--height", ("0", "-1", "1e9", "2"), ("height", "picture", "smaller")),
                    ("--pad", ("1,2,3", "a,b,c,d", "-1,0,0,0", "0,0,1000000000,0"), ("pad",)),
                    ("--model", ("nowhere", "d-text.png", "empty-folder"), ("nowhere", "d-text.png", "empty-folder")),
                    ("--seed", ("-1", "4294967296"), ("seed",)),
                )
                for value in values
            ),
            *(
                ((*wide, "--width", "40", flag, value), about)
                for flag, values, about in (
                    ("--window", ("0", "-1", "nan", "100000000"), ("window",)),
                    ("--overlap", ("-1", "nan", "1000"), ("overlap",)),
                    ("--order", ("sideways", ""), ("order",)),
                    ("--state", ("d-plain.png", "d-folder.png"), ("state", "d-plain.png", "d-folder.png")),
                    ("--method", ("nothing",), ("nothing", "method")),
                    ("--steps", ("0", "100000000"), ("steps",)),
                )
                for value in values
            ),
        ],
        "texture": [
            (("texture", "nowhere.obj", "-o", "out.glb"), ("nowhere.obj",)),
            (("texture", "d-text.png", "-o", "out.glb"), ("d-text.png", "ending")),
            (("texture", "d-folder.png", "-o", "out.glb"), ("d-folder.png", "folder")),
            (("texture", "points.obj", "-o", "out.glb"), ("points.obj", "faces")),
            (("texture", "points.obj", "-o", "out.png"), ("out.png", "ending")),
            (("texture", "points.obj", "-o", "points.obj"), ("points.obj", "ending")),
        ],
        "folder": [
            *(((*folders, "--shard", shard), ("shard",)) for shard in ("0/2", "3/2", "1/0", "a", "-1/2")),
            (("inpaint", "nowhere-folder", "folder-masks", "-o", "folder-out"), ("nowhere-folder", "folder-out")),
            (("inpaint", "folder-in", "nowhere-masks", "-o", "folder-out"), ("nowhere-masks",)),
            (("inpaint", "empty-folder", "folder-masks", "-o", "folder-out"), ("empty-folder", "picture")),
            (("inpaint", "folder-in", "folder-masks", "-o", "d-plain.png"), ("d-plain.png", "folder")),
            (("inpaint", "folder-in", "folder-masks", "-o", "folder-in"), ("folder-in",)),
            (("inpaint", "folder-in", "folder-masks", "-o", "folder-masks"), ("folder-masks",)),
        ],
        "serve": [
            (("serve", "--port", "-1"), ("port",)),
            (("serve", "--port", "70000"), ("port",)),
            *(
                ((*serve, flag, value), about)
                for flag, values, about in (
                    ("--model", ("nowhere", "d-text.png"), ("nowhere", "d-text.png")),
                    ("--device", ("gpu9", "cpu,"), ("device", "gpu9")),
                    ("--dtype", ("float8",), ("dtype", "float8")),
                    ("--queue", ("0", "-1"), ("queue",)),
                    ("--megapixels", ("0", "nan", "-1"), ("megapixels",)),
                    ("--megabytes", ("0",), ("megabytes",)),
                    ("--host", ("not a host",), ("host",)),
                )
                for value in values
            ),
        ],
        "verify": [
            (("verify",), ("dynamics",)),
            *((("verify", name), (name.split(":")[0],)) for name in ("nothing", "nowhere:thing", "d-text.png", "")),
            *((("verify", "fld", "--friction", value), ("friction",)) for value in ("nan", "-1", "x")),
        ],
    }
    return [Command(group, arguments, BAD, about) for group, commands in given.items() for arguments, about in commands]


PARTS = """
import lanpaint as lp
import torch


class ReturnsTensor(lp.Dynamics):
    def step(self, state, drift, noise):
        return state.x


class ReturnsNone(lp.Dynamics):
    def step(self, state, drift, noise):
        pass


class InitIsNone(lp.Langevin):
    def init(self, x, drift, noise):
        pass


class OtherShape(lp.Dynamics):
    def step(self, state, drift, noise):
        return lp.State(state.x[..., :1])


class Nan(lp.Dynamics):
    def step(self, state, drift, noise):
        return lp.State(state.x * float("nan"))


class XIsText(lp.Dynamics):
    def step(self, state, drift, noise):
        return lp.State("x")


class Raises(lp.Dynamics):
    def step(self, state, drift, noise):
        raise RuntimeError("no luck")


class CountsWrong(lp.Langevin):
    def evaluations(self, inner_steps):
        return "many"


class SolverReturnsTensor(lp.Euler):
    def step(self, state, score, level, next_level, noise):
        return state.x


class SolverInitIsNone(lp.Euler):
    def init(self, x, steps):
        pass


class SolverLevelsAreNumbers(lp.Euler):
    def levels(self, steps):
        return [3, 2, 1]


class SolverNan(lp.Euler):
    def step(self, state, score, level, next_level, noise):
        return lp.SolverState(state.x * float("nan"))


class MethodRaises(lp.LanPaint):
    def __init__(self, score, **options):
        raise RuntimeError("no luck")


class EnterIsNone(lp.LanPaint):
    def enter(self, state, visit, noise):
        pass


class RefineIsTensor(lp.LanPaint):
    def refine(self, state, visit, noise):
        return state.x


class AdvanceIsNone(lp.LanPaint):
    def advance(self, state, visit, noise):
        pass


class FinishIsNone(lp.LanPaint):
    def finish(self, state, noise):
        pass


class BeginIsTensor(lp.LanPaint):
    def begin(self, observation, noise, start):
        return observation.values


def no_method(score, **options):
    return 3


def no_arguments():
    return 3


number = 3
"""


def _of_ones_own(pictures: list[File]) -> list[Command]:
    """Dynamics, solvers and methods of a user's own that return what they should not."""
    mask = File("d-mask.png", GOOD, None, _box(8))
    made = []
    for flag, names in {
        "--dynamics": "ReturnsTensor ReturnsNone InitIsNone OtherShape Nan XIsText Raises CountsWrong number",
        "--solver": "SolverReturnsTensor SolverInitIsNone SolverLevelsAreNumbers SolverNan number no_arguments",
        "--method": "MethodRaises EnterIsNone RefineIsTensor AdvanceIsNone FinishIsNone BeginIsTensor no_method number",
    }.items():
        for name in names.split():
            command = _flag(
                "one's own",
                pictures[0],
                mask,
                "digits",
                flag,
                f"hostile_parts:{name}",
                EITHER if name == "Raises" else BAD,
            )
            about = (
                name,
                flag.strip("-"),
                "State",
                "step",
                "finite",
                "no luck",
                "SolverState",
                "levels",
                "evaluations",
                "known",
            )
            made.append(Command(command.group, command.arguments, BAD, about, command.writes, command.painting))
    return made
