"""How a message gets to the hosts of a destination: which hosts, over which TLS, and what they said (`carrier`)."""
