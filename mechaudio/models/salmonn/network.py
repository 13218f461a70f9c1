"""SALMONN and TimeAudio as transformers networks, with the parameter names of the released checkpoints.

Whisper and BEATs hear the clip side by side; their normed outputs, joined along the width, are cut into windows of 17
frames; a query of the Q-Former reads each window, and a linear map makes an audio token of it. TimeAudio adds the row
of a table to the frames of each window, and merges the tokens of long clips.

References: SALMONN (arXiv 2310.13289) and TimeAudio (arXiv 2511.11039) and their released code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from accelerate.utils import align_module_device
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationMixin, LlamaForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mechaudio.models.features import to_the_largest
from mechaudio.models.network import Network
from mechaudio.models.own_classes import SoundWithThePrompt, WordsOfDecoder, prompt_given, with_sound
from mechaudio.models.salmonn.beats import Beats, BeatsAttention, SharedTable
from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.fbank import HOP, RATE
from mechaudio.models.salmonn.lora import LoraLinear, put_lora_in
from mechaudio.models.salmonn.qformer import Named, QFormer
from mechaudio.timeaudio.merging import merge, received_attention
from mechaudio.timeaudio.time_encoding import window_rows

_BIAS = "beats.encoder.layers.{}.self_attn.relative_attention_bias.weight"


class SalmonnForConditionalGeneration(WordsOfDecoder, SoundWithThePrompt, PreTrainedModel, GenerationMixin):
    """SALMONN: Whisper and BEATs, a window Q-Former and a Llama decoder with adapters of low rank."""

    config_class = SalmonnConfig
    main_input_name = "input_ids"
    audio_inputs = ("input_features", "input_features_mask", "filterbank_features", "audio_samples", "audio_merging")
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = [
        "LlamaDecoderLayer",
        "WhisperEncoder",
        "PositionalConvolution",
        "BeatsLayer",
        "QFormerLayer",
    ]

    def __init__(self, config: SalmonnConfig):
        super().__init__(config)
        whisper, beats, qformer = config.audio_config, config.beats_config, config.qformer_config
        for part in (beats, qformer):  # plain modules, which do not choose their attention function themselves
            part._attn_implementation = part._attn_implementation or config._attn_implementation
        self.speech_encoder, self.beats = WhisperEncoder(whisper), Beats(beats)
        self.ln_speech, self.ln_audio = nn.LayerNorm(whisper.d_model), nn.LayerNorm(beats.encoder_embed_dim)
        self.speech_Qformer = QFormer(qformer, whisper.d_model + beats.encoder_embed_dim)
        self.speech_query_tokens = nn.Parameter(torch.zeros(1, 1, qformer.hidden_size))
        self.speech_llama_proj = nn.Linear(qformer.hidden_size, config.text_config.hidden_size)
        decoder = LlamaForCausalLM(config.text_config)
        if config.lora is not None:
            put_lora_in(decoder, config.lora)
        self.llama_model: Network = Named(base_model=Named(model=decoder))
        # The table of biases is the first layer's; the others use it.
        self._tied_weights_keys = {_BIAS.format(layer): _BIAS.format(0) for layer in range(1, beats.encoder_layers)}
        self.post_init()

    def _init_weights(self, module: Network) -> None:
        if isinstance(module, SharedTable):
            return  # the first layer's
        super()._init_weights(module)
        if isinstance(module, BeatsAttention):
            nn.init.ones_(module.grep_a)
        if isinstance(module, LoraLinear):
            nn.init.zeros_(module.lora_B["default"].weight)
        if isinstance(module, SalmonnForConditionalGeneration):
            nn.init.normal_(module.speech_query_tokens, std=self.config.qformer_config.initializer_range)

    @property
    def decoder(self) -> LlamaForCausalLM:
        """The language model."""
        return self.llama_model.base_model.model

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Return which parameters are others: the table of biases is one, whatever the config says of words."""
        return super().get_expanded_tied_weights_keys(all_submodels) | self._tied_weights_keys

    def tokens_of(self, input_features_mask: Tensor, **_others: Tensor) -> list[int]:
        """Return how many audio tokens each clip makes."""
        return [self.config.n_audio_tokens(frames) for frames in input_features_mask.sum(-1).tolist()]

    def encode(
        self,
        input_features: Float[Tensor, "clip mel mel_frame"],
        filterbank_features: Float[Tensor, "clip band frame"],
        input_features_mask: Tensor,
    ) -> list[Float[Tensor, "token width"]]:
        """Return, per clip, the normed outputs of both encoders side by side; the shorter one is filled with zeros."""
        dtype = self.ln_speech.weight.dtype
        input_features, filterbank_features = input_features.to(dtype), filterbank_features.to(dtype)
        frames = input_features_mask.sum(-1).tolist()
        counts, length = [self.config.stretches(count) for count in frames], self.config.stretch
        stretches = [
            input_features[clip, :, number * length : (number + 1) * length]
            for clip, count in enumerate(counts)
            for number in range(count)
        ]
        speech = self.ln_speech(self.speech_encoder(torch.stack(stretches)).last_hidden_state).split(counts)
        sound = self._hear_with_beats(filterbank_features, input_features_mask.bool(), max(frames))
        both = []
        for clip, of_whisper in enumerate(speech):
            of_beats = sound[clip].to(of_whisper.device)
            parts = [rearrange(of_whisper, "stretch token width -> (stretch token) width"), of_beats]
            longest = max(map(len, parts))
            both.append(torch.cat([functional.pad(part, (0, 0, 0, longest - len(part))) for part in parts], dim=-1))
        return both

    def _hear_with_beats(self, filterbank: Tensor, real: Tensor, longest: int) -> Float[Tensor, "clip token width"]:
        if not self.config.beats_per_stretch:
            return self.ln_audio(self.beats(filterbank[..., :longest].mT, ~real[:, :longest]))
        patch = self.config.beats_config.input_patch_size
        each = self.config.stretch // patch * patch
        n = -(-longest // each)
        missing = max(n * each - filterbank.shape[-1], 0)
        pieces = functional.pad(filterbank, (0, missing))[..., : n * each]
        # Whole patches only, so that a piece is heard as if it were the clip.
        whole = real.sum(-1, keepdim=True) // patch * patch
        padding = torch.arange(n * each, device=real.device) >= whole
        heard = self.beats(
            rearrange(pieces, "clip band (piece frame) -> (clip piece) frame band", piece=n),
            rearrange(padding, "clip (piece frame) -> (clip piece) frame", piece=n),
        )
        tokens = rearrange(self.ln_audio(heard), "(clip piece) token width -> clip (piece token) width", piece=n)
        return tokens[:, : self.config.beats_config.tokens_of_frames(longest)]

    def windows(
        self,
        input_features: Tensor,
        filterbank_features: Tensor,
        input_features_mask: Tensor,
        audio_samples: Int[Tensor, " clip"] | None = None,
    ) -> list[Float[Tensor, "window frame width"]]:
        """Return, per clip, the windows that the Q-Former reads.

        Args:
            input_features: Whisper's mel frames, whole stretches of 30 s.
            filterbank_features: BEATs' frames.
            input_features_mask: Which of the latter are real.
            audio_samples: Samples of each clip, by which windows get their times; from the frames, to 5 ms, where they
                are not given.
        """
        both = self.encode(input_features, filterbank_features, input_features_mask)
        each = self.config.frames_per_window
        windows = [
            rearrange(clip[: len(clip) // each * each], "(window frame) width -> window frame width", frame=each)
            for clip in both
        ]
        if audio_samples is None:
            audio_samples = (input_features_mask.sum(-1) + 2) * HOP
        return [
            self._at_its_time(clip, count / RATE) for clip, count in zip(windows, audio_samples.tolist(), strict=True)
        ]

    def _at_its_time(self, windows: Tensor, seconds: float) -> Tensor:  # noqa: ARG002 - SALMONN knows no times
        return windows

    def read(self, windows: Tensor) -> tuple[Float[Tensor, "window width"], Float[Tensor, "window width"]]:
        """Return the Q-Former's vector of every window, and the states that its last layer began with."""
        with align_module_device(self):
            queries = self.speech_query_tokens
        read, before = self.speech_Qformer(queries.expand(len(windows), -1, -1), windows)
        return read[:, 0], before[:, 0].to(read.device)

    def hear(
        self, audio_merging: Tensor | None = None, **features: Tensor | None
    ) -> list[Float[Tensor, "token width"]]:
        """Return the audio tokens of each clip."""
        windows = self.windows(**features)
        counts = [len(clip) for clip in windows]
        read, before = self.read(torch.cat(windows))
        read_of, before_of = read.split(counts), before.split(counts)
        merged = [
            self._merged(of_clip, states, clip, None if audio_merging is None else audio_merging[number])
            for number, (of_clip, states, clip) in enumerate(zip(read_of, before_of, windows, strict=True))
        ]
        projected = self.speech_llama_proj(pad_sequence(merged, batch_first=True))
        return [tokens[: len(clip)] for tokens, clip in zip(projected, merged, strict=True)]

    def _merged(self, read: Tensor, before: Tensor, windows: Tensor, weights: Tensor | None) -> Tensor:  # noqa: ARG002
        return read

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        filterbank_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        audio_samples: Tensor | None = None,
        audio_merging: Tensor | None = None,
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
            input_ids: Token ids, one placeholder per audio token.
            input_features: Whisper's mel frames `[clip, band, frame]`, whole stretches of 30 s.
            filterbank_features: BEATs' frames `[clip, band, frame]`.
            input_features_mask: Which of the latter are real `[clip, frame]`.
            audio_samples: Samples of each clip.
            audio_merging: What each audio token is made of `[clip, token, window]`, where tokens are merged; worked
                out where it is not given.
            attention_mask: 1 at real positions.
            position_ids: Positions of the decoder.
            inputs_embeds: In the place of `input_ids` and features.
            labels: Next tokens for a loss, -100 where there is none.
            use_cache: Whether to keep keys and values.
            logits_to_keep: Last positions to give logits of, 0 for all.
            **kwargs: Passed on to the decoder: the cache of a generation, whose name depends on the version of
                transformers.

        Raises:
            ValueError: As many placeholders as audio tokens are needed; neither `input_ids` nor `inputs_embeds`; some
                only of the three features.
        """
        if inputs_embeds is None:
            input_ids = prompt_given(
                input_ids,
                input_features=input_features,
                filterbank_features=filterbank_features,
                input_features_mask=input_features_mask,
            )
            audio = input_ids == self.config.audio_token_id
            inputs_embeds = self.get_input_embeddings()(input_ids.masked_fill(audio, 0))
            if input_features is not None:
                tokens = torch.cat(
                    self.hear(
                        input_features=input_features,
                        filterbank_features=filterbank_features,
                        input_features_mask=input_features_mask,
                        audio_samples=audio_samples,
                        audio_merging=audio_merging,
                    )
                )
                inputs_embeds = with_sound(inputs_embeds, audio, tokens)
        return self.decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )


class TimeAudioForConditionalGeneration(SalmonnForConditionalGeneration):
    """TimeAudio: SALMONN with a table of times, and with the tokens of long clips merged."""

    config_class = TimeAudioConfig
    config: TimeAudioConfig

    def __init__(self, config: TimeAudioConfig):
        super().__init__(config)
        width = config.audio_config.d_model + config.beats_config.encoder_embed_dim
        self.abs_time_position_embedding = nn.Parameter(torch.zeros(config.n_times, width))

    def _at_its_time(self, windows: Tensor, seconds: float) -> Tensor:
        if self.config.time_encoding is None:
            return windows
        rows = window_rows(len(windows), seconds, self.config.time_encoding, self.config.n_times)
        with align_module_device(self):
            times = self.abs_time_position_embedding[rows.to(self.abs_time_position_embedding.device)]
        return windows + rearrange(times, "window width -> window 1 width").to(windows.device)

    def merging_of(self, **features: Tensor | None) -> Float[Tensor, "clip token window"] | None:
        """Return what each audio token of clips is made of, `None` where nothing is merged."""
        frames = features["input_features_mask"].sum(-1).tolist()
        most = max(self.config.n_windows(count) for count in frames)
        if self.config.merging is None or most <= self.config.windows_of_a_stretch:
            return None
        made = []
        with torch.no_grad():
            for clip in self.windows(**features):
                read, before = self.read(clip)
                made.append(self._weights(read, before, clip))
        return to_the_largest([weights[None] for weights in made])

    def _weights(self, read: Tensor, before: Tensor, windows: Tensor) -> Float[Tensor, "token window"]:
        layer, sizes = self.speech_Qformer.bert.encoder.layer[-1], self.config
        common = {"window": sizes.windows_of_a_stretch, "kept": sizes.kept}
        if sizes.merging == "released":
            importance = layer.crossattention.importance(layer.between(before[:, None]), windows)
            return merge(read, importance, "released", **common).weights
        queries, keys = (
            rearrange(layer.attention.heads_of(name, before[:, None]), "window head 1 d_head -> window head d_head")
            for name in ("query", "key")
        )
        importance = received_attention(queries, keys, sizes.windows_of_a_stretch)
        keys = rearrange(keys, "window head d_head -> window (head d_head)")
        return merge(read, importance, "paper", keys=keys, **common).weights

    def _merged(self, read: Tensor, before: Tensor, windows: Tensor, weights: Tensor | None) -> Tensor:
        if self.config.merging is None or len(read) <= self.config.windows_of_a_stretch:
            return read
        if weights is None:
            with torch.no_grad():
                weights = self._weights(read, before, windows)
        weights = weights[weights.any(-1), : len(read)]  # behind those of its clip, a batch fills up with zeros
        return weights.to(read) @ read
