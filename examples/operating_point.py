"""
Choose the operating point
==========================

How many good parts may be thrown away, and what is found then? The first is expected, the second
an estimate from painted defects; both are there before anybody has seen a real defect.
"""

from skstructcore import make_structcore, operating_points, recalibrate
from skstructcore.datasets import make_photographs

images = make_photographs("brick", n_train=80, n_test_good=30, n_test_defect=4, random_state=0)
pipe = make_structcore(
    "efficientnet_lite0", features__image_size=128, structcore__false_alarm_rate=0.1
)
pipe.fit(images.train)

# %%
# `painted_found` is the share of defects found that were painted into held-out copies of training
# images; `smallest_found` the size, as a share of the shorter side, from which on 90 % are.

table = operating_points(pipe, images.train, false_alarm_rates=[0.08, 0.15, 0.3], n_painted=15)
table.round(3)

# %%
# With labelled images the table also has what is really found, with confidence limits. Thirty good
# images leave them wide.

measured = operating_points(pipe, images.test, false_alarm_rates=[0.08, 0.15, 0.3], n_painted=15)
columns = ["false_alarm_rate", "false_alarms_low", "false_alarms", "false_alarms_high", "found"]
measured[columns].round(3)

# %%
# The same as a picture, and the choice: a new threshold, without a new fit.

import matplotlib.pyplot as plt
from skstructcore.display import OperatingPointDisplay

OperatingPointDisplay.from_estimator(pipe, images.test)
plt.show()
chosen = recalibrate(pipe, false_alarm_rate=0.15)
print(f"threshold {-pipe[-1].offset_:.2f} -> {-chosen[-1].offset_:.2f}")
