"""Restores live streams: from one URL to another, with a latency that is chosen and shown."""
