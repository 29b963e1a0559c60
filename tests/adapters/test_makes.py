"""What a pipeline makes is told by its own parts and arguments."""

import diffusers
import pytest

import lanpaint as lp
from lanpaint.adapters.makes import frames_argument, makes_sound, makes_video, missing_arguments, picture_processor
from tests.adapters import tiny
from tests.adapters.zoo import case


@pytest.mark.parametrize(
    ("name", "argument"), [("SanaVideo", "frames"), ("Latte", "video_length"), ("HunyuanVideo", "num_frames")]
)
def test_the_number_of_frames_goes_by_several_names(name, argument):
    pipe = case(name).pipe
    assert frames_argument(pipe) == argument
    assert makes_video(pipe)


def test_stills_made_by_the_parts_of_a_video_pipeline_are_stills():
    assert not makes_video(case("Cosmos2TextToImage").pipe)
    assert not makes_video(tiny.sd().pipe)
    assert makes_video(case("CogVideoXFunControl").pipe)  # it takes the number of frames from its control


def test_a_processor_for_an_encoder_of_pictures_makes_no_pictures():
    pipe = case("ChronoEdit").pipe
    assert picture_processor(pipe) is pipe.video_processor is not pipe.image_processor


def test_sound_is_no_picture():
    assert makes_sound(case("AudioLDM").pipe)
    assert not makes_sound(case("LTX2").pipe)  # a video and its sound


def test_what_a_pipeline_cannot_do_without_is_named():
    pipe = case("LucyEdit").pipe
    assert missing_arguments(pipe, {}) == ["video"]
    assert missing_arguments(pipe, {"video": []}) == []
    with pytest.raises(TypeError, match="LucyEditPipeline needs video"):
        lp.Inpainter(pipe)(prompt="a")


def test_a_video_whose_first_latent_frame_is_as_long_as_the_others_keeps_its_length():
    assert lp.Inpainter(case("Allegro").pipe).layout.frames_above(24) == 24
    assert lp.Inpainter(case("HunyuanVideo").pipe).layout.frames_above(8) == 9


def test_a_mistake_within_a_pipeline_stays_its_own_where_no_picture_is_missing():
    made = tiny.wan()
    with pytest.raises(ValueError, match="prompt"):
        lp.Inpainter(made.pipe)(prompt="a", prompt_embeds=made.call["prompt_embeds"])
    assert type(made.pipe) is diffusers.WanPipeline
