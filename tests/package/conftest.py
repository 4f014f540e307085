"""Drawn examples: new ones at every run, but for CI, whose verdict must not depend on luck.

How long an example takes on a busy machine says nothing about it.
"""

import os

from hypothesis import settings

settings.register_profile("drawn", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable" if os.environ.get("CI") else "drawn")
