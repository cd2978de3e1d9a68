"""The checker of types and shapes that the tests put on every function of some modules; an int is a float as well."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
