"""What a message says: pure functions over bytes. Stored content has LF line ends."""
