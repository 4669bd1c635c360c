"""``twistd -ny mail.tac``: serves what mail.toml beside this file says, or the file that TWISTED_MAIL_CONFIG names."""

from twisted_mail.tap import make_application

application = make_application(__file__)
