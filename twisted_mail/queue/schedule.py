"""When what is tried. Pure."""
