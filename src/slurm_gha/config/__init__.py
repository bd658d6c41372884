"""The configuration file: its schema, its loading with located mistakes, its units."""
