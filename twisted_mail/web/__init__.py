"""A web server for the few pages that a mail server has to have; `server` speaks HTTP, `pages` knows what is there."""
