"""Where news of demand comes from: each source turns what GitHub tells into hints."""
