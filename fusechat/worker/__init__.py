"""The process of one stage: what it is given, how it starts, stops and reports. Which work it does is in `stages`."""
