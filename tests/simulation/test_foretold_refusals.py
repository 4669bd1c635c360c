"""A dry run whose recipients are all refused says nothing of what would have been decided."""

from __future__ import annotations

import pytest
from simulated_sites import BOB
from test_explained_sites import foretold, heard
from test_judged_sites import Judged


@pytest.mark.parametrize(("to", "said"), [("nobody@two.example", False), (BOB, True)])
def test_what_is_decided_is_told_of_what_is_taken(tmp_path, to, said):
    judged = Judged(tmp_path)
    try:
        found = foretold(judged, judged.two, "x@forger.example", to)
    finally:
        judged.stop()
    assert ("accepted" in heard(found)) == said
    assert "SPF of MAIL FROM" in heard(found)
    assert found.outcome == ("" if said else "refused")
