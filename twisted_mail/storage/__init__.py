"""The commit and the mailboxes: journal, Maildir++, index. Knows no protocol."""
