"""Why a class is refused: another one is to be given, there is no right answer, or it is a limit of this library."""

from tests.adapters.zoo.judge import REFUSED

ANOTHER_CLASS, NO_ANSWER, LIMIT = (f"{REFUSED}: {why}" for why in ("another class", "no right answer", "a limit"))

_NO_PICTURE = "is called without the picture that it needs"
_OTHER_PICTURE = "is given a picture that is not the first of the video's known frames"
NO_ANSWERS = {
    "Amused": "samples tokens, which have no noise level",
    "MarigoldDepth": "makes the depth of a picture, and no picture",
    "StableDiffusionLDM3D": "makes a picture with its depth, and a photo has none",
    "I2VGenXL, without its picture": _NO_PICTURE,
    "LTX2ImageToVideo, without its picture": _NO_PICTURE,
    "WanImageToVideo, without its picture": _NO_PICTURE,
    "LTXImageToVideo, another picture": _OTHER_PICTURE,
    "WanImageToVideo, expand_timesteps, another picture": _OTHER_PICTURE,
}
LIMITS = {
    "AnyFlowFAR": "samples chunks of a video one after the other, out of latents that are prepared for all",
    "HeliosPyramid": "samples at several resolutions, and the states of most are samples of no noise level",
    "Kandinsky5I2V": "changes its first frames after the last step by the statistics of the others",
    "KarrasVe": "steps with a predictor and a corrector in place of a scheduler's step",
    "LTX2HDR": "makes amounts of light, and pictures are read as values from 0 to 1",
    "LTXI2VLongMultiPrompt": "samples windows of a video that overlap",
    "ScoreSdeVe": "steps with a predictor and a corrector in place of a scheduler's step",
    "SkyReelsV2DiffusionForcing": "samples each frame at a time of its own, with a scheduler of its own",
    "StableDiffusionAttendAndExcite": "moves its latents along a gradient between two steps",
    "StableDiffusionParadigms": "steps many times at once, without its scheduler's step",
    "TextToVideoZero": "samples one frame, and makes the others of it in the course of the run",
}


def full_word(name: str, word: str) -> str:
    """The verdict on a class of the zoo, with the reason of a refusal."""
    if word != REFUSED:
        return word
    return NO_ANSWER if name in NO_ANSWERS else LIMIT if name in LIMITS else ANOTHER_CLASS
