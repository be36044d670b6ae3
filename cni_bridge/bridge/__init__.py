"""The bridge plugin: a veth pair per pod, its host end a port of a Linux bridge.

`verbs` is what the protocol's skeleton calls. `config` and `plan` are pure; the others each own one piece of kernel state.
"""
