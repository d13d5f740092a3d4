"""Pictures that are small as files and very large when decoded: the header decides."""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from scalecrafter._util.pictures import LARGEST_PIXELS
from scalecrafter.generation.picture_files import CHUNK, read_request
from scalecrafter.request.inputs import open_control, open_image
from scalecrafter.request.request import Request, RequestError
from scalecrafter.server.app import create_app
from scalecrafter.server.settings import ServerSettings


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge(side: int, text: bytes = b"") -> bytes:
    """A PNG file of black grey pixels, made without having them."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    said = chunk(b"tEXt", CHUNK.encode() + b"\0" + text) if text else b""
    return b"\x89PNG\r\n\x1a\n" + header + said + chunk(b"IDAT", body) + chunk(b"IEND", b"")


REQUEST = b'{"format": 1, "request": {"prompt": "a fox", "seed": 3}}'


@pytest.fixture(scope="module")
def picture() -> bytes:
    """13,000×13,000 pixels: 169 MB in less than one."""
    made = huge(13_000, REQUEST)
    assert len(made) < 1 << 20
    return made


@pytest.fixture
def undecoded() -> Iterator[None]:
    """The most memory that this process ever had does not grow by the pixels of such a picture."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 100 << 20


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("field", ["image", "mask"])
def test_the_server_refuses_by_the_header(tmp_path: Path, picture: bytes, field: str) -> None:
    app = create_app(ServerSettings(data=tmp_path, models={"tiny": "x"}))
    small = BytesIO()
    Image.new("RGB", (8, 8)).save(small, "PNG")
    files = {"image": small.getvalue(), "mask": small.getvalue(), field: picture}
    answer = TestClient(app).post("/v1/images/edits", data={"prompt": "a fox", "steps": "1"}, files=files)
    assert answer.status_code == 400
    assert f"{field} has 13000x13000 pixels" in answer.json()["error"]["message"]
    assert list(app.state.jobs.folders.uploads.iterdir()) == []


@pytest.mark.usefixtures("undecoded")
def test_the_library_reads_settings_of_the_largest_picture_and_refuses_larger_ones_by_the_header(
    tmp_path: Path,
) -> None:
    path, limit = tmp_path / "a.png", Image.MAX_IMAGE_PIXELS
    path.write_bytes(huge(16_385, REQUEST))
    assert read_request(path).seed == 3
    request = Request.from_mapping(
        {"prompt": "a fox", "image": str(path), "controls": [{"model": "x", "image": str(path)}]}
    )
    for refused in (lambda: open_image(request, (8, 8)), lambda: open_control(request.controls[0], (8, 8))):
        with pytest.raises(RequestError, match=f"16385×16385 pixels, and at most {LARGEST_PIXELS:,}"):
            refused()
    assert limit == Image.MAX_IMAGE_PIXELS
