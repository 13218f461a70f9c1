"""Words of TransformerLens, nnsight, nnterp and transformers: what they are called here.

The names of hook points work as attributes as they do in `record=` (`blocks[3].attn.hook_pattern`). What is done in
another way is named in one line.
"""

from __future__ import annotations

from collections.abc import Mapping

from mechaudio.tracing.hook_points import ATTENTION_POINTS, parse

_CACHE = "ma.run(model, batch, record=['resid_post', 'pattern']).cache, or with ma.trace(model, batch): ..."
_HOOKS = "ma.run(model, batch, interventions=[ma.Edit(ma.HookPoint('resid_post'), function)])"
_TOKENS = "ma.prompt(model, questions).inputs['input_ids'], and model.processor.tokenizer for texts"
_WEIGHTS = "model.network.get_{}().weight: weights are those of the transformers module"
_OWN = "the weights of the transformers module, model.network: its named_parameters() lists them"

#: What a model is asked for elsewhere, and what does it here.
OF_MODEL: Mapping[str, str] = {
    **dict.fromkeys(("run_with_cache", "cache", "cache_all", "get_caching_hooks"), _CACHE),
    **dict.fromkeys(("run_with_hooks", "add_hook", "add_perma_hook", "hooks", "reset_hooks"), _HOOKS),
    **dict.fromkeys(("to_tokens", "to_str_tokens", "to_string", "to_single_token", "prepend_bos"), _TOKENS),
    "tokenizer": "model.processor.tokenizer",
    **dict.fromkeys(
        ("cfg", "num_layers", "num_heads", "hidden_size", "vocab_size", "d_head", "d_mlp", "d_vocab"),
        "model.n_layers, model.n_heads, model.d_model; all else is in model.network.config",
    ),
    **dict.fromkeys(("hook_dict", "hook_points"), "model.site_map, every hook point; `mechaudio check` lists them"),
    **dict.fromkeys(("W_E", "token_embeddings", "embed_tokens"), _WEIGHTS.format("input_embeddings")),
    **dict.fromkeys(("W_U", "unembed", "project_on_vocab"), _WEIGHTS.format("output_embeddings")),
    **dict.fromkeys(
        ("layers", "layers_output", "layers_input", "h"),
        "model.blocks[3].resid_post and .resid_pre; the audio tower's are in model.audio_blocks",
    ),
    **dict.fromkeys(
        ("attention_probabilities", "attentions", "attentions_output"), "model.blocks[3].attn.pattern and .attn_out"
    ),
    **dict.fromkeys(("mlps", "mlps_output"), "model.blocks[3].mlp_out"),
    **dict.fromkeys(("skip_layers", "steer"), "interventions=[ma.Steer(...)] or [ma.KnockOutAttention(...)] of ma.run"),
    "ln_final": "model.final_norm",
    **{
        verb: f"ma.{verb}(model, batch)"
        for verb in ("run", "answer", "sweep", "evaluate", "prompt", "generate_variants", "listen")
    },
}

#: What a layer or its attention is asked for elsewhere.
OF_LAYER: Mapping[str, str] = {
    "output": "model.{here}.resid_post",
    "input": "model.{here}.resid_pre",
    "inputs": "model.{here}.resid_pre",
    "mlp": "model.{here}.mlp_post, the neurons, and model.{here}.mlp_out, what they add",
    "self_attn": "model.{here}.attn, and {here}.attn_out for what it adds",
    "ln1": "model.{here}.resid_pre is what enters it",
    "ln2": "model.{here}.resid_mid is what enters it",
    **{point: f"model.{{here}}.attn.{point}" for point in ATTENTION_POINTS},
}
OF_ATTENTION: Mapping[str, str] = {
    "output": "model.{layer}.attn_out",
    "attn_out": "model.{layer}.attn_out",
    "input": "model.{layer}.resid_pre",
    **dict.fromkeys(("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"), _OWN),
}


def hook_point(name: str) -> str | None:
    """The hook point that a name of TransformerLens stands for, without a layer; None for another name.

    >>> hook_point("hook_resid_post"), hook_point("resid_pots")
    ('resid_post', None)
    """
    try:
        point, layer = parse(name)
    except KeyError:
        return None
    return point if layer is None else None
