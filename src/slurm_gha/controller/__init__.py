"""The loop: observe, plan, act."""
