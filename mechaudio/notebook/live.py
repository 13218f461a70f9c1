"""The live model behind an explorer: edits and query rows in, answers and rows of attention out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mechaudio.analyses.prompt_attention import prompt_attention
from mechaudio.interventions.generate_variants import generate_variants
from mechaudio.interventions.sweep import sweep
from mechaudio.metrics.choices import refuse_nan
from mechaudio.models.batch import PromptBatch
from mechaudio.notebook.edits import as_code, intervention_of
from mechaudio.notebook.explorer_data import chosen, rows, written
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.edit import Intervention
from mechaudio.variants.clean_run import clean_run


class Live:
    """One prompt in one model, which answers under interventions.

    Attributes:
        model: The model.
        batch: The prompt.
        interventions: Those of the last request.
    """

    def __init__(self, model: AudioLM, batch: PromptBatch, max_new_tokens: int):
        """Run the prompt once, so that changes at its last position cost next to nothing."""
        self.model, self.batch, self.max_new_tokens = model, batch, max_new_tokens
        self.interventions: tuple[Intervention, ...] = ()
        (self.question,) = batch.questions
        self.clean = None if self.question.is_open else clean_run(model, batch)

    def reply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request of the front end.

        Args:
            request: `edits`, and its `kind`: `answer`, or `row` for the attention of the position `query`.

        Raises:
            ValueError: An edit that does not fit the prompt.
        """
        self.interventions = tuple(intervention_of(edit, self.batch.given[0]) for edit in request["edits"])
        if request["kind"] == "answer":
            return {"answer": self.answer(self.interventions), "code": as_code(self.interventions)}
        query = request["query"]
        attention = prompt_attention(self.model, self.batch, queries=[query], interventions=self.interventions)
        return {"row": rows(attention)[str(query)]}

    def answer(self, interventions: Sequence[Intervention]) -> dict[str, Any]:
        """The probabilities of the choices under interventions, or what is written to an open question.

        Raises:
            ValueError: There is no answer: a logit is NaN.
        """
        if self.clean is None:
            texts = generate_variants(
                self.model, self.batch, [interventions], max_new_tokens=self.max_new_tokens, progress=False
            ).texts
            return written(texts[0][0], self.question.answer)
        logits = sweep(self.model, self.clean, [interventions], progress=False).logits[0]
        n_choices = len(self.question.choices)
        refuse_nan([self.question.id], logits.numpy(), [n_choices], "this change")
        probabilities = logits[0, :n_choices].double().softmax(-1).tolist()
        return chosen(self.batch.choice_names[0], self.question.choices, probabilities, self.question.answer)
