"""Drop-in replacements for other ISO 8583 packages. Nothing else of the library uses them."""
