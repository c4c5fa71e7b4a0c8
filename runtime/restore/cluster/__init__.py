"""Restores videos on the nodes of a Ray cluster. Ray is imported here and nowhere else."""
