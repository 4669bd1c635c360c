"""The DNS as this program asks it: an interface with typed answers, and the resolver behind it."""
