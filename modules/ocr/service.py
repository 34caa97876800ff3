"""Text recognition: a picture goes in, one answer comes out for each line of text found in it, from top to bottom.

    berth infer ocr --file notice.png
"""

import base64
import io
import os

import cv2
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

THREADS = min(4, os.cpu_count() or 1)
cv2.setNumThreads(THREADS)


class BoundedSession(onnxruntime.InferenceSession):
    """onnxruntime starts one thread per core of the machine, and RapidOCR has no setting for it."""

    def __init__(self, path, sess_options, **others):
        sess_options.intra_op_num_threads = THREADS
        super().__init__(path, sess_options=sess_options, **others)


onnxruntime.disable_telemetry_events()
onnxruntime.InferenceSession = BoundedSession  # before RapidOCR imports it
from rapidocr_onnxruntime import RapidOCR

models = {}


def SERVICE_LOAD_MODELS(Models):
    for name in Models:
        if name not in models:
            models[name] = RapidOCR()


def SERVICE_OFFLOAD_MODELS(Models):
    for name in Models:
        models.pop(name, None)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    """Each yield is on its way to the client at once, and a client that leaves ends the generator at its next one."""
    for picture in _pictures(UserParameters.get("conversation", [])):
        lines, _ = models[Name](picture)
        for box, text, score in lines or []:
            # box: the four corners in pixels, clockwise from the top left. score: 0 to 1.
            yield {"text": text + "\n", "extra": {"box": box, "score": float(score)}}


def _pictures(conversation):
    """The pictures in the user's last message, as RapidOCR wants them: rows of blue, green, red."""
    user = [message for message in conversation if message.get("role") == "user"]
    content = user[-1]["content"] if user else []
    # `berth infer --file` makes {"type": "image", "image": <base64>} of a picture, and "file" of what it doesn't know.
    encoded = [entry[entry["type"]] for entry in content if entry.get("type") in ("image", "file")]
    if not encoded:
        raise ValueError("no picture to read: send one in the conversation as {'type': 'image', 'image': <base64>}")
    for data in encoded:
        try:
            picture = ImageOps.exif_transpose(Image.open(io.BytesIO(base64.b64decode(data)))).convert("RGBA")
        except (ValueError, OSError):
            raise ValueError("the file is no picture that can be read (PNG, JPEG, WebP, TIFF, BMP and GIF can)") from None
        page = Image.new("RGBA", picture.size, "white")  # what is transparent becomes white
        page.alpha_composite(picture)
        yield np.asarray(page.convert("RGB"))[:, :, ::-1]
