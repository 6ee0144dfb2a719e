"""An AWS to rehearse on: moto in a background process of this machine, and Docker containers as its instances.

Nothing here is imported by the real path, except by the one function that chooses where AWS is.
"""
