"""The tuned lens: an affine translator per depth, trained so that the lens behind it predicts the model's own output.

Belrose et al., *Eliciting Latent Predictions from Transformers with the Tuned Lens* (arXiv 2303.08112). At depth
*l* the residual stream *h* is read out as logit_lens(*h* + *A h* + *b*), with *A* and *b* zero at the start, so that
training starts from the plain lens; the loss is the KL divergence from the model's output distribution to the lens'.
The network itself is not trained. Optimiser: Adam with a learning rate that falls linearly to zero and gradients
clipped to length 1 at every depth. The paper trains by gradient descent with momentum on many more tokens.

Conventions: depth 0 is what enters the first layer, depth `i + 1` what leaves layer `i`; the last depth has no
translator, as it is the output; KL in nats, the mean over positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.analyses.halves import clips_of, in_calibration
from mechaudio.analyses.lenses.residual_stream import depth_names, residual_stream
from mechaudio.analyses.streaming import Questions, asked_anew
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics import checked
from mechaudio.metrics.choices import REMEDY_OF_NAN
from mechaudio.models.positions import Where
from mechaudio.models.prompt import condition_of, prompt
from mechaudio.progress import bar
from mechaudio.question import NO_QUESTIONS, AudioQuestion
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.unembedding import read_out


@dataclass(frozen=True, eq=False, kw_only=True)
class TunedLens(Result):
    """Trained translators, and how well they do on questions that they were not trained on.

    Attributes:
        depths: Depths of the translators: `embed`, then every layer but the last.
        weight: What is added to the identity, *A*.
        bias: *b*.
        loss: KL while training, of the rows of each step.
        plain_kl: KL from the model's output to the plain lens, per held-out question.
        tuned_kl: To the tuned lens, of the same questions.
        held_out: Ids of these questions.
        trained_on: Ids of the others.
    """

    depths: tuple[str, ...]
    weight: Float[np.ndarray, "depth d_model d_model"]
    bias: Float[np.ndarray, "depth d_model"]
    loss: Float[np.ndarray, "step depth"]
    plain_kl: Float[np.ndarray, "question depth"]
    tuned_kl: Float[np.ndarray, "question depth"]
    held_out: tuple[str, ...]
    trained_on: tuple[str, ...]

    _table_axes = ("question", "depth")
    _labels = (("held_out", "question"),)

    @property
    def _summary(self) -> str:
        return f"{self.tuned_kl.mean():.3f} nats from the output, {self.plain_kl.mean():.3f} untuned"

    def translate(self, depth: int, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The residual stream of a depth as the last layer would put it; in float32, then as it came."""
        weight = torch.from_numpy(self.weight[depth]).to(states.device)
        bias = torch.from_numpy(self.bias[depth]).to(states.device)
        return _translated(states, weight, bias)

    def refuse_other(self, model: AudioLM) -> None:
        """Raise for a model that the lens was not trained on.

        Raises:
            ValueError: Its depth or width is another, or it was loaded from elsewhere.
        """
        size, own = (len(depth_names(model)) - 1, model.d_model), self.bias.shape
        if size != own or self.provenance.checkpoint != model.checkpoint:
            raise ValueError(
                f"this lens was trained on {self.provenance.checkpoint!r} with {own[0]} depths of width {own[1]}, and "
                f"the model is {model.checkpoint!r} with {size[0]} of width {size[1]}: train one for it with "
                "ma.analyses.tuned_lens"
            )


