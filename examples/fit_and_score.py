"""
Fit on a folder and score another
=================================

The shortest way: a folder of good images in, decisions and heat maps out.
"""

# %%
# Two folders as a line would have them: good parts, and new parts of which some are damaged.
# Here they are tiles of a photograph of bricks.

import tempfile
from pathlib import Path

from PIL import Image
from skstructcore import load, make_structcore, save
from skstructcore.datasets import make_photographs

images = make_photographs("brick", n_train=60, n_test_good=6, n_test_defect=1, random_state=0)
root = Path(tempfile.mkdtemp())
for folder, part in (("good", images.train), ("new", images.test)):
    (root / folder).mkdir()
    for i, (tile, label) in enumerate(zip(part, part.y, strict=True)):
        Image.fromarray(tile).save(root / folder / f"{i:02d}_{label}.png")

# %%
# `fit` takes the folder. Nothing is trained: a memory bank of good patches is selected, and what
# good images score is measured. 0.9 asks for at most 10 % false alarms, which is what 60 tiles of
# about ten parts of the photograph can promise.

pipe = make_structcore(
    "efficientnet_lite0", features__image_size=128, structcore__false_alarm_rate=0.1
)
pipe.fit(root / "good", bank__groups=images.train.groups)

# %%
# Decisions: +1 accepts, -1 rejects. `describe` says why.

files = sorted((root / "new").iterdir())
decisions = pipe.predict(files)
parts = pipe[-1].describe(pipe[:-1].transform(files))
parts.insert(0, "file", [file.name for file in files])
parts[["file", "anomaly_score", "p_value", "is_anomalous", "decided_by"]].round(3)

# %%
# The model as a file: a few hundred kilobytes, read without running code.

save(pipe, root / "brick.structcore")
again = load(root / "brick.structcore")
assert (again.predict(files) == decisions).all()

# %%
# And a heat map, on the image that it belongs to.

import matplotlib.pyplot as plt

worst = int(parts["anomaly_score"].argmax())
heat = pipe.transform([files[worst]])[0]
_, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
left.imshow(Image.open(files[worst]))
left.set_title(files[worst].name)
shown = right.imshow(heat, cmap="cividis")
right.set_title("anomaly map")
plt.colorbar(shown, ax=right, label="distance to good patches")
for ax in (left, right):
    ax.set_axis_off()
plt.show()
