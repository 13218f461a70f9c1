"""The name of a network in annotations."""

from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

#: A network or a part of one. torch declares each part as a tensor or a module, and type checkers would refuse whatever
#: is done with either: they take it as it is.
if TYPE_CHECKING:
    Network: TypeAlias = Any
else:
    Network = nn.Module
