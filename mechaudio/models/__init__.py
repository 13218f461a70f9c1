"""Audio LLM classes: what each is made of, and how to ask it a question."""

from mechaudio.models.adapter import Adapter as Adapter
from mechaudio.models.adapter import Stack as Stack
from mechaudio.models.adapter import TokenTiming as TokenTiming
from mechaudio.models.batch import PromptBatch as PromptBatch
from mechaudio.models.inputs import as_batch as as_batch
from mechaudio.models.prompt import prompt as prompt
from mechaudio.models.registry import ADAPTERS as ADAPTERS
from mechaudio.models.registry import adapter_for as adapter_for
from mechaudio.models.registry import adapters as adapters
from mechaudio.models.registry import register as register
from mechaudio.models.spans import PromptFormat as PromptFormat
from mechaudio.rooms import as_room

as_room(__name__)
