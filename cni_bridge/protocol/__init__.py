"""The contract between a runtime and a plugin process (CNI specification 1.1.0): no networking here."""
