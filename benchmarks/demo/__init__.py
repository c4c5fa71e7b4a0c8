"""Recipe of the demonstration checkpoint: see `docs/demo-model.md`.

data           photographs in motion and real video become clips with a known clean picture
degrade        clean frames become what a bad camera and a stingy encoder leave of them
sample         cuts the clips into batches
model          the member's sizes
layout         which channel holds what
denoiser       what restores; it is trained first, alone
init           a network that else passes the picture through; start_encoder is its first half
batch          several clips through the stateful network at once
train          the stages and the loop; resumable
export         writes the checkpoint in the published layout
plot           the logs of all attempts, drawn
"""
