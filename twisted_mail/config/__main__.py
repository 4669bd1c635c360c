"""`python -m twisted_mail.config > docs/configuration.md`"""

import sys

from .reference import markdown

sys.stdout.write(markdown())
