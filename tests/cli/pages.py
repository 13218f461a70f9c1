"""Pages of studies, read as a person would."""

import re
from html import unescape


def command_on(page: str) -> str:
    """The command that a page says it was made by; each of its words is an element."""
    (marked,) = re.findall(r"<dt>command</dt><dd><code>(.*?)</code>", page)
    return unescape(re.sub(r"</?span>", "", marked)).strip()
