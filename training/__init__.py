"""Tools that make and train the embedded model; not part of the installed package."""
