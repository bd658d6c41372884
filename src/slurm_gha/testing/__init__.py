"""Verified fakes and private clusters: shipped, documented, used by the demo and the tests."""
