"""The demo: three small chat models of three architectures, trained from real text, and the job that fuses them."""
