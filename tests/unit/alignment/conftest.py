"""Property tests here draw the same examples each time and have no deadline: compiling the warping takes seconds."""

from hypothesis import settings

settings.register_profile("alignment", deadline=None, derandomize=True)
settings.load_profile("alignment")
