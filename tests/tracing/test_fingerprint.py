"""Digests of weights do not depend on where the weights are, nor on how they are brought from there."""

import pytest
import torch

from mechaudio.tracing import fingerprint
from mechaudio.tracing.fingerprint import weight_digests
from tests.families import network


@pytest.mark.skipif(not torch.cuda.is_available(), reason="it brings weights from a GPU")
@pytest.mark.parametrize("piece", [1000, 1 << 24])
def test_weights_of_a_gpu_have_the_digests_that_they_have_on_the_cpu(piece, monkeypatch):
    monkeypatch.setattr(fingerprint, "PIECE", piece)
    net = network("qwen2_audio", torch.bfloat16)
    net.lm_head.weight.data = net.lm_head.weight.data.T.contiguous().T  # laid out otherwise
    on_cpu = weight_digests(net)
    assert weight_digests(net.to("cuda")) == on_cpu
    with torch.no_grad():
        net.lm_head.weight[-1, -1] += 1
    changed = weight_digests(net)
    assert [part for part in on_cpu if changed[part] != on_cpu[part]] == ["lm_head"]
