"""SMTP and LMTP from the client's side: engine (bytes ↔ replies), conversation (what to say), protocol (transport)."""
