"""Line ends on the way in: whatever arrives is kept with LF alone.

CRLF is a line end. A bare LF is taken for one as well, a bare CR becomes a space (what Postfix does with its
``smtpd_forbid_bare_newline = normalize`` and ``cleanup_replace_stray_cr_lf``), so nothing a peer sends can be read
as a line end by one server and as text by another. `LineNormalizer.bare` says that it happened: a site may refuse.
"""

from __future__ import annotations

__all__ = ["LineNormalizer"]


class LineNormalizer:
    """Turn a stream of blocks, cut anywhere, into the same text with LF line ends."""

    __slots__ = ("_ends_line", "_held", "bare", "ended")

    def __init__(self) -> None:
        self.ended = 0
        """The LFs in what `feed` has given last."""
        self.bare = False
        self._held = False
        self._ends_line = True

    def feed(self, block: bytes) -> bytes:
        """The normalised form of `block`; a CR at its end is held until the next one."""
        if not self._held:
            # Nearly always there is CRLF and nothing else. One octet is found by memchr: to take the CRs out and to see
            # that they belong before the LFs costs a fifth of one search for CRLF.
            text = block.replace(b"\r", b"")
            if text.replace(b"\n", b"\r\n") == block:
                self.ended = len(block) - len(text)
                if text:
                    self._ends_line = text.endswith(b"\n")
                return text
        return self._normalised(block)

    def _normalised(self, block: bytes) -> bytes:
        if self._held:
            block = b"\r" + block
        self._held = block.endswith(b"\r")
        if self._held:
            block = block[:-1]
        self.ended = 0
        if not block:
            return b""
        out = block.replace(b"\r\n", b"\n")
        self.ended = out.count(b"\n")
        if self.ended != len(block) - len(out):
            self.bare = True
        if b"\r" in out:
            self.bare = True
            out = out.replace(b"\r", b" ")
        self._ends_line = out.endswith(b"\n")
        return out

    def finish(self) -> bytes:
        """What is still held, and the last line's end when it has none (BDAT need not send one)."""
        out = b""
        if self._held:
            self.bare = True
            self._ends_line = False
            out = b" "
        if not self._ends_line:
            out += b"\n"
        return out
