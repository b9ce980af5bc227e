"""The fast path of ANI: descriptors by terms and networks by ensembles, compiled or in torch."""
