"""What a bundle holds and how fast it could be at best, as data and as a picture.

Only `cli` imports this room. It takes the runtime's memory plan as data and never imports `runtime`.
"""
