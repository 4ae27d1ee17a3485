"""Paths of files in actions: relative, inside the root, and read as the same file by every engine.

The protocol asks for a URI-encoded path relative to the root (RFC 2396); it also allows absolute ones, which name files
outside and are refused here. All other refused paths are those that an engine cannot read, as tried:

- Spark (java.net.URI) stops at blanks, control characters, `"<>[]^`{|}` and backslashes that are not encoded, and at
  Unicode blanks; at `%` without two hexadecimal digits; and at a colon, encoded or not, on a file system;
- DuckDB (delta-kernel) stops at `%` without two hexadecimal digits, and at escapes that are no UTF-8;
- delta-rs stops at absolute paths, empty segments and control characters, and reads up to an unencoded `#` or `?`.

An escape of a letter, digit, `-._~` or `/` is refused, too: all engines read it, but as a second name of one file.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from springline.delta.limits import MAX_PATH_BYTES
from springline.paths import delta_log_dir


class BadPath(ValueError):
    """A path cannot be used; the message goes on from the path itself."""


_LOG_FOLDER = delta_log_dir("root").rpartition("/")[2]
_PLAIN = re.compile(r"[A-Za-z0-9=-][A-Za-z0-9._=-]*(?:/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_NEEDLESS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
_MUST_BE_ESCAPED = frozenset(' "<>[]^`{|}\\#?')
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def decoded_path(path: str) -> str:
    """Return the name of the file that `path` stands for, relative to the root. Raises `BadPath`."""
    if len(path) <= MAX_PATH_BYTES and _PLAIN.fullmatch(path):
        return path
    if path == "":
        raise BadPath("is empty")
    if len(path) > 3 * MAX_PATH_BYTES:
        raise BadPath(f"is longer than {MAX_PATH_BYTES} bytes, which no object store takes")
    if path.startswith("/") or _SCHEME.match(path):
        raise BadPath("is absolute; files of a table are named relative to its root")
    for character in path:
        if character in _MUST_BE_ESCAPED:
            raise BadPath(f"holds {character!r}, which must be percent-encoded")
        if character < " " or character == "\x7f" or (character > "\x7f" and _is_odd(character)):
            raise BadPath(f"holds the character U+{ord(character):04X}, which engines cannot read in a path")
    for escape in _ESCAPE.finditer(path):
        if escape[1] is None:
            raise BadPath("holds a % that two hexadecimal digits do not follow; encode it as %25")
        byte = int(escape[1], 16)
        if byte in _NEEDLESS:
            raise BadPath(f"holds {escape[0]}, a needless escape of {chr(byte)!r}; one file has one name")
        if byte < 0x20 or byte == 0x7F:
            raise BadPath(f"holds {escape[0]}, a control character, which engines cannot read in a path")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise BadPath("holds escapes that are not UTF-8") from None
    if len(decoded.encode()) > MAX_PATH_BYTES:
        raise BadPath(f"is longer than {MAX_PATH_BYTES} bytes, which no object store takes")
    if ":" in decoded:
        raise BadPath("holds a colon, which Spark cannot read in a file's name")
    segments = decoded.split("/")
    if ".." in segments:
        raise BadPath("leads out of a folder by '..'")
    if "." in segments:
        raise BadPath("holds a segment '.'; one file has one name")
    if segments[-1] == "":
        raise BadPath("names a folder, not a file")
    if "" in segments:
        raise BadPath("holds an empty segment")
    if segments[0].lower() == _LOG_FOLDER:
        raise BadPath("lies in the table's log")
    return decoded


def _is_odd(character: str) -> bool:
    """Say whether java.net.URI refuses an unencoded character beyond ASCII."""
    return unicodedata.category(character) in ("Cc", "Zs", "Zl", "Zp", "Cs")
