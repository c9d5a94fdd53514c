"""What runs in a process of its own, one for each peer.

This folder stands alone: the interpreter that runs it has the peer and NumPy, and often nothing else, so modules import
each other relatively, and none but `with_graphengine` and the script `first_step` imports the engine.
"""
