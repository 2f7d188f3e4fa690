"""The reason in an error of LanceDB and its object storage, without the internals that their messages contain.

Such a message may be the structure of a Rust error as text, and may end with lines of source code.
"""

import re

from sfumato.errors import first_line

_SOURCE = re.compile(r"(?:, \S+\.rs:\d+:\d+)+$")
_KINDS = re.compile(r"^(?:lance error: |LanceError\(\w+\): |Generic [\w/]+ error: |Invalid input, )+")
_REQUEST = re.compile(
    r"^(?:Error performing [a-z ]+: )?Error performing [A-Z]+ (?P<url>\S+) in .*?retries.*? - (?P<why>.+)$"
)
_STRUCTURE = re.compile(r"(?:: \w+)? \{ ")
"""The beginning of the structure of an error."""
_URL = re.compile(r"uri: Some\((\S+)\)")
_CAUSES = (
    re.compile(r"<Message>([^<]+)</Message>"),
    re.compile(r'(?:message|error): "((?:[^"\\]|\\.)*)"'),
    re.compile(r"(status: \d{3})"),
)
"""Where a structure contains the cause: an answer of S3, an error of the network, the status of an HTTP answer."""


def storage_reason(error: Exception) -> str:
    """Why LanceDB or its storage failed, in one line; for object storage with the address that did not answer."""
    text = _KINDS.sub("", _SOURCE.sub("", first_line(error)))
    if request := _REQUEST.match(text):
        return f"{_origin(request['url'])}: {request['why']}"
    if not (structure := _STRUCTURE.search(text)):
        return text
    cause = next((found[-1] for each in _CAUSES if (found := each.findall(text))), text[: structure.start()])
    url = _URL.search(text)
    return f"{_origin(url[1])}: {cause}" if url else cause


def _origin(url: str) -> str:
    """Protocol and host of a URL; the rest, such as the path of a request, is left out."""
    return "/".join(url.split("/")[:3])
