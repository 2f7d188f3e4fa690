"""Energies for guidance: differentiable scalar losses of attention maps, features and the prediction P_t."""
