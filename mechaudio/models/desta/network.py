"""DeSTA2.5-Audio as a transformers network, with the parameter names of the released checkpoint.

Whisper's encoder hears the clip. A Q-Former reads the raw outputs of four of its layers, each with 64 queries of that
layer's own and with the same weights; a softmax per query mixes the four, and a norm and a linear map make 64 audio
tokens of them. They stand in the prompt in front of what Whisper understood, written out.

Reference: DeSTA2.5-Audio (arXiv 2507.02768) and its released code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import align_module_device
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LlamaForCausalLM,
    PreTrainedModel,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from mechaudio.models.desta.config import DestaConfig
from mechaudio.models.network import Network, device_of
from mechaudio.models.own_classes import SoundWithThePrompt, WordsOfDecoder, prompt_given, with_sound
from mechaudio.models.salmonn.qformer import Named, QFormerLayer

#: Tokens that a transcript has at most, as released.
LONGEST_TRANSCRIPT = 128


class Recogniser(WhisperForConditionalGeneration):
    """Whisper, which transcribes where it computes, wherever its weights are kept."""

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return device_of(self.model.encoder.conv1)


class Connector(nn.Module):
    """The Q-Former, what it reads with, and the map into the decoder."""

    def __init__(self, config: DestaConfig):
        super().__init__()
        width, n_taps, own = config.audio_config.d_model, len(config.taps), config.qformer_config
        self.layer_prompts = nn.ParameterList(
            nn.Parameter(torch.zeros(1, config.n_queries, width)) for _ in range(n_taps)
        )
        self.layer_weights = nn.Parameter(torch.zeros(config.n_queries, n_taps))
        self.qformer: Network = Named(
            layer=nn.ModuleList(QFormerLayer(own, width, mlp="") for _ in range(own.num_hidden_layers))
        )
        self.proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.text_config.hidden_size))

    def forward(self, tapped: list[Float[Tensor, "clip frame width"]]) -> Float[Tensor, "clip query d_model"]:
        """Return the audio tokens of each clip.

        Args:
            tapped: The outputs of Whisper's layers, in order.
        """
        n_clips = len(tapped[0])
        # All layers at once, as one batch: every module runs once, so that a hook sees all that it does.
        seen = rearrange(torch.stack(tapped), "tap clip frame width -> (clip tap) frame width")
        with align_module_device(self.layer_prompts):
            queries = torch.cat([*self.layer_prompts])
        states = queries.repeat(n_clips, 1, 1)
        for layer in self.qformer.layer:
            states = layer(states, seen)
        read = rearrange(states, "(clip tap) query width -> clip query tap width", clip=n_clips)
        weights = rearrange(self.layer_weights.softmax(-1), "query tap -> query tap 1")
        return self.proj((read * weights).sum(2))


class Desta25ForConditionalGeneration(WordsOfDecoder, SoundWithThePrompt, PreTrainedModel, GenerationMixin):
    """DeSTA2.5-Audio: Whisper, a Q-Former over its layers, and a Llama decoder that was left as it was."""

    config_class = DestaConfig
    config: DestaConfig
    main_input_name = "input_ids"
    audio_inputs = ("input_features",)
    _tied_weights_keys = {  # noqa: RUF012 - as transformers declares it
        "perception.whisper.proj_out.weight": "perception.whisper.model.decoder.embed_tokens.weight"
    }
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = ["LlamaDecoderLayer", "WhisperEncoder", "WhisperDecoderLayer", "Connector"]

    def __init__(self, config: DestaConfig):
        super().__init__(config)
        own = config.qformer_config  # of plain modules, which do not choose their attention function themselves
        own._attn_implementation = own._attn_implementation or config._attn_implementation
        whisper = Recogniser(config.audio_config)
        if config.recognition is not None:
            whisper.generation_config = GenerationConfig(**config.recognition)
        self.perception: Network = Named(whisper=whisper, connector=Connector(config))
        self.llm_model = LlamaForCausalLM(config.text_config)
        self.post_init()

    def _init_weights(self, module: Network) -> None:
        super()._init_weights(module)
        if isinstance(module, Connector):
            spread = self.config.qformer_config.initializer_range
            for queries in module.layer_prompts:
                nn.init.normal_(queries, std=spread)
            nn.init.zeros_(module.layer_weights)

    @property
    def decoder(self) -> LlamaForCausalLM:
        """The language model."""
        return self.llm_model

    def tokens_of(self, input_features: Tensor) -> list[int]:
        """Return how many audio tokens each clip makes."""
        return [self.config.n_queries] * len(input_features)

    def tapped(self, input_features: Float[Tensor, "clip mel mel_frame"]) -> list[Float[Tensor, "clip frame width"]]:
        """Return what the tapped layers of Whisper's encoder pass on, without its last norm."""
        encoder = self.perception.whisper.model.encoder
        states = functional.gelu(encoder.conv1(input_features.to(encoder.conv1.weight.dtype)))
        states = functional.gelu(encoder.conv2(states)).mT
        # Asked for, not read: weights that are kept elsewhere come when their module is called.
        states = states + encoder.embed_positions(
            torch.arange(encoder.embed_positions.num_embeddings, device=states.device)
        )
        outputs = []
        for number, layer in enumerate(encoder.layers):
            states = layer(states, attention_mask=None)
            states = states[0] if isinstance(states, tuple) else states
            if number in self.config.taps:
                outputs.append(states)
        return outputs

    def hear(self, input_features: Float[Tensor, "clip mel mel_frame"]) -> Float[Tensor, "clip query d_model"]:
        """Return the audio tokens of each clip."""
        return self.perception.connector(self.tapped(input_features))

    @torch.no_grad()
    def transcribe(self, samples: Float[np.ndarray, " samples"], processor: Any) -> str:
        """Return what Whisper understands, in words.

        Args:
            samples: A clip at 16 kHz, mono; 30 s of it are heard.
            processor: The processor of this checkpoint.
        """
        rate = processor.feature_extractor.sampling_rate
        features = processor.feature_extractor(samples, sampling_rate=rate, return_tensors="pt")["input_features"]
        whisper = self.perception.whisper
        features = features.to(whisper.device, whisper.dtype)
        ids = whisper.generate(features, max_new_tokens=LONGEST_TRANSCRIPT)
        return processor.whisper_tokenizer.batch_decode(ids, skip_special_tokens=True)[0]

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return next-token logits.

        Args:
            input_ids: Token ids, one placeholder per audio token; transcripts are words like others.
            input_features: Whisper's mel frames `[clip, band, frame]`, 30 s of each clip.
            attention_mask: 1 at real positions.
            position_ids: Positions of the decoder.
            inputs_embeds: In the place of `input_ids` and features.
            labels: Next tokens for a loss, -100 where there is none.
            use_cache: Whether to keep keys and values.
            logits_to_keep: Last positions to give logits of, 0 for all.
            **kwargs: Passed on to the decoder: the cache of a generation, whose name depends on the version of
                transformers.

        Raises:
            ValueError: As many placeholders as audio tokens are needed; neither `input_ids` nor `inputs_embeds`.
        """
        if inputs_embeds is None:
            input_ids = prompt_given(input_ids)
            inputs_embeds = self.get_input_embeddings()(input_ids)
            if input_features is not None:
                audio = input_ids == self.config.audio_token_id
                tokens = rearrange(self.hear(input_features), "clip query d_model -> (clip query) d_model")
                inputs_embeds = with_sound(inputs_embeds, audio, tokens)
        return self.llm_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
