"""The pure core: tables for each rule, and random histories against naive models."""
