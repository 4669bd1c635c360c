"""`python -m twisted_mail.imap docs/imap.md` brings the table of what is supported up to date."""

import sys
from pathlib import Path

from .reference import table, updated

if len(sys.argv) == 2:
    page = Path(sys.argv[1])
    page.write_text(updated(page.read_text()))
else:
    sys.stdout.write(table() + "\n")
