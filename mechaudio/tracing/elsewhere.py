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
_OF_HEADS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")
_OF_NEURONS = ("W_in", "W_out", "W_gate", "b_in", "b_out")
_PARTS = "ma.analyses.direct_logit_attribution(model, questions): what each layer, head and MLP writes to the logits"
_MEASURED = "ma.analyses.logit_lens(model, questions), which reads each layer through the final norm"
_MADE = "nothing to set: hook points are computed where record= or a trace block asks for them"

#: What a model is asked for elsewhere, and what does it here.
OF_MODEL: Mapping[str, str] = {
    **dict.fromkeys(("run_with_cache", "cache", "cache_all", "get_caching_hooks"), _CACHE),
    **dict.fromkeys(("run_with_hooks", "add_hook", "add_perma_hook", "hooks", "reset_hooks"), _HOOKS),
    **dict.fromkeys(("to_tokens", "to_str_tokens", "to_string", "to_single_token", "prepend_bos"), _TOKENS),
    "tokenizer": "model.processor.tokenizer",
    **dict.fromkeys(
        ("cfg", "num_layers", "num_heads", "hidden_size", "vocab_size", "d_head", "d_mlp", "d_vocab", "n_ctx"),
        "model.n_layers, model.n_heads, model.d_model; all else is in model.network.config",
    ),
    **dict.fromkeys(
        ("hook_dict", "mod_dict", "hook_points"), "model.site_map, every hook point; `mechaudio check` lists them"
    ),
    **dict.fromkeys(("W_E", "token_embeddings", "embed_tokens"), _WEIGHTS.format("input_embeddings")),
    **dict.fromkeys(
        ("W_U", "unembed", "project_on_vocab", "tokens_to_residual_directions"),
        _WEIGHTS.format("output_embeddings"),
    ),
    **dict.fromkeys(
        (*_OF_HEADS, "b_U", "QK", "OV", *_OF_NEURONS, "W_pos", "pos_embed"),
        _OWN,
    ),
    **dict.fromkeys(("set_use_attn_result", "set_use_split_qkv_input", "set_use_hook_mlp_in"), _MADE),
    **dict.fromkeys(
        ("layers", "layers_output", "layers_input", "h"),
        "model.blocks[3].resid_post and .resid_pre; the audio tower's are in model.audio_blocks",
    ),
    **dict.fromkeys(
        ("attention_probabilities", "attentions", "attentions_output"), "model.blocks[3].attn.pattern and .attn_out"
    ),
    **dict.fromkeys(("mlps", "mlps_output"), "model.blocks[3].mlp_out"),
    **dict.fromkeys(("logit_lens", "get_topk_closest_tokens"), _MEASURED),
    **dict.fromkeys(
        ("next_token_probs", "loss_fn"), "ma.run(model, batch, logits='last').logits, with torch's softmax"
    ),
    **dict.fromkeys(
        ("fold_layer_norm", "center_writing_weights", "center_unembed", "fold_value_biases", "accumulated_bias"),
        "nothing to fold: weights stay as they were released, and lenses go through the final norm",
    ),
    "transformer": "model.network, whose parts keep their names in transformers",
    "scan": "ma.run(model, batch, record=[...]).cache, which lists every shape",
    **dict.fromkeys(("skip_layers", "steer"), "interventions=[ma.Steer(...)] or [ma.KnockOutAttention(...)] of ma.run"),
    "ln_final": "model.final_norm",
    **dict.fromkeys(("audio", "encoder"), "model.audio_blocks[1].resid_post, or record=['audio.resid_post']"),
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
    "self_attn": "model.{here}.attn, and {here}.attn_out for what it adds",
    "ln1": "model.{here}.resid_pre is what enters it",
    "ln2": "model.{here}.resid_mid is what enters it",
    **{point: f"model.{{here}}.attn.{point}" for point in ATTENTION_POINTS},
}
OF_ATTENTION: Mapping[str, str] = {
    "output": "model.{layer}.attn_out",
    "attn_out": "model.{layer}.attn_out",
    "input": "model.{layer}.resid_pre",
    **dict.fromkeys(_OF_HEADS, _OWN),
}
OF_MLP: Mapping[str, str] = {
    "output": "model.{layer}.mlp_out",
    "mlp_out": "model.{layer}.mlp_out",
    "input": "model.{layer}.resid_mid is what enters its norm",
    "mlp_post": "model.{layer}.mlp_post",
    **dict.fromkeys((*_OF_NEURONS, "gate_proj", "up_proj", "down_proj"), _OWN),
}

#: What a cache of a run, and the run itself, are asked for elsewhere.
OF_CACHE: Mapping[str, str] = {
    "stack_activation": "cache.stack('resid_post')",
    **dict.fromkeys(("logit_attrs", "decompose_resid", "get_full_resid_decomposition"), _PARTS),
    **dict.fromkeys(("stack_head_results", "compute_head_results"), "record=['result'] and cache.stack('result')"),
    **dict.fromkeys(("stack_neuron_results", "get_neuron_results"), "record=['mlp_post'] and cache.stack('mlp_post')"),
    **dict.fromkeys(("accumulated_resid", "apply_ln_to_stack"), _MEASURED),
    **dict.fromkeys(("to", "cpu", "cuda"), "cache['resid_post', 3].to(device), tensor by tensor"),
    "remove_batch_dim": "cache['resid_post', 3][0]",
    "toggle_autodiff": "with ma.trace(model, batch): ..., as what a run keeps carries no gradients",
}
OF_RUN: Mapping[str, str] = {
    **dict.fromkeys(("shape", "argmax", "softmax", "log_softmax", "to", "cpu", "detach"), "out.logits, a tensor"),
    **dict.fromkeys(("hidden_states", "activations"), "record=['resid_post'] and out.cache.stack('resid_post')"),
    "attentions": "record=['pattern'] and out.cache.stack('pattern')",
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
