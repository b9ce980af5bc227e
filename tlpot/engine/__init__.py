"""The fast path of ANI: constant descriptors kept with their Jacobians, networks fused."""
