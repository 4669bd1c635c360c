"""The SMTP client's engine: bytes ↔ replies."""
