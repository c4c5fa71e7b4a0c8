"""The chunk loop: which frames form a chunk, which steps it takes, which memory it needs, and the session that runs it.

Pure Python over a small `Device` protocol; the devices are in `runtime.devices`. All of `runtime`, `export.verify` and
`cli` may import this room. It imports nothing of ours but `engines.bundle`, `errors` and `text`.
"""
