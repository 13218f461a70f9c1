"""The exchange: every value of a forward pass that someone may read or edit passes through here.

It is nnsight's interleaver, which serves the blocks that users write, with a counter of our own in front: functions
that the library itself registers by location, through verbs that give a handle each. They need no order, no captured
source and no greenlet, so `run(record=...)` may ask for anything in any order and costs what a dictionary lookup costs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, no_type_check

from greenlet import getcurrent
from nnsight.intervention.interleaver import EarlyStopException, Interleaver, Mediator
from torch import Tensor, is_grad_enabled, nn, where
from torch.autograd import Function

from mechaudio.tracing.requests import Attend, AttentionRequest, Change, Handle, Report, Requests, RowRequest
from mechaudio.tracing.score_edit import BoundScoreEdit
from mechaudio.tracing.sites import ROOT, Site
from mechaudio.tracing.turns import OTHER_THREAD, has_turn, turn_of

if TYPE_CHECKING:
    from mechaudio.tracing.attention_call import View
    from mechaudio.tracing.head_results import OutputProjection
    from mechaudio.tracing.mass import KeyGroups

_ROOT_INPUT, _ROOT_OUTPUT = f"{ROOT}.input", f"{ROOT}.output"
_NOTHING = AttentionRequest()


class _Divided(Function):
    """A product divided by its number: where nobody changed it, the other factor to the last bit."""

    @staticmethod
    def forward(context: Any, own: Tensor, product: Tensor, times: float | Tensor) -> Tensor:
        context.times = times
        if own.shape != product.shape:
            return product / times
        return where(product == own * times, own, product / times)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        return None, gradient / context.times, None


class Exchange(Interleaver):
    """nnsight's interleaver plus what a run asks of it.

    Attributes:
        batch: The prompts of the run under way, where the run was opened with some.
        step: Forward passes of the decoder so far in this run, minus one: 0 in the prompt, then one per new token.
        tower_calls: How often the audio tower's projector ran in this run.
        multiplied: Location of what a module gives and the network multiplies before it adds it -> the location where
            the product is served, and what says the number.
        projections: Locations of what an output projection of attention is about to mix, receives and gives -> it.
        copied: Locations whose value the network overwrites later: it goes on with a copy, so that what was read stays.
        views: Query rows that a run asks for -> the newest call that had them, and what they may see there.
        asked: The hook points that trace blocks asked for in this run, in their order.
        has_read: Whether they read one of them.
    """

    def __init__(
        self, network: nn.Module, decoder: str, projector: str, check: Callable[[tuple, Mapping[str, Any]], None]
    ):
        self._running: int | None = None
        super().__init__()
        self._network = network
        self.decoder, self.projector, self.check = f"{ROOT}.{decoder}.input", f"{ROOT}.{projector}.output", check
        self._counted = frozenset((_ROOT_INPUT, self.decoder, self.projector))
        self.multiplied: dict[str, tuple[str, Callable[[], float | Tensor]]] = {}
        self.projections: dict[str, OutputProjection] = {}
        self.copied: frozenset[str] = frozenset()
        self.clear()
        self.begin()

    def clear(self) -> None:
        """Forget what the run asked for; what it did (`step`, `tower_calls`, `has_read`) can still be looked up."""
        self._requests = Requests()
        for projection in self.projections.values():
            projection.received = None
        self.views: dict[Hashable, tuple[tuple[Any, ...], View]] = {}
        self.batch: Any = None

    def begin(self) -> None:
        """Start counting: a run begins."""
        self.step = -1
        self.tower_calls = 0
        self._network_runs = False
        self.asked: list[Site] = []
        self.has_read = False
        self.counts_before = dict(self.counts)

    @property
    @no_type_check
    def interleaving(self) -> bool:
        """True if a run is under way; asked by every module of the network that is called.

        Raises:
            RuntimeError: It is under way in another thread than the one that asks.
        """
        if self._running is None:
            return False
        if self._running != threading.get_ident():
            raise RuntimeError(OTHER_THREAD)
        return True

    @interleaving.setter
    def interleaving(self, value: bool) -> None:
        self._running = threading.get_ident() if value else None

    def on_input(self, path: str, change: Change) -> Handle:
        """Change what a module is about to receive, `(args, kwargs)`."""
        return self.change(f"{ROOT}.{path}.input", change)

    def on_output(self, path: str, change: Change) -> Handle:
        """Change what a module gave."""
        return self.change(f"{ROOT}.{path}.output", change)

    def instead_of(self, path: str, give: Change) -> Handle:
        """Take what a function gives for a module's output, and do not call the module."""
        return self.change(f"{ROOT}.{path}.skip", give)

    def change(self, location: str, change: Change) -> Handle:
        """Change what is served at a location, behind all that was asked before."""
        return Handle(self._requests.changes.setdefault(location, []), change)

    def watch(self, location: str, see: Callable[[Any], None]) -> Handle:
        """Show a function what is served at a location, after every change."""
        return Handle(self._requests.watchers.setdefault(location, []), see)

    def replace_attention(self, location: str, attend: Attend) -> Handle:
        """Compute attention of a module by a function of the call, queries, keys and values."""
        return Handle(self._asked_of(location).instead, attend)

    def watch_attention(self, location: str, see: Attend) -> Handle:
        """Show a function the call of an attention module, and queries, keys and values after every change."""
        return Handle(self._asked_of(location).watchers, see)

    def edit_scores(self, location: str, edit: BoundScoreEdit, report: Report) -> Handle:
        """Have fused attention carry out an edit of scores, and tell what it did."""
        return Handle(self._asked_of(location).score_edits, (edit, report))

    def measure_mass(self, location: str, groups: KeyGroups) -> Handle:
        """Measure how much attention an attention module gives to groups of keys."""
        return Handle(self._asked_of(location).groups, groups)

    def serve_rows(self, location: str, request: RowRequest) -> None:
        """Serve some query rows of an attention module, or positions of an output projection, on their own."""
        self._asked_of(location).queries[request.name] = request

    def asked_of(self, location: str) -> AttentionRequest:
        """Return the requests to an attention module or an output projection."""
        return self._requests.attention.get(location, _NOTHING)

    def _asked_of(self, location: str) -> AttentionRequest:
        return self._requests.attention.setdefault(location, AttentionRequest())

    @contextmanager
    def only(self, requests: Requests) -> Iterator[Requests]:
        """While open, these requests are filled and carried out, and no others."""
        before, self._requests = self._requests, requests
        try:
            yield requests
        finally:
            self._requests = before

    @property
    def idle(self) -> bool:
        """True if nothing is asked of a run."""
        return self._requests == Requests() and self.batch is None and not self.asked

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the network to oneself while open, in one trace block or one run.

        Raises:
            RuntimeError: It runs already: this is inside a trace block of the same model, or another thread has it.
        """
        block = getattr(getcurrent(), "mediator", None)
        if block is not None and block().interleaver is self:
            raise RuntimeError(
                "a model cannot run again inside its own trace block, which is a part of a run: call ma.run, "
                "ma.answer, ma.generate and ma.sweep before or after the block"
            )
        with turn_of(self._network, self):
            yield

    @contextmanager
    def prepared(self, batch: Any) -> Iterator[None]:
        """While open, something may be asked of one run on these prompts; afterwards that is forgotten.

        Raises:
            RuntimeError: It is opened inside a trace block of the same model, while the model runs, or while another
                thread has its network.
        """
        with self.turn():
            self.clear()
            self.batch = batch
            try:
                yield
            finally:
                self.clear()

    @contextmanager
    def unserved(self) -> Iterator[None]:
        """Let modules of the network be called within a run without serving what they receive and give."""
        running, self._running = self._running, None
        try:
            yield
        finally:
            self._running = running

    @property
    def taken(self) -> bool:
        """True if this thread has the network already, for a run of this model."""
        return has_turn(self._network, self)

    def reindex(self) -> None:
        """As nnsight does it, but always serve: a run may ask for something and have no block at all."""
        super().reindex()
        self.busy = True

    @no_type_check
    def wanted(self, location: str) -> bool:
        """Return whether anyone reads or changes what is about to be served at `location`."""
        return location in self.parked or self._requests.wants(location) or location in self.observers

    @no_type_check
    def handle(self, provider: str, value: Any) -> Any:
        """Pass a value through the library's changes, the users' blocks, and the library's watchers, in this order.

        Every input and output of every module comes here: most pass on after a few lookups.
        """
        if provider in self._counted:
            self._count(provider, value)
        projection = self.projections.get(provider)
        if projection is not None and provider == projection.gives:
            value = projection.serve(self, value)
        for change in self._requests.changes.get(provider, ()):
            value = change(value)
        if self.mediators or self.observers:  # a trace block waits; `run` needs none
            value = super().handle(provider, value)
        for see in self._requests.watchers.get(provider, ()):
            see(value)
        if provider in self.multiplied and self.wanted(self.multiplied[provider][0]):
            value = self._handle_product(*self.multiplied[provider], value)
        if projection is not None:
            projection.see(provider, value)
        if provider == _ROOT_OUTPUT:
            self._network_runs = False
        return value.clone() if provider in self.copied else value

    def _handle_product(self, location: str, number: Callable[[], float | Tensor], value: Any) -> Any:
        """Serve a value times a number; what the network multiplies by it again comes back."""
        factor, times = value[0] if isinstance(value, tuple) else value, number()
        times = times.to(factor) if isinstance(times, Tensor) else times
        divided = _Divided.apply(factor.detach(), self.handle(location, factor * times), times)
        return (divided, *value[1:]) if isinstance(value, tuple) else divided

    def _count(self, provider: str, value: Any) -> None:
        if provider == _ROOT_INPUT:
            if self._network_runs:
                raise RuntimeError(
                    "the network was called inside its own run, by an edit, a hook or a trace block, and edits of the "
                    "run would act on that call: call it before or after"
                )
            self._network_runs = True
            self.check(*value)
        elif provider == self.decoder:
            self.step += 1
        else:
            self.tower_calls += 1

    def stop(self) -> None:
        """End the forward pass here: nothing further is wanted of it."""
        raise EarlyStopException

    def reached(self, location: str) -> bool:
        """Return whether the run has passed through `location`."""
        return self.counts.get(location, 0) > self.counts_before.get(location, 0)

    def read(self, site: Site) -> Tensor:
        """From inside a trace block: wait for the hook point and give its tensor."""
        self._inside(site)
        self.has_read = True
        served = Mediator.value(site.location)
        value = site.take(served)
        is_view = not site.in_place and site.take(served) is not value
        if is_view and is_grad_enabled() and value.requires_grad:
            Mediator.swap(site.location, site.put(served, value))  # gradients come to a view only if it is passed on
        return value

    def write(self, site: Site, value: Tensor) -> None:
        """From inside a trace block: wait for the hook point and put `value` in its place."""
        self._inside(site)
        Mediator.swap(site.location, site.swap(Mediator.value(site.location), value))

    def _inside(self, site: Site) -> None:
        if getattr(getcurrent(), "mediator", None) is None:
            raise RuntimeError(
                f"{site.address} has a value only while the model runs: read it inside `with ma.trace(model, batch):`, "
                f"or let `ma.run(model, batch, record=[{site.name!r}])` keep it"
            )
        self.asked.append(site)
