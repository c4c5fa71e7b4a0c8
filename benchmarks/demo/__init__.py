"""Recipe of the demonstration checkpoint: see `docs/demo-model.md`.

data           makes clips with a known clean picture, from photographs in motion and from real video
degrade        damages clean frames as a noisy capture at a high bit rate does
sample         cuts the clips into batches
model          the sizes of the network
layout         which channel holds what
denoiser       the part that restores; it is trained first, alone
init           initial weights that pass the picture through; start_encoder computes the encoder's
batch          runs several clips through the stateful network at once
train          the loss and the training loop; resumable
export         writes the checkpoint in the published layout
"""
