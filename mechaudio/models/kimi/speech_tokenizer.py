"""GLM-4-voice's speech tokenizer: an encoder whose outputs become codes, 12.5 a second.

Half of a Whisper encoder, with convolutions that hear no later frame, and attention in blocks of 4 s: frames see their
own block and all before it. Four frames are averaged, and the nearest row of the codebook is the code. Parameters are
named as in the released checkpoint.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from mechaudio.models.kimi.config import SpeechTokenizerConfig


class CausalConvolution(nn.Conv1d):
    """A convolution that hears no later frame."""

    def forward(self, states: Tensor) -> Tensor:
        """Return the frames; those before the first are zeros."""
        return super().forward(functional.pad(states, (self.kernel_size[0] - 1, 0)))


class Codebook(nn.Embedding):
    """The codes' own vectors."""

    def forward(self, vectors: Float[Tensor, "window code width"]) -> Int[Tensor, "window code"]:
        """Return the codes whose vectors are nearest."""
        rows = self.weight
        return ((rows**2).sum(-1) - 2 * vectors @ rows.mT).argmin(-1)


class SpeechTokenizer(PreTrainedModel):
    """The encoder and its codebook."""

    config_class = SpeechTokenizerConfig
    main_input_name = "input_features"
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = ["WhisperEncoderLayer"]

    def __init__(self, config: SpeechTokenizerConfig):
        super().__init__(config)
        width = config.d_model
        self.conv1 = CausalConvolution(config.num_mel_bins, width, kernel_size=3)
        self.conv2 = CausalConvolution(width, width, kernel_size=3, stride=2)
        self.embed_positions = nn.Embedding(config.max_source_positions, width)
        self.layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(config.quantize_position))
        self.codebook = Codebook(config.quantize_vocab_size, width)
        self.post_init()

    def forward(
        self,
        input_features: Float[Tensor, "window mel mel_frame"],
        input_features_mask: Tensor,
    ) -> Int[Tensor, "window code"]:
        """Return the codes of every window, those behind its end among them.

        Args:
            input_features: Mel frames, a multiple of eight; filled up with those of silence to whole codes.
            input_features_mask: Which of them are sound `[window, mel_frame]`.
        """
        width = input_features.shape[-1]
        states = functional.gelu(self.conv1(input_features.to(self.conv1.weight.dtype)))
        states = functional.gelu(self.conv2(states)).mT
        # Asked for, not read: weights that are kept elsewhere come when their module is called.
        positions = self.embed_positions(torch.arange(width // 2, device=states.device))
        states = states + positions.to(states.device)
        real = functional.pad(input_features_mask.bool(), (0, max(width - input_features_mask.shape[-1], 0)))
        mask = self._blocks(real[:, :width:2], states.dtype)
        for layer in self.layers:
            states = layer(states, attention_mask=mask)
            states = states[0] if isinstance(states, tuple) else states
        together = self.config.pooling_kernel_size
        return self.codebook(reduce(states, "window (code frame) width -> window code width", "mean", frame=together))

    def _blocks(self, real: Bool[Tensor, "window frame"], dtype: torch.dtype) -> Float[Tensor, "window 1 frame frame"]:
        """The mask that is added to scores: nothing where a frame is seen, minus infinity elsewhere."""
        frames = torch.arange(real.shape[-1], device=real.device)
        block = frames // self.config.quantize_causal_block_size
        seen = (block[:, None] >= block[None]) & rearrange(real, "window key -> window 1 1 key")
        return torch.zeros(seen.shape, dtype=dtype, device=real.device).masked_fill(~seen, -torch.inf)
