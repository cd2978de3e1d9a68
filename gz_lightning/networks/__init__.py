"""Networks, their derivatives, and many of them as one tensor of parameters."""
