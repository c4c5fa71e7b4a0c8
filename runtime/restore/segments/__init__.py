"""Restores a video in pieces that survive an interruption, and joins them."""
