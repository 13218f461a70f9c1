"""What we rely on in nnsight, point by point: if a new version breaks one, the work is in `mechaudio.tracing` alone."""

import inspect

import pytest
import torch
from nnsight import NNsight
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import EarlyStopException, Interleaver, Mediator, OutOfOrderError
from nnsight.intervention.tracer import InterleavingTracer


class Watching(Interleaver):
    """Counts what passes, serves always, and can stop a run."""

    def __init__(self):
        super().__init__()
        self.passed, self.stop_at = [], None

    def reindex(self):
        super().reindex()
        self.busy = True

    def handle(self, provider, value):
        self.passed.append(provider)
        if provider == self.stop_at:
            raise EarlyStopException
        return super().handle(provider, value)


@pytest.fixture
def wrapped():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    return NNsight(module, interleaver=Watching())


def test_an_interleaver_of_our_own_can_be_handed_in(wrapped):
    assert "interleaver" in inspect.signature(Envoy.__init__).parameters
    assert wrapped.interleaver is wrapped[0].interleaver


def test_every_module_passes_its_input_and_output_through_handle_by_path(wrapped):
    wrapped.interleave("__call__", torch.ones(1, 2))
    passed = [name for name in wrapped.interleaver.passed if not name.endswith(".skip")]
    inner = [f"model.{layer}.{end}" for layer in "01" for end in ("input", "output")]
    assert passed == ["model.input", *inner, "model.output", "result"]


def test_a_module_input_is_served_as_args_and_kwargs(wrapped):
    served = []

    class Looking(Watching):
        def handle(self, provider, value):
            if provider == "model.0.input":
                served.append(value)
            return super().handle(provider, value)

    NNsight(wrapped._module, interleaver=Looking()).interleave("__call__", torch.ones(1, 2))
    ((args, kwargs),) = served
    assert torch.equal(args[0], torch.ones(1, 2))
    assert kwargs == {}


def test_a_location_that_a_block_waits_for_is_parked(wrapped):
    seen = []

    class Looking(Watching):
        def handle(self, provider, value):
            seen.append((provider, sorted(self.parked)))
            return super().handle(provider, value)

    wrapped = NNsight(wrapped._module, interleaver=Looking())
    with wrapped.trace(torch.ones(1, 2)):
        wrapped[1].output.save()
    assert ("model.0.output", ["model.1.output"]) in seen


def test_values_are_read_and_swapped_by_location(wrapped):
    with wrapped.trace(torch.ones(1, 2)):
        Mediator.swap("model.0.output", Mediator.value("model.0.output") * 0)
        out = wrapped[1].output.save()
    assert torch.equal(out[0], wrapped._module[1].bias)


def test_stopping_early_ends_a_run_without_an_error(wrapped):
    wrapped.interleaver.stop_at = "model.0.output"
    assert wrapped.interleave("__call__", torch.ones(1, 2)) is None
    assert "model.1.input" not in wrapped.interleaver.passed


def test_a_passed_location_is_named_in_quotes_with_its_occurrence(wrapped):
    with pytest.raises(OutOfOrderError, match=r"^'model\.0\.output\.i0' was requested"):
        with wrapped.trace(torch.ones(1, 2)):
            wrapped[1].output.save()
            wrapped[0].output.save()


def test_occurrences_are_counted_for_the_life_of_the_tree(wrapped):
    for count in (1, 2):
        wrapped.interleave("__call__", torch.ones(1, 2))
        assert wrapped.interleaver.counts["model.0.output"] == count


def test_what_is_handed_back_at_the_skip_of_a_module_takes_the_place_of_computing_it():
    class Skipping(Watching):
        def handle(self, provider, value):
            return torch.full((1, 2), 7.0) if provider == "model.0.skip" else super().handle(provider, value)

    class Uncomputed(torch.nn.Module):
        def forward(self, _value):
            raise AssertionError("it was computed")

    again = NNsight(torch.nn.Sequential(Uncomputed(), torch.nn.Identity()), interleaver=Skipping())
    assert torch.equal(again.interleave("__call__", torch.ones(1, 2)), torch.full((1, 2), 7.0))
    assert "model.0.output" in again.interleaver.passed


def test_a_tracer_class_of_our_own_runs_the_block(wrapped):
    class Ours(InterleavingTracer):
        ran = False

        def execute(self, code):
            Ours.ran = True
            super().execute(code)

    with wrapped.trace(torch.ones(1, 2), tracer_cls=Ours):
        wrapped[0].output.save()
    assert Ours.ran


def test_outside_a_trace_the_network_is_not_slowed_by_handing_values_over(wrapped):
    wrapped._module(torch.ones(1, 2))
    assert wrapped.interleaver.passed == []
