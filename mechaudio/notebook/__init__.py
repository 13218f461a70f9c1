"""How values show themselves in a notebook, and the explorer: what needs no network, and reads on light and on dark.

Conventions: HTML is escaped; colours of text are the page's own; what is added is translucent. Only the explorer runs a
script, `front/explorer.js`, in notebooks and on pages alike.
"""

from mechaudio.notebook.shown import html_of as html_of
from mechaudio.rooms import as_room

as_room(__name__)
