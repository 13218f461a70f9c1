"""Kimi-Audio as a transformers network, with the parameter names of the released checkpoints.

Two streams of ids run side by side, one of audio and one of text, and their embeddings are added. While only one of
them speaks, the other says `text_blank`; so that one stream of ids says all, which is taken apart inside. An audio
token is the code that GLM-4-voice's speech tokenizer gives its 80 ms, and four frames of Whisper through an adaptor.

Text is read off the decoder's last layer. The release's second branch, six layers from layer 21 on, speaks; it is left
out of generation here, and out of the checkpoint unless it is asked for.

Reference: Kimi-Audio Technical Report (arXiv 2504.18425) and its released code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel, Qwen2Model
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RMSNorm
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mechaudio.models.kimi.config import KimiAudioConfig
from mechaudio.models.kimi.speech_tokenizer import SpeechTokenizer
from mechaudio.models.network import Network
from mechaudio.models.own_classes import SoundWithThePrompt, prompt_given, refuse_another_count
from mechaudio.models.salmonn.qformer import Named

#: Frames of Whisper in one audio token, and mel frames.
FRAMES, MEL_FRAMES = 4, 8


class KimiAudioForConditionalGeneration(SoundWithThePrompt, PreTrainedModel, GenerationMixin):
    """Kimi-Audio: Whisper, a speech tokenizer, an adaptor and a Qwen2 decoder of two streams."""

    config_class = KimiAudioConfig
    config: KimiAudioConfig
    main_input_name = "input_ids"
    audio_inputs = ("input_features", "input_features_mask", "code_features", "audio_codes")
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = ["Qwen2DecoderLayer", "WhisperEncoder", "WhisperEncoderLayer"]
    #: Codes are decided by distances, which rounding moves; the release makes them in full precision.
    _keep_in_fp32_modules_strict = {"audio_tokenizer"}  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: KimiAudioConfig):
        super().__init__(config)
        text, width = config.text_config, config.text_config.hidden_size
        self.speech_encoder = WhisperEncoder(config.audio_config)
        self.audio_tokenizer = SpeechTokenizer(config.codes_config)
        self.model: Network = Qwen2Model(text)
        adaptor = nn.Sequential(
            nn.Linear(FRAMES * config.audio_config.d_model, width),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Linear(width, width),
            nn.LayerNorm(width, eps=text.rms_norm_eps),
        )
        self.model.vq_adaptor = Named(layers=adaptor)
        self.lm_head = nn.Linear(width, text.vocab_size, bias=False)
        if config.mimo_layers:
            self.model.mimo_layers = nn.ModuleList(Qwen2DecoderLayer(text, at) for at in range(config.mimo_layers))
            self.model.mimo_norm = Qwen2RMSNorm(width, eps=text.rms_norm_eps)
            self.mimo_output = nn.Linear(width, text.vocab_size, bias=False)
        self.post_init()

    def codes(
        self, input_features_mask: Tensor, code_features: Tensor | None, audio_codes: Tensor | None = None
    ) -> Int[Tensor, " token"]:
        """Return the codes of all audio tokens, behind one another.

        Args:
            input_features_mask: Which mel frames are sound `[window, frame]`.
            code_features: Mel frames of the speech tokenizer, `[window, band, frame]`.
            audio_codes: Codes that were given, `[window, code]`; the speech tokenizer is not asked then.

        Raises:
            ValueError: Neither features nor codes; or fewer codes than audio tokens.
        """
        if audio_codes is None and code_features is None:
            raise ValueError("audio tokens need codes: pass code_features (the processor gives them) or audio_codes")
        every: Tensor = self.audio_tokenizer(code_features, input_features_mask) if audio_codes is None else audio_codes
        counted = self._counted(input_features_mask.to(every.device), every.shape[-1])
        codes = every[:, : counted.shape[-1]][counted[:, : every.shape[-1]]]
        if counted.shape[-1] > every.shape[-1] or (len(codes) and int(codes.min()) < 0):
            raise ValueError("audio_codes hold fewer codes than a window makes audio tokens: one for every 80 ms")
        return codes

    def tokens_of(self, input_features_mask: Tensor, **_others: Tensor) -> list[int]:
        """Return how many audio tokens each window makes."""
        return self._counted(input_features_mask, 0).sum(-1).tolist()

    def _counted(self, mask: Tensor, width: int) -> Bool[Tensor, "window token"]:
        """Mark those of so many tokens of every window that are audio tokens; of more, if a window makes them."""
        counts = (mask.sum(-1) + MEL_FRAMES - 1) // MEL_FRAMES
        longest = max(width, int(counts.max()))
        return torch.arange(longest, device=mask.device) < rearrange(counts, "window -> window 1")

    def hear(self, input_features: Tensor, input_features_mask: Tensor) -> Float[Tensor, "token d_model"]:
        """Return what the adaptor makes of Whisper's frames, for all audio tokens, behind one another."""
        frames = self.speech_encoder(input_features.to(self.speech_encoder.conv1.weight.dtype)).last_hidden_state
        whole = frames[:, : frames.shape[1] // FRAMES * FRAMES]
        together = rearrange(whole, "window (token frame) width -> window token (frame width)", frame=FRAMES)
        counted = self._counted(input_features_mask.to(together.device), together.shape[1])
        return self.model.vq_adaptor.layers(together[counted])

    def embed(
        self,
        input_ids: Int[Tensor, "batch position"],
        codes: Int[Tensor, " token"] | None = None,
        heard: Float[Tensor, "token d_model"] | None = None,
    ) -> Float[Tensor, "batch position d_model"]:
        """Return the sum of both streams' embeddings.

        Args:
            input_ids: The joined stream.
            codes: Of all audio tokens, in order.
            heard: What Whisper hears in them.

        Raises:
            ValueError: As many placeholders as audio tokens are needed.
        """
        blank, embeddings = self.config.text_blank_id, self.model.embed_tokens
        audio = input_ids == self.config.audio_token_id
        control = torch.tensor(self.config.audio_stream_ids, device=input_ids.device)
        in_audio = torch.isin(input_ids, control)
        first = torch.where(in_audio, input_ids, blank)
        second = torch.where(in_audio | audio, blank, input_ids)
        if codes is None or heard is None:
            return embeddings(first) + embeddings(second)
        refuse_another_count(len(codes), audio)
        first = first.masked_scatter(audio, codes.to(first.device) + self.config.codes_offset)
        audio_stream, text_stream = embeddings(first), embeddings(second)
        audio = audio.to(audio_stream.device)
        sounding = (audio_stream[audio] + heard.to(audio_stream)) * 2**0.5
        return audio_stream.masked_scatter(audio[..., None], sounding) + text_stream

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        code_features: Tensor | None = None,
        audio_codes: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return next-token logits of text.

        Args:
            input_ids: Both streams as one, a placeholder per audio token.
            input_features: Whisper's mel frames `[window, band, frame]`, windows of 30 s.
            input_features_mask: Which of them are sound `[window, frame]`.
            code_features: The speech tokenizer's mel frames `[window, band, frame]`.
            audio_codes: Codes in their place `[window, code]`, filled up with -1.
            attention_mask: 1 at real positions.
            position_ids: Positions of the decoder.
            inputs_embeds: In the place of `input_ids` and features.
            labels: Next tokens of text for a loss, -100 where there is none.
            use_cache: Whether to keep keys and values.
            logits_to_keep: Last positions to give logits of, 0 for all.
            **kwargs: Passed on to the decoder: the cache of a generation, whose name depends on the version of
                transformers.

        Raises:
            ValueError: As many placeholders as audio tokens are needed, and codes for all of them; neither `input_ids`
                nor `inputs_embeds`; features without their mask, or a mask without features.
        """
        if inputs_embeds is None:
            input_ids = prompt_given(input_ids, input_features=input_features, input_features_mask=input_features_mask)
            codes = heard = None
            if input_features is not None and input_features_mask is not None:
                codes = self.codes(input_features_mask, code_features, audio_codes)
                heard = self.hear(input_features, input_features_mask)
            inputs_embeds = self.embed(input_ids, codes, heard)
        out = self.model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=out.past_key_values)

    def branch(
        self, inputs_embeds: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch position d_model"], Float[Tensor, "batch position vocabulary"]]:
        """Return the last states of the branch that speaks, and its logits of codes.

        It is no part of `forward` and of generation.

        Args:
            inputs_embeds: As `embed` gives them.
            attention_mask: 1 at real positions.

        Raises:
            ValueError: The checkpoint was assembled without it.
        """
        if not self.config.mimo_layers:
            raise ValueError("this Kimi-Audio was assembled without the branch that speaks: audio_branch=True keeps it")
        trunk = self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, output_hidden_states=True)
        states = trunk.hidden_states[self.config.mimo_from + 1]
        positions = torch.arange(states.shape[1], device=states.device)[None]
        if attention_mask is not None:
            positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        mask = create_causal_mask(
            config=self.config.text_config,
            inputs_embeds=states,
            attention_mask=attention_mask,
            past_key_values=None,
            position_ids=positions,
        )
        rotary = self.model.rotary_emb(states, positions)
        for layer in self.model.mimo_layers:
            states = layer(states, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
            states = states[0] if isinstance(states, tuple) else states
        states = self.model.mimo_norm(states)
        return states, self.mimo_output(states)
