"""DeSTA2.5-Audio: four layers of Whisper, a Q-Former of 64 queries, a transcript, and Llama 3.1 left as it was."""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, WHISPER_ENCODER, Adapter, End, Stack, TokenTiming

_TIMELESS = "each of the 64 audio tokens reads the whole clip"

QFORMER = Stack(
    layers="perception.connector.qformer.layer",
    attention="crossattention",
    mid_norm="crossattention.output.LayerNorm",
    mlp="output.dense",
    down="",
    norm=None,
    config="qformer_config",
    output="output.dense",
    between={"attention": "its queries' attention to one another and a norm", "mlp": "a norm"},
    end=End("a norm", "output.LayerNorm"),
    absent={"norm": "each layer ends in a norm of its own, so the last resid_post is normed"},
    frames_of=_TIMELESS,
)

DESTA_25 = Adapter(
    family="desta25",
    network_class="Desta25ForConditionalGeneration",
    network="mechaudio.models.desta.network:Desta25ForConditionalGeneration",
    processor="mechaudio.models.desta.processor:DestaProcessor",
    checkpoints=(),
    parts=("DeSTA-ntu/DeSTA2.5-Audio-Llama-3.1-8B",),
    decoder=replace(DECODER, layers="llm_model.model.layers", norm="llm_model.model.norm"),
    encoder=replace(
        WHISPER_ENCODER,
        layers="perception.whisper.model.encoder.layers",
        norm=None,
        absent={"norm": "the Q-Former reads the raw outputs of layers, the last one's too"},
    ),
    tower="whisper",
    towers={"qformer": QFORMER},
    decoder_module="llm_model.model",
    unembed="llm_model.lm_head",
    projector="perception.connector.proj",
    timing=TokenTiming(
        samples=7500,
        window=480_000,
        long_clips="cut",
        pads_to_window=True,
        steps=((3, 2, 1),),
        counted_by="n_audio_tokens",
        timeless=_TIMELESS,
    ),
    features_mask=None,
    system="Focus on the audio clips and instructions.",
    transcribes="transcribe",
    exceptions=(
        "it is a class of mechaudio, not of transformers. Its checkpoint is what lies between Whisper and Llama: "
        "`mechaudio assemble desta` puts the three together once",
        "each of the 64 audio tokens of a clip reads all of it and has no time: methods that go over seconds "
        "refuse them",
        (
            "the words that are said in a clip stand in the prompt behind its audio tokens, as the span transcript. "
            'They are given (`meta["transcript"]`) or written by `model.processor.recogniser`, by default the '
            "network's own Whisper"
        ),
        "`condition='silence'` keeps the clip's transcript, so that no position moves; "
        "`condition='silence_no_transcript'` has the transcript of silence, a blank",
        "it has two audio towers: audio_blocks are Whisper's layers, `model.towers['qformer']` is the other. It "
        "reads four of Whisper's layers with the same weights: its tensors have clips times layers along their "
        "first axis. Its attention is that of 64 queries to 1500 frames of 20 ms",
    ),
)
