"""The bundle: the contract between the exporter, the compilers and the runtime.

Every other room may import this one. It imports nothing of ours but `errors` and `text`.
"""
