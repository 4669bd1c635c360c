"""A site on many cores: one process keeps the sockets and the site's own duties, workers serve the clients."""
