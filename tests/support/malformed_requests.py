"""Requests that no client should send: wrong types, broken JSON and forms, wrong content types, paths that climb."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

PATHS = ("/v1/images/generations", "/v1/images/edits", "/v1/jobs")
_NAMES = (
    "prompt", "model", "n", "size", "response_format", "negative", "method", "recipe", "freeu", "steps", "guidance",
    "seed", "scheduler", "strength", "cascade", "image", "mask", "quality", "stream", "__proto__", "", "é",
)  # fmt: skip
_WRONG: tuple[Any, ...] = (
    -1, 0.5, 1e308, 2**70, True, "", " ", "\0", "x" * 5000, "../../etc/passwd", "/etc/passwd", "a=b", "[x]\ny = 1\n",
    [], [[]], {}, {"a": {"b": []}}, "9" * 5000, "\ud800", "1x1", "0x0", "-5x5", "99999x99999", "１２８x１２８", "nan",
    {"restart": "x"}, {"restart": [2]}, "none", "data:image/png;base64,AAAA", "file:///etc/passwd",
)  # fmt: skip
_BROKEN = (
    b"", b"{", b"[", b"nul", b"\xff\xfe", b'{"prompt": "a}', b'{"prompt": NaN', b"{'prompt': 'a'}", b"[" * 50_000,
    b'{"a":' * 20_000, b'"text"', b"5", b"null", b"[]", b"{}", b'{"prompt": "a", "seed": 1e999, "steps": 0}',
    b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", b"\x00" * 100, b'\xef\xbb\xbf{"prompt": 1}', b"prompt=a&n=2",
)  # fmt: skip
_KINDS = (
    "application/json", "application/json; charset=utf-16", "text/plain", "application/x-www-form-urlencoded",
    "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x", "image/png", "",
    "application/jsonx", "multipart/form-data; boundary=" + "y" * 300, "multipart/mixed; boundary=x",
)  # fmt: skip
_FORMS = (
    b"--x\r\n", b"--x--\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", b"x" * 1000,
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="../../../tmp/evil.png"\r\n\r\nno\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + b"p" * 200_000 + b"\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nnot ended',
    b'--x\r\nContent-Disposition: form-data; name="' + b"n" * 9000 + b'"\r\n\r\na\r\n--x--\r\n',
    b"".join(b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\na\r\n' % one for one in range(200)) + b"--x--",
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' * 20 + b"--x--\r\n",
)  # fmt: skip
_CLIMBING = (
    "/v1/files/../jobs.sqlite3", "/v1/files/..%2fjobs.sqlite3", "/v1/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/v1/files/....//....//etc/passwd", "/v1/files/%00.png", "/v1/files/%ff%fe.png", "/v1/files/a.png/b",
    "/v1/files/" + "a" * 3000 + ".png", "/v1/files/.png", "/v1/files/C:%5cwindows.png", "/v1/files//etc/passwd",
    "/v1/jobs/..%2f..%2fetc", "/v1/jobs/%00", "/v1/jobs/'; DROP TABLE jobs; --", "/v1/jobs/%F0%9F%A6%8A/events",
    "/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2f", "/v1/nothing", "//v1/models", "/v1/models/" + "m" * 5000,
)  # fmt: skip


def requests(number: int, body_limit: int) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """That many (method, path, headers, body), the same ones every time; none of them asks for a picture."""
    import json

    draw = random.Random(20240131)
    for index in range(number):
        kind = index % 8
        path = draw.choice(PATHS)
        if kind == 0:  # a JSON object with wrong values
            body = {"prompt": "a fox", "steps": 1, draw.choice(_NAMES): draw.choice(_WRONG), "nothing": 1}
            yield "POST", path, {"Content-Type": "application/json"}, json.dumps(body).encode()
        elif kind == 1:  # a wrong value, and else all right but for a size that no model makes
            body = {"prompt": "a fox", "steps": 1, draw.choice(_NAMES): draw.choice(_WRONG), "size": "131x131"}
            yield "POST", path, {"Content-Type": "application/json"}, json.dumps(body).encode()
        elif kind == 2:
            yield "POST", path, {"Content-Type": "application/json"}, draw.choice(_BROKEN)
        elif kind == 3:
            yield "POST", path, {"Content-Type": draw.choice(_KINDS)}, draw.choice(_BROKEN + _FORMS)
        elif kind == 4:
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            yield "POST", "/v1/images/edits", headers, draw.choice(_FORMS)
        elif kind == 5:
            yield draw.choice(("GET", "DELETE", "HEAD", "GET")), draw.choice(_CLIMBING), {}, b""
        elif kind == 6:  # any bytes, any method
            method = draw.choice(("PUT", "PATCH", "OPTIONS", "TRACE", "FOX", "POST", "DELETE"))
            yield method, path, {"Content-Type": draw.choice(_KINDS)}, draw.randbytes(draw.randrange(300))
        else:  # too large, or strange headers
            headers = draw.choice(
                ({}, {"Idempotency-Key": "k" * 300}, {"Authorization": "Bearer"}, {"Origin": "null"}, {"Range": "x=1-"})
            )
            size = draw.choice((0, 10, body_limit + 1))
            yield "POST", path, {"Content-Type": "application/json", **headers}, b" " * size
