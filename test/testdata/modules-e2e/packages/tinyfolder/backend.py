"""A build backend (PEP 517) of the standard library alone: writes a wheel that holds one module."""

import os
import sys
import zipfile


def write_wheel(folder, name="tinyfolder", version="1.0", requires=(), padding=0):
    stem = f"{name}-{version}"
    info = f"{stem}.dist-info"
    metadata = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files = {
        f"{name}.py": f'"""Made for a test."""\n\nVERSION = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: berth-test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    file_name = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, file_name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        if padding:
            wheel.writestr(f"{name}_data.bin", b"\0" * padding)
            files[f"{name}_data.bin"] = ""
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))
    return file_name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return write_wheel(wheel_directory)


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("only wheels")


if __name__ == "__main__":
    target, wheel_name, wheel_version, bytes_more, *needs = sys.argv[1:]
    print(write_wheel(target, wheel_name, wheel_version, needs, int(bytes_more)))