@checks_arguments
def tuned_lens(
    model: AudioLM,
    questions: Questions,
    *,
    positions: Where | None = None,
    steps: int = 250,
    rows: int = 256,
    learning_rate: float = 1e-3,
    held_out: float = 0.2,
    condition: str = "audio",
    seed: int = 0,
    batch_size: int = 8,
    progress: bool | None = None,
) -> TunedLens:
    """Train a translator for every depth, all at once, on the residual streams of questions.

    ```python
    lens = ma.analyses.tuned_lens(model, questions)
    lens.save("lens"); lens = ma.Result.load("lens")
    ma.analyses.logit_lens(model, batch, lens=lens)
    ```

    A step runs one batch forward, draws `rows` positions of it, and goes through the depths one by one: two blocks of
    `[rows, vocab]` are held at a time, beside the translators, their gradients and Adam's two moments of each (16 bytes
    per depth and d_model squared). Time goes into these blocks, forwards and backwards: with 30 depths and 49,160 words
    15 s a step on one core.

    Args:
        model: The opened model; its weights stay as they are.
        questions: What to train on; a share of them is held out.
        positions: Which positions; `None` for all, audio tokens included.
        steps: Number of steps of the optimiser.
        rows: Positions per step, drawn from those of the batch.
        learning_rate: At the first step.
        held_out: Share of the clips whose questions to measure on.
        condition: What the model is given.
        seed: Seed of the split, the order of questions and the positions.
        batch_size: Questions per step.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: A number below one, a share outside 0 to 1, questions without ids, none on one side of the split, or
            a divergence that is no number, as of a network that gives NaN or of a learning rate that is too large.
        TypeError: A number that is not whole.
        NotImplementedError: The decoder has several residual streams.
    """
    for name, number in (("steps", steps), ("batch_size", batch_size), ("rows", rows)):
        if checked.whole(name, number) < 1:
            raise ValueError(f"{name} is at least 1, got {number}")
    if not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate is above 0, such as 1e-3, got {learning_rate}")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a share of the clips between 0 and 1, such as 0.2, got {held_out}")
    condition = condition_of(questions, condition)
    listed = list(asked_anew(questions, condition))
    if not listed:
        raise ValueError(NO_QUESTIONS)
    drawn = in_calibration(clips_of(listed), 1 - held_out, seed)
    train, test = ([one for one, own in zip(listed, drawn, strict=True) if own == side] for side in (True, False))
    if not train or not test:
        raise ValueError(
            f"of {n_of(len(listed), 'question')} {len(train)} are for training and {len(test)} held out: give more "
            "questions, or another held_out= or seed="
        )
    depths = depth_names(model)[:-1]
    device = model.network.get_submodule(model.adapter.unembed).weight.device
    weight = [torch.zeros(model.d_model, model.d_model, device=device, requires_grad=True) for _ in depths]
    bias = [torch.zeros(model.d_model, device=device, requires_grad=True) for _ in depths]
    optimiser = torch.optim.Adam([*weight, *bias], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / steps, total_iters=steps)
    rng = np.random.default_rng(seed)
    order: list[int] = []
    losses = np.empty((steps, len(depths)))
    drawn = bar(range(steps), what="tuned lens", unit="steps", progress=progress)
    for step in drawn:
        while len(order) < min(batch_size, len(train)):
            order += rng.permutation(len(train)).tolist()
        batch = prompt(model, [train[order.pop()] for _ in range(min(batch_size, len(train)))], condition=condition)
        stream = residual_stream(model, batch, positions)
        chosen = torch.from_numpy(rng.permutation(int(stream.real.sum()))[:rows])
        streams = [depth.to(device)[stream.real][chosen] for depth in stream.depths]
        with torch.no_grad():
            final = read_out(model, streams[-1]).float().log_softmax(-1)
        for depth, (own_weight, own_bias) in enumerate(zip(weight, bias, strict=True)):
            with torch.enable_grad():
                loss = _kl(model, final, _translated(streams[depth], own_weight, own_bias)).mean()
            own_weight.grad, own_bias.grad = torch.autograd.grad(loss, [own_weight, own_bias])
            torch.nn.utils.clip_grad_norm_([own_weight, own_bias], 1.0)
            losses[step, depth] = loss.item()
        _refuse_nan(losses[step], depths, [q.id for q in batch.questions], f"step {step + 1}")
        optimiser.step()
        schedule.step()
        drawn.set_postfix({"mean KL": f"{losses[step].mean():.4f}"})
    trained = [one.detach().cpu().numpy() for one in weight], [one.detach().cpu().numpy() for one in bias]
    settings = {
        "positions": positions, "steps": steps, "batch_size": batch_size, "rows": rows, "learning_rate": learning_rate,
        "held_out": held_out, "condition": condition,
    }  # fmt: skip
    plain, tuned = _measured(model, test, weight, bias, positions, condition, batch_size)
    for question, *divergences in zip(test, plain, tuned, strict=True):
        for values in divergences:
            _refuse_nan(values, depths, [question.id], "the measurement")
    return TunedLens(
        depths=depths,
        weight=np.stack(trained[0]),
        bias=np.stack(trained[1]),
        loss=losses,
        plain_kl=plain,
        tuned_kl=tuned,
        held_out=tuple(question.id for question in test),
        trained_on=tuple(question.id for question in train),
        provenance=Provenance.collect(model, seed=seed, settings=settings),
    )


def _translated(
    states: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model d_model"], bias: Float[Tensor, " d_model"]
) -> Float[Tensor, "*batch d_model"]:
    whole = states.float()
    return (whole + whole @ weight.T + bias).to(states.dtype)


def _kl(
    model: AudioLM, final: Float[Tensor, "row vocab"], states: Float[Tensor, "row d_model"]
) -> Float[Tensor, " row"]:
    """From the output's distribution to the lens', per row: what is trained to be small."""
    said = read_out(model, states).float().log_softmax(-1)
    return (final.exp() * (final - said)).sum(-1)


def _refuse_nan(divergences: Float[np.ndarray, " depth"], depths: Sequence[str], ids: Sequence[str], what: str) -> None:
    if not np.isfinite(divergences).all():
        raise ValueError(
            f"in {what} the KL divergence at depth {depths[int(np.isfinite(divergences).argmin())]} is no number "
            f"(questions {', '.join(map(repr, ids[:3]))}), and would make the whole lens NaN: take a smaller "
            f"learning_rate= if the network gives no NaN. {REMEDY_OF_NAN}"
        )


def _measured(
    model: AudioLM,
    questions: list[AudioQuestion],
    weight: list[Tensor],
    bias: list[Tensor],
    positions: Where | None,
    condition: str,
    batch_size: int,
) -> tuple[Float[np.ndarray, "question depth"], Float[np.ndarray, "question depth"]]:
    found: list[list[list[float]]] = []
    device = weight[0].device
    with torch.no_grad():
        for start in range(0, len(questions), batch_size):
            batch = prompt(model, questions[start : start + batch_size], condition=condition)
            stream = residual_stream(model, batch, positions)
            for row in range(batch.n_rows):
                real_states = [depth[row, stream.real[row]].to(device) for depth in stream.depths]
                final = read_out(model, real_states[-1]).float().log_softmax(-1)
                both = [
                    real_states[:-1],
                    [_translated(*one) for one in zip(real_states[:-1], weight, bias, strict=True)],
                ]
                found.append([[_kl(model, final, states).mean().item() for states in lens] for lens in both])
    measured = np.array(found)
    return measured[:, 0], measured[:, 1]
