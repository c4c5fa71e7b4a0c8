"""Recipe of the demonstration checkpoint in `export/demo`: see `docs/demo-model.md`.

data     photographs become moving clips with a known clean picture
degrade  clean frames become what a bad camera and a stingy encoder leave of them
sample   cuts the clips into batches
model    the member's sizes
init     a start that already reconstructs: copies, principal components and least squares instead of noise
batch    several clips through the stateful network at once
muon     the optimiser, and means, what it needs to know of the features
train    the loop; resumable
export   writes the checkpoint in the published layout
plot     the logs of all attempts, drawn
"""
