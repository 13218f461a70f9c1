"""Completion offers our words and what works, and leaves out what only nnsight and we ourselves use."""

import mechaudio as ma


def offered(value):
    return [name for name in dir(value) if not name.startswith("_")]


def test_a_model_offers_its_own_words_the_networks_parts_and_the_verb_of_nnsight(tiny):
    names = offered(tiny)
    assert {"blocks", "audio_blocks", "embed", "final_norm", "logits", "n_layers", "processor", "trace"} <= set(names)
    assert {"model", "lm_head"} <= set(names)
    assert not {"OVERLOAD_PREFIX", "exchange", "interleave", "interleaver", "root", "sites", "save"} & set(names)
    for name in (
        set(names)
        - {"input", "inputs", "output", "embed", "final_norm", "logits", "source"}
        - {
            "audio_final_norm",
            "projector_out",
        }
    ):
        assert hasattr(tiny, name), "those left out here are read inside a block alone"


def test_a_block_offers_the_hook_points_that_it_has(tiny):
    assert offered(tiny.blocks[0]) == [
        "attn",
        "attn_out",
        "mlp",
        "mlp_out",
        "mlp_post",
        "resid_mid",
        "resid_post",
        "resid_pre",
    ]
    assert offered(tiny.blocks[0].attn) == ["at", "k", "pattern", "q", "result", "scores", "v", "z"]
    assert offered(tiny.blocks) == ["count", "index"]


def test_save_is_offered_where_it_works_and_not_elsewhere(tiny):
    questions = ma.data.soundscapes.questions(1, seed=0)
    batch = ma.prompt(tiny, questions)
    run = ma.run(tiny, batch, record=["z"])
    for value in (run, ma.evaluate(tiny, questions), questions[0].clip()):
        assert "save" in offered(value)
    others = (questions[0], batch, run.cache, questions[0].events[0], batch.clock[0], ma.answer(tiny, batch)[0])
    interventions = (ma.KnockOutAttention(), ma.HookPoint("z"), ma.grid(ma.ScaleAttention, layers=[0], factor=[1.0]))
    for value in (*others, *interventions, tiny.blocks[0], tiny.blocks[0].attn, tiny.blocks):
        assert "save" not in offered(value), type(value).__name__


def test_a_run_is_saved_by_its_own_save_and_not_by_that_of_nnsight(tiny, tmp_path):
    run = ma.run(tiny, ma.prompt(tiny, ma.data.soundscapes.questions(1, seed=0)))
    assert run.save(tmp_path / "run") == tmp_path / "run"
    assert (tmp_path / "run" / "result.json").is_file()
