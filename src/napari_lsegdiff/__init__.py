"""The napari plugin of LSegDiff; importing it loads neither Qt nor torch."""
