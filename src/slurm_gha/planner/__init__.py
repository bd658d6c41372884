"""Pure decisions over frozen values."""
