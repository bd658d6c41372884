"""The journal: intents, ids and outcomes, on disk before they matter."""
