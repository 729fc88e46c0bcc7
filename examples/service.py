"""
An HTTP service
===============

A model file and thirty lines of FastAPI. ``uvicorn service:app`` would serve it; here a test client
asks. Needs ``fastapi``, ``httpx`` and ``python-multipart``.
"""

import io
import tempfile
from pathlib import Path

from fastapi import FastAPI, HTTPException, UploadFile
from fastapi.testclient import TestClient
from PIL import Image, UnidentifiedImageError

from skstructcore import load, make_structcore, save
from skstructcore.datasets import make_photographs

# %%
# In the office: fit and save.

images = make_photographs("brick", n_train=40, n_test_good=2, n_test_defect=1, random_state=0)
path = Path(tempfile.mkdtemp(), "brick.structcore")
pipe = make_structcore(
    "efficientnet_lite0", features__image_size=128, structcore__false_alarm_rate=0.15
)
save(pipe.fit(images.train), path)

# %%
# On the line: load once, answer many times. A fitted pipeline may be asked from several threads.
# The first image takes seconds, because the network is loaded and kernels are compiled: a blank one
# goes first, before the service takes requests.

app = FastAPI()
model = load(path)
model.predict([Image.new("RGB", (128, 128))])


@app.post("/score")
def score(image: UploadFile) -> dict:
    try:
        picture = Image.open(io.BytesIO(image.file.read()))
        maps = model[:-1].transform([picture])
    except UnidentifiedImageError:
        raise HTTPException(422, f"{image.filename} is no image that can be read") from None
    except (OSError, ValueError) as error:
        raise HTTPException(422, f"{image.filename}: {error}") from error
    parts = model[-1].describe(maps).iloc[0]
    return {
        "accept": not parts["is_anomalous"],
        "p_value": round(float(parts["p_value"]), 4),
        "decided_by": parts["decided_by"],
        "peak": [round(float(parts["peak_row"])), round(float(parts["peak_col"]))],
    }


# %%
# A good part, a damaged one, and a file that is no image.

client = TestClient(app)


def ask(name, content):
    answer = client.post("/score", files={"image": (name, content)})
    print(answer.status_code, name, answer.json())
    return answer.json()


for kind in ("good", images.test.y[-1]):
    tile = next(t for t, label in zip(images.test, images.test.y, strict=True) if label == kind)
    png = io.BytesIO()
    Image.fromarray(tile).save(png, "png")
    found = ask(f"{kind}.png", png.getvalue())
ask("notes.txt", b"no image")

# %%
# The damaged part, and where the answer points.

import matplotlib.pyplot as plt

_, ax = plt.subplots(figsize=(3.4, 3.4), layout="constrained")
ax.imshow(tile)
ax.plot(*found["peak"][::-1], "o", ms=26, mfc="none", mec="#D55E00", mew=2)
ax.set_title(f"rejected, p-value {found['p_value']}" if not found["accept"] else "accepted")
ax.set_axis_off()
plt.show()
