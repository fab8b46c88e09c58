"""Words of a run on few made-up pictures, which several tests begin with."""

SYNTHETIC = [
    "train",
    "device=cpu",
    "device.threads=1",
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_rows=160",
]
