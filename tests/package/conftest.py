"""Drawn examples: new ones at every run, but for CI, whose verdict must not depend on luck."""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("repeatable")
