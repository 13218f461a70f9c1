"""What the classes of mechaudio's own share: generation that hears, and calls that are refused."""

import pytest
import torch

import mechaudio as ma
from tests.families import noise, opened

FAMILIES = ("salmonn", "timeaudio", "kimi_audio", "desta25")
GREEDY = {"max_new_tokens": 5, "do_sample": False}


def clip(seconds, seed=0):
    return {"type": "audio", "audio": ma.AudioClip(noise(seconds, seed), 16_000), "transcript": "one two"}


def chat(model, text, *sounds):
    """A turn of the user's: clips and words in the order of the class."""
    words = {"type": "text", "text": text}
    content = [words, *sounds] if model.adapter.text_first else [*sounds, words]
    return [{"role": "user", "content": content}]


def two_prompts(family):
    """The first has as many clips as the class takes, of a Kimi's one longer than a window; the second has one."""
    model = ma.AudioLM(opened(family).network, opened(family).processor, prove=False)
    sounds = [clip(2.0)] if model.adapter.one_clip else [clip(9.0 if family == "kimi_audio" else 2.0), clip(1.0, 4)]
    return model, ma.prompt(model, [chat(model, "What?", *sounds), chat(model, "Which of them is it?", clip(3.0, 9))])


def embedded(model, batch):
    """What the decoder reads."""
    seen = []
    decoder = model.network.get_submodule(model.adapter.decoder_module)
    hook = decoder.register_forward_pre_hook(lambda _module, _args, given: seen.append(given), with_kwargs=True)
    with torch.no_grad():
        model.network(**batch.inputs)
    hook.remove()
    return {**{name: batch.inputs[name] for name in ("attention_mask", "position_ids")}, **seen[0]}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("beams", "use_cache"), [(1, False), (4, True)])
def test_every_beam_and_step_hears_all_clips_of_its_own_prompt(family, beams, use_cache):
    """As if the decoder were given the embedded prompts."""
    model, batch = two_prompts(family)
    settings = {**GREEDY, "num_beams": beams, "use_cache": use_cache}
    written = model.network.generate(**batch.inputs, **settings)[:, batch.inputs["input_ids"].shape[1] :]
    names = ("inputs_embeds", "attention_mask", "position_ids")
    given = embedded(model, batch)
    wanted = model.network.generate(**{name: given[name] for name in names}, **GREEDY, num_beams=beams)
    assert written.tolist() == wanted.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_call_without_a_prompt_or_with_half_a_clip_is_refused(family):
    model, batch = two_prompts(family)
    network, inputs = model.network, batch.inputs
    sound = {name: inputs[name] for name in network.audio_inputs if name in inputs}
    for given in ({}, sound):
        with pytest.raises(ValueError, match="nothing to read: pass input_ids or inputs_embeds"):
            network(**given)
    # The length of a clip says when its windows are, to less than a frame.
    needed = [name for name in sound if name != "audio_samples"]
    for name in needed if len(needed) > 1 else ():
        with pytest.raises(ValueError, match=name):
            network(**{given: value for given, value in inputs.items() if given != name})
