"""Images, masks and their geometry; no torch."""
