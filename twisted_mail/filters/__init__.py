"""Filters that others have written, asked as a mail server asks them: milters, rspamd, clamd, spamd.

`interfaces` has what goes in and what comes out, `chain` runs several in a row. No filter can make anything here raise,
and none is waited for longer than its settings say.
"""
