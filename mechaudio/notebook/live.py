"""The live model behind an explorer: edits and query rows in, answers and rows of attention out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mechaudio.analyses.prompt_attention import prompt_attention
from mechaudio.arguments import check
from mechaudio.interventions.sweep import generate_variants, sweep
from mechaudio.metrics.choices import refuse_nan
from mechaudio.models.batch import PromptBatch
from mechaudio.notebook.edits import as_code, intervention_of, one_of, part
from mechaudio.notebook.explorer_data import chosen, rows, written
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.edit import Intervention
from mechaudio.variants.shared_pass import clean_run


class Live:
    """One prompt in one model, which answers under interventions.

    Attributes:
        model: The model.
        batch: The prompt.
        interventions: Those of the last request that was carried out.
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
            ValueError: An edit that does not fit the prompt, or a request of another kind; what is in force stays.
            TypeError: A value of another kind.
            IndexError: A layer, head or position that there is not.
        """
        kind, edits = one_of(request, "kind", ("answer", "row")), check("edits", part(request, "edits"), list)
        interventions = tuple(intervention_of(edit, self.batch.given[0]) for edit in edits)
        if kind == "answer":
            reply = {"answer": self.answer(interventions), "code": as_code(interventions)}
        else:
            query = check("query", part(request, "query"), int)
            attention = prompt_attention(self.model, self.batch, queries=[query], interventions=interventions)
            (row,) = rows(attention).values()
            reply = {"row": row}
        self.interventions = interventions  # they are in force once they were carried out
        return reply

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
