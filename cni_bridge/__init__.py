"""Pod networking by the Container Network Interface: plugins that a runtime executes, one process per request.

Every module that a request passes through imports C modules and modules of this package only (`cni_bridge.fast` says
which): a plugin lives for some ten milliseconds, and an ordinary import such as `re` or `json` costs half of that.
"""
