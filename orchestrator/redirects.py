"""A POST that is not sent elsewhere: urllib makes a GET without a body of one that is redirected."""

from __future__ import annotations

import urllib.request
from typing import IO, Any

from typing_extensions import override


class _Refusal(urllib.request.HTTPRedirectHandler):
    """Makes an `HTTPError` of a redirect, as of any other status that is no success."""

    @override
    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], *_: Any) -> None:
        return None


WITHOUT_REDIRECTS = urllib.request.build_opener(_Refusal)
