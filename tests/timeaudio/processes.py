"""A short run of training, alone or, as a program that is given its folder, by two processes together.

The program gives its processes the environment that `accelerate launch --cpu` gives its own, and forks them when all is
imported, which takes longer than the training.
"""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import torch

import mechaudio as ma
from mechaudio.timeaudio import Stage, add_markers, train
from tests.families.build import network, processor


def opened(family: str, markers: bool = True, dtype: torch.dtype = torch.float32) -> ma.AudioLM:
    built, made = network(family, dtype), processor(family)
    if markers and "<a_0>" not in made.tokenizer.get_vocab():
        add_markers(built, made.tokenizer)
    return ma.AudioLM(built, made, prove=False)


def three_questions():
    rng = np.random.default_rng(0)
    clips = [
        ma.AnnotatedClip((rng.normal(size=16_000 * 2).astype(np.float32) * 0.1, 16_000), [event], id=f"clip {n}")
        for n, event in enumerate((ma.Event("dog", 0.2, 1.0), ma.Event("rain", 0.5, 1.8), ma.Event("bell", 1.1, 1.6)))
    ]
    return ma.data.ftar.build(clips, ["tag"], splits={"train": 1.0})


def main(folder: str | Path) -> None:
    stage = Stage({"lora": 1e-3, "adapter": 1e-3}, epochs=1, batch_size=4, lora_dropout=0.0)
    gone = ma.AudioQuestion(Path("nowhere.wav"), "When?", answer="0.1 - 0.2", id="gone")
    train(opened("qwen2_audio"), [*three_questions(), gone], out=folder, preset=stage, steps=3)


def main_of_two(folder: str | Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    os.environ.update(address, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", ACCELERATE_USE_CPU="true")
    other = os.fork()
    os.environ.update(dict.fromkeys(("RANK", "LOCAL_RANK"), "0" if other else "1"))
    main(folder)
    if other and os.waitpid(other, 0)[1]:
        raise ChildProcessError("the second process failed: its traceback is above")


if __name__ == "__main__":
    main_of_two(sys.argv[1])
