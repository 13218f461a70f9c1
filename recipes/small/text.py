"""Keeps the decoder a language model: texts that the untouched SmolLM2 writes, and a pull towards its predictions.

No text is carried along. Instructions and openings are made from templates, SmolLM2 goes on from them, and while the
sound is learnt the changed decoder is asked to predict those texts as the untouched one does.
"""

from itertools import product

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from mechaudio.models.small.language import SYSTEM_TURN, TURN_END

LENGTH = 160
_TOPICS = (
    "rain, bread, the moon, volcanoes, a long journey, music, the heart, money, dogs, winter, bridges, the sea, time, "
    "electricity, a birthday, honesty, football, coffee, the Roman Empire, dreams, trees, mathematics, friendship, "
    "trains, the immune system, cities, a garden, photography, an argument, elections, fire, language, sleep, rivers, "
    "chess, robots, the weather, a letter, farming, mountains, salt, glass, patience, insects, paper, law, dance, the "
    "brain, ships, school, fish, gravity, a museum, the future, medicine, painting, soup, energy, islands, birds"
).split(", ")
_INSTRUCTIONS = (
    "Explain {} to a child.",
    "Write a short story about {}.",
    "Write one sentence about {}.",
    "What is interesting about {}?",
    "Give me three facts about {}.",
    "Write a poem about {}.",
    "Why does {} matter?",
    "Summarise what people should know about {}.",
    "Compare {} with {other}.",
    "Name three things that have to do with {}.",
    "Write an email to a friend about {}.",
    "What are common mistakes when talking about {}?",
    "Make a list of questions about {}.",
    "How has {} changed in the last hundred years?",
    "Is {} more important than {other}? Answer briefly.",
    "Write a Python function that has something to do with {}.",
)
_OPENINGS = (
    "The history of {} begins",
    "In this chapter we look at {}.",
    "{} is",
    "Most people think of {} as",
    '"I never cared much about {}," she said,',
    "How to learn about {}:",
    "The relation between {} and {other} has",
    "It was late in the evening, and the talk had turned to {}.",
    "Scientists who study {} have found that",
    "Once upon a time there was a man who loved {}.",
    "A beginner's guide to {}\n\n",
    "The town is known for {}.",
    "Last year, a report on {} said",
    "There are several reasons why {}",
    "Unlike {other}, {}",
    "On a cold morning in March, {}",
)


def beginnings(seed: int, count: int) -> tuple[list[str], list[str]]:
    """Instructions as SmolLM2 is given them, and openings of plain texts: `count` of each."""
    rng = np.random.default_rng([seed, 55])

    def filled(templates: tuple[str, ...]) -> list[str]:
        pairs = list(product(templates, _TOPICS))
        chosen = rng.permutation(len(pairs))
        made = []
        for index in np.resize(chosen, count):
            template, topic = pairs[index]
            text = template.format(topic, other=str(rng.choice(_TOPICS)))
            made.append(text[0].upper() + text[1:])
        return made

    turn = SYSTEM_TURN + "<|im_start|>user\n{}" + TURN_END + "\n<|im_start|>assistant\n"
    return [turn.format(text) for text in filled(_INSTRUCTIONS)], filled(_OPENINGS)


@torch.no_grad()
def written(network: torch.nn.Module, tokenizer: Tokenizer, seed: int, count: int, rows: int) -> torch.Tensor:
    """What SmolLM2 writes: `[texts, LENGTH]` tokens, -1 after the end; half are answers, half plain texts.

    Args:
        network: The network before anything is trained.
        tokenizer: Its tokenizer.
        seed: Which topics, and which texts are drawn.
        count: How many of each half.
        rows: How many are written at once.
    """
    device = next(network.parameters()).device
    end, padding = tokenizer.token_to_id(TURN_END), tokenizer.token_to_id("<|endoftext|>")
    torch.manual_seed(seed)
    texts = []
    for half in beginnings(seed, count):
        for at in range(0, count, rows):
            prompts = [tokenizer.encode(text, add_special_tokens=False).ids for text in half[at : at + rows]]
            width = max(map(len, prompts))
            ids = torch.full((len(prompts), width), padding)
            for row, prompt in enumerate(prompts):
                ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
            out = network.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=LENGTH - 48,
                do_sample=True,
                top_k=0,
                temperature=1.0,
                eos_token_id=end,
                pad_token_id=padding,
            ).cpu()
            for prompt, row in zip(prompts, out, strict=True):
                answer = row[width:].tolist()
                answer = answer[: answer.index(padding)] if padding in answer else answer
                text = (prompt + answer)[:LENGTH]
                texts.append(torch.tensor(text + [-1] * (LENGTH - len(text))))
    return torch.stack(texts)


def divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean Kullback-Leibler divergence in nats from the teacher's predictions to the student's, given logits."""
    return functional.kl_div(
        student.float().log_softmax(-1), teacher.float().log_softmax(-1), reduction="batchmean", log_target=True
    )


@torch.no_grad()
def perplexity(network: torch.nn.Module, tokenizer: Tokenizer, text: str) -> float:
    """Perplexity of the paragraphs of a text, each read from its beginning; the first token of each is given."""
    device = next(network.parameters()).device
    loss, count = 0.0, 0
    for paragraph in text.strip().split("\n\n"):
        ids = torch.tensor([tokenizer.encode(paragraph, add_special_tokens=False).ids], device=device)
        logits = network(input_ids=ids).logits[0, :-1].float()
        loss += functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return float(np.exp(loss / count))
