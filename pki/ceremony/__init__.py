"""The offline root: what a person does rarely, at a machine of its own, with files as the only bridge."""
