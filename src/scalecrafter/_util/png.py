"""The text chunks of a PNG file, read without decoding the picture."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST_TEXT = 1 << 20
"""Bytes of a text chunk, before and after it is decompressed."""


def read_text_chunk(file: BinaryIO, keyword: str) -> str | None:
    """The text under a keyword (PNG specification, section 11.3.3: tEXt, zTXt, iTXt); None where there is none.

    Args:
        file: a PNG file, open at its beginning.
        keyword: of the chunk. The first one counts.

    Raises:
        ValueError: the file is no PNG file, is cut off, or its text is damaged or longer than `LONGEST_TEXT`.
    """
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise ValueError("it does not begin as a PNG file does")
    wanted = keyword.encode("latin-1") + b"\0"
    while True:
        header = file.read(8)
        if len(header) < 8:
            raise ValueError("it is cut off")
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            return None
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            data = file.read(min(length, len(wanted)))
            if data == wanted:
                if length > LONGEST_TEXT:
                    raise ValueError("its text is too long")
                data = file.read(length - len(data))
                if len(data) < length - len(wanted) or file.read(4) != _checksum(kind + wanted + data):
                    raise ValueError("its text is damaged")
                return _text(kind, data)
            length -= len(data)
        file.seek(length + 4, 1)


def _checksum(chunk: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(chunk))


def _text(kind: bytes, data: bytes) -> str:
    """The text of a chunk's data after its keyword (`ValueError`)."""
    if kind == b"tEXt":
        return data.decode("latin-1")
    if kind == b"zTXt":
        return _decompressed(data[1:]).decode("latin-1")
    parts = data[2:].split(b"\0", 2)  # the language, the translated keyword, the text
    if len(parts) < 3:
        raise ValueError("its text is damaged")
    return (_decompressed(parts[2]) if data[0] else parts[2]).decode("utf-8")


def _decompressed(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, LONGEST_TEXT)
    except zlib.error:
        raise ValueError("its text is damaged") from None
    if not stream.eof:
        raise ValueError("its text is too long, or cut off")
    return text
