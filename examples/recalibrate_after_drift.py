"""
Recalibrate after drift
=======================

A lamp is replaced, and everything is a little brighter. The monitor says so, with a bound on the
chance of ever crying wolf; fresh good images set the threshold anew, and the old model stays as it
was.
"""

import matplotlib.pyplot as plt
import numpy as np
from skstructcore import DriftMonitor, describe, make_structcore, recalibrate
from skstructcore.datasets import make_photographs
from skstructcore.display import DriftDisplay

images = make_photographs("gravel", n_train=60, n_test_good=60, n_test_defect=1, random_state=0)
pipe = make_structcore(
    "efficientnet_lite0", features__image_size=128, structcore__false_alarm_rate=0.1
)
pipe.fit(images.train)


def brighter(tiles, factor):
    return [np.clip(factor * tile.astype(float), 0, 255).astype(np.uint8) for tile in tiles]


good = [tile for tile, label in zip(images.test, images.test.y, strict=True) if label == "good"]

# %%
# Twenty images of the line as it was, then the new lamp. An alarm says when something changed, and
# what. The picture shows the evidence of a change after each image.

lamp = brighter(good[20:], 1.4)
monitor = DriftMonitor(pipe, alpha=0.05)
DriftDisplay.from_predictions(describe(pipe, good[:20] + lamp), monitor)
plt.show()
monitor.alarms_

# %%
# Half of the images under the new lamp recalibrate, the others show what that changes. `force`
# says that we have looked: many of them are far from what the model knows.

fresh, later = lamp[:20], lamp[20:]
again = recalibrate(pipe, fresh, force=True)
before, after = ((model.predict(later) == -1).mean() for model in (pipe, again))
print(f"good images rejected: {before:.0%} before, {after:.0%} after")
again[-1].recalibration_.thresholds
