"""Container images for runners: a catalogue of them, and the forms in which nodes use them."""
