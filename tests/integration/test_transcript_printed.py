"""The transcript of a ceremony on paper, as Chromium prints it."""

from __future__ import annotations

import re
from pathlib import Path

from pki.ceremony.offline import machine_check, session
from tests.integration.conftest import run
from tests.support.ceremonies import real_home


def test_first_sheet_says_what_was_made_and_has_the_signatures_and_every_sheet_has_its_number(tmp_path: Path) -> None:
    home = real_home(tmp_path)
    asked = home.ask()
    swap = machine_check.MachineCheck("swap", "swap is on", ok=False, remedy="swapoff -a")
    ceremony = home.open(asked.path)
    session.check_machine_is_fit(ceremony, [swap], "the disk is destroyed afterwards")
    ceremony.transcript.settle()
    page = home.answer(asked.path) / "transcript.html"
    printed = tmp_path / "transcript.pdf"
    run(
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer", f"--print-to-pdf={printed}", page),
    )
    sheets = [" ".join(sheet.split()) for sheet in run("pdftotext", "-layout", printed, "-").split("\f")[:-1]]
    for number, sheet in enumerate(sheets, 1):
        assert sheet.endswith(f"page {number} of {len(sheets)}")
    for said in ("The key of root-1 was made", "the disk is destroyed afterwards", "Seals", "drive copy"):
        assert said in sheets[0]
    assert re.search(r"Operator Witness .*signature signature", sheets[0])
    assert sheets[1].startswith("Technical record")
    assert not [sheet for sheet in sheets[1:] if "signature signature" in sheet]
