"""The core: values in, values out. No I/O, clock, randomness or logging anywhere below this package."""
