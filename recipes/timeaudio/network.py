"""The arms of the experiment, and TimeAudio's network at tiny size with its forward pass for a batch of windows.

The network is the library's `TimeAudioForConditionalGeneration`, so that a trained one opens like any other. BEATs has
a width of 16 and is silenced (its norm's weights are zero): Whisper's encoder alone hears.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, LlamaConfig, WhisperConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mechaudio.models.salmonn.beats import BeatsConfig
from mechaudio.models.salmonn.config import TimeAudioConfig
from mechaudio.models.salmonn.network import TimeAudioForConditionalGeneration
from mechaudio.models.salmonn.processor import TimeAudioProcessor
from mechaudio.timeaudio import merge, received_attention, window_rows
from recipes.timeaudio.text import WAYS

WIDTH, BEATS_WIDTH = 64, 16
SPREAD = 0.05
MERGING = ("none", "importance", "random", "constant")


@dataclass(frozen=True)
class Arm:
    """One way to build and train the network."""

    times: str
    encoding: bool
    merging: str

    @property
    def name(self) -> str:
        """A name for files and tables."""
        return "+".join([self.times, *(["encoding"] if self.encoding else []), self.merging])


#: Times x encoding x merging, and two controls of what is kept, for markers with and without encoding.
ARMS = (
    *(Arm(times, encoding, merging) for merging in MERGING[:2] for times in WAYS for encoding in (False, True)),
    *(Arm("markers", encoding, merging) for merging in MERGING[2:] for encoding in (False, True)),
)


def one_query(
    _module: object, query: Tensor, key: Tensor, value: Tensor, _mask: None, scaling: float, **_: object
) -> tuple[Tensor, None]:
    """Attention of a single query, as the windows of a Q-Former have it by the ten thousand: products and sums."""
    weights = ((query * key).sum(-1, keepdim=True) * scaling).softmax(-2)
    return rearrange((weights * value).sum(-2), "window head d_head -> window 1 head d_head"), None


ALL_ATTENTION_FUNCTIONS.register("one_query", one_query)


def whisper_config() -> WhisperConfig:
    """Sizes of the encoder."""
    return WhisperConfig(
        num_mel_bins=80,
        d_model=WIDTH,
        encoder_layers=3,
        encoder_attention_heads=4,
        encoder_ffn_dim=4 * WIDTH,
        init_std=SPREAD,
    )


def build(arm: Arm, processor: TimeAudioProcessor, seed: int) -> TimeAudioForConditionalGeneration:
    """Build an untrained network for an arm."""
    torch.manual_seed(seed)
    network = TimeAudioForConditionalGeneration(
        TimeAudioConfig(
            text_config=LlamaConfig(
                vocab_size=processor.audio_token_id,
                hidden_size=128,
                intermediate_size=384,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=1024,
                initializer_range=SPREAD,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=processor.tokenizer.pad_token_id,
            ),
            audio_config=whisper_config(),
            beats_config=BeatsConfig(
                encoder_layers=1,
                encoder_embed_dim=BEATS_WIDTH,
                encoder_ffn_embed_dim=BEATS_WIDTH,
                encoder_attention_heads=2,
                embed_dim=8,
                conv_pos=16,
                conv_pos_groups=2,
            ),
            qformer_config=BertConfig(
                hidden_size=96,
                num_attention_heads=4,
                intermediate_size=192,
                num_hidden_layers=2,
                initializer_range=SPREAD,
            ),
            audio_token_id=processor.audio_token_id,
            time_encoding="paper" if arm.encoding else None,
            merging=None if arm.merging == "none" else "paper",
            initializer_range=SPREAD,
        )
    )
    network.config.qformer_config._attn_implementation = "one_query"
    with torch.no_grad():
        network.ln_audio.weight.zero_()
    for part in (network.speech_encoder, network.beats, network.ln_speech, network.ln_audio):
        part.requires_grad_(False)
    return network


def rows_of(seconds: Tensor, n_windows: int) -> Tensor:
    """Look up the row of the table of times for every window of every scene."""
    return torch.stack([window_rows(n_windows, float(each), "paper") for each in seconds])


def audio_tokens(
    network: TimeAudioForConditionalGeneration, windows: Tensor, rows: Tensor, arm: Arm, generator: torch.Generator
) -> Tensor:
    """Return the audio tokens of scenes; arguments as for `tokens_before_and_after`."""
    return tokens_before_and_after(network, windows, rows, arm, generator)[1]


def tokens_before_and_after(
    network: TimeAudioForConditionalGeneration, windows: Tensor, rows: Tensor, arm: Arm, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return tokens `[scene, token, width]` of windows `[scene, window, frame, width]`, before and after merging.

    Args:
        network: Of the arm.
        windows: Whisper's part of the frames, normed.
        rows: Rows of the table of times.
        arm: Says if windows are told their time, and which tokens stay.
        generator: Draws the tokens that stay where that is random.
    """
    n = len(windows)
    windows = torch.cat([windows, windows.new_zeros(*windows.shape[:-1], BEATS_WIDTH)], dim=-1)
    if arm.encoding:
        windows = windows + functional.embedding(rows, network.abs_time_position_embedding)[:, :, None].to(
            windows.dtype
        )
    flat = rearrange(windows, "scene window frame width -> (scene window) frame width")
    hidden, states = (
        rearrange(each, "(scene window) width -> scene window width", scene=n) for each in network.read(flat)
    )
    before = network.speech_llama_proj(hidden)
    if arm.merging == "none":
        return before, before
    return before, network.speech_llama_proj(_merged(network, hidden, states, flat, arm.merging, generator))


def _merged(network, hidden: Tensor, states: Tensor, flat: Tensor, merging: str, generator: torch.Generator) -> Tensor:
    layer = network.speech_Qformer.bert.encoder.layer[-1]
    with torch.no_grad():
        queries, keys = (
            rearrange(
                layer.attention.heads_of(name, rearrange(states, "scene window width -> (scene window) 1 width")),
                "(scene window) head 1 d_head -> scene window head d_head",
                scene=len(hidden),
            )
            for name in ("query", "key")
        )
        if merging == "importance":
            importance = received_attention(queries, keys)
        elif merging == "random":
            importance = torch.rand(hidden.shape[:2], generator=generator, device=hidden.device)
        else:
            flat_states = rearrange(states, "scene window width -> (scene window) 1 width")
            score = layer.crossattention.importance(layer.between(flat_states), flat)
            importance = rearrange(score, "(scene window) -> scene window", scene=len(hidden))
        weights = merge(
            hidden, importance, "paper", keys=rearrange(keys, "scene window head d_head -> scene window (head d_head)")
        ).weights
    return weights @ hidden
