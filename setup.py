"""What setup.cfg cannot say: the part that is compiled, where there is a compiler."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Optional: a worker without it is slower with short jobs, that is all.
        Extension("simple_worker._clone", ["simple_worker/_clone.c"], optional=True)
    ]
)
