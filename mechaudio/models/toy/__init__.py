"""A Qwen2-Audio whose weights are written by hand, so that the answer to every question about it is known.

`planted` says which head does what, `arithmetic` predicts attention and logits with school mathematics, `features`
names the numbers of the residual streams, `network` puts the weights of `tower` and `decoder` together, `language` is
what it reads. docs/toy.md works it all out.
"""

from mechaudio.rooms import as_room

as_room(__name__)
