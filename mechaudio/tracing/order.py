"""Messages for trace blocks that ask for values in an order in which the model does not compute them."""

from __future__ import annotations

from nnsight.intervention.interleaver import OutOfOrderError

from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.hook_points import in_tower, order_of


class HookOrderError(OutOfOrderError):
    """A hook point was asked for after the model had passed it, or is not computed in this run at all."""


def explain(error: OutOfOrderError, exchange: Exchange) -> HookOrderError:
    """Nnsight's error in our words: the hook point, why it had no value, and an order that works."""
    location = str(error).split("'")[1].rsplit(".i", 1)[0] if "'" in str(error) else ""
    if location.endswith(".grad"):
        message = (
            "gradients come in the reverse order of the forward pass: inside `with loss.backward():`, read the .grad "
            "of the latest "
            "hook point first"
        )
    else:
        message = _message(location, exchange)
    explained = HookOrderError(message)
    explained.__traceback__ = error.__traceback__
    if hasattr(error, "__intervention_tb__"):
        explained.__intervention_tb__ = error.__intervention_tb__
    return explained


def _message(location: str, exchange: Exchange) -> str:
    site = next((site for site in exchange.asked if site.location == location), None)
    if site is None:
        return f"{location!r} was asked for, but the model had already passed it, or does not compute it in this run"
    if not exchange.reached(location):
        deaf = exchange.tower_calls == 0 and (in_tower(site.name) or site.name == "projector_out")
        why = ": the audio tower did not run, because these prompts hold no audio" if deaf else ""
        return f"{site.address} was asked for, but this run never computed it{why}"
    distinct = {site.location: site for site in exchange.asked}.values()
    right = sorted(distinct, key=lambda asked: (*order_of(asked.name, asked.layer), asked.rows))
    return (
        f"{site.address} was asked for when the model had already passed it. Inside one trace block, ask in the order "
        f"of computation: {', '.join(request.address for request in right)}. Where order is inconvenient, "
        "ma.run(model, batch, record=[...]) takes any"
    )
