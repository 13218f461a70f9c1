"""Audio LLM classes: what each is made of, and how to ask it a question."""

from mechaudio.models.adapter import Adapter, Stack, TokenTiming
from mechaudio.models.batch import PromptBatch
from mechaudio.models.inputs import as_batch
from mechaudio.models.prompt import prompt
from mechaudio.models.registry import ADAPTERS, adapter_for, adapters, register
from mechaudio.models.spans import PromptFormat
from mechaudio.rooms import as_room

__all__ = [
    "ADAPTERS",
    "Adapter",
    "PromptBatch",
    "PromptFormat",
    "Stack",
    "TokenTiming",
    "adapter_for",
    "adapters",
    "as_batch",
    "prompt",
    "register",
]

as_room(__name__)
