"""FuseChat: knowledge fusion of chat models, from one FuseJob (arXiv 2402.16107)."""

__version__ = "0.1.0"
