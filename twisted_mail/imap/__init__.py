"""IMAP: engine, session, protocol."""
