"""RapidOCR asks for opencv-python, which needs the libraries of a desktop. The same code without windows does here."""

from Utilities.install_requirements import InstallPackage


def Install(_):
    # Ranges, because no single release of these has wheels for all of Python 3.9 to 3.14.
    InstallPackage([
        "opencv-python-headless==4.11.0.86",
        "numpy>=2.0.2,<3",
        "onnxruntime>=1.19,<2",
        "pillow>=11,<14",
        "pyclipper>=1.3.0.post6,<2",
        "pyyaml>=6,<7",
        "shapely>=2.0.7,<3",
        "six>=1.16,<2",
    ])
    # The models come inside. Later releases refuse Python 3.13 and newer, this one runs on 3.9 to 3.14.
    InstallPackage(["rapidocr-onnxruntime==1.2.3"], PIPOptions=["--no-deps"])
