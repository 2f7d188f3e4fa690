"""Energies for guidance, one file each: differentiable scalars of attention maps, features and the prediction P_t."""
