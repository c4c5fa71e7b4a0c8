"""The published network in plain torch, as the checkpoint states it.

    checkpoint    reads a checkpoint directory
    dit           the transformer
    reae          the autoencoder
    windows       which tokens attend to each other
    pixels        frames to network input and back
    reference     the whole network, chunk by chunk

`export`, benchmarks and tests may import it. It imports nothing of `export.graph`.
"""
