"""
A camera loop
=============

Frames come as OpenCV gives them: BGR. The model was fitted with RGB, and most good frames are
rejected if nobody turns the channels round. ``channels=(2, 1, 0)`` at the fit says it once for a
model that sees frames only; here the frame is turned, so that files and frames go to one model.
"""

from collections import deque

import matplotlib.pyplot as plt
import numpy as np
from skstructcore import make_structcore, warm_up
from skstructcore.datasets import make_photographs
from skstructcore.display import AnomalyMapDisplay
from skstructcore.images import as_images

# %%
# Frames. With a camera it is ``cv2.VideoCapture(0)`` and its ``read``; of a GenICam camera the
# array is mono8 or mono12 ``(h, w)``, which goes in as it is (mono12 as uint16, fitted with such
# images), or Bayer, which ``cv2.cvtColor(frame, cv2.COLOR_BayerRG2RGB)`` turns into RGB.
images = make_photographs(
    "brick", tile_size=64, n_train=30, n_test_good=4, n_test_defect=2, random_state=0
)


def frames():
    """Grab frames, BGR as from OpenCV: a stand-in for ``capture.read()``."""
    for i in range(len(images.test)):
        pixels = np.asarray(as_images(images.test).read(i))
        yield pixels[..., ::-1]


# %%
# Fit, or ``skstructcore.load``; then warm up, so that the first part is not judged late.
pipe = warm_up(make_structcore("efficientnet_lite0", features__image_size=64).fit(images.train))

# %%
# The loop. The last rejected frames are kept in a ring buffer, with the map to look at.
rejected = deque(maxlen=100)
for number, frame in enumerate(frames()):
    rgb = np.ascontiguousarray(frame[..., ::-1])
    maps = pipe[:-1].transform([rgb])
    verdict = pipe[-1].describe(maps).iloc[0]
    if verdict["is_anomalous"]:
        overlay = pipe[-1].transform(maps)[0]
        rejected.append((number, rgb, overlay))
    print(number, "rejected" if verdict["is_anomalous"] else "good", f"p={verdict['p_value']:.3f}")
print(f"{len(rejected)} frames rejected")

# %%
# What was rejected, to look at.
AnomalyMapDisplay.from_estimator(pipe, [rgb for _, rgb, _ in rejected][:3])
plt.show()
