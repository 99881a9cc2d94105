"""Linear-Gaussian state space: filter, smoother, sampling, forecasts, EM and mixtures of systems. Pure functions on named containers."""
