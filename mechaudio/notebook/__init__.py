"""How values show themselves in a notebook: HTML that is escaped, needs no network, and reads on light and on dark.

Conventions: colours of text are the page's own; what is added is translucent. Nothing runs: there are no scripts.
"""

from mechaudio.notebook.shown import html_of
from mechaudio.rooms import as_room

__all__ = ["html_of"]

as_room(__name__)
