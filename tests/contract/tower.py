"""beartype with PEP 484's numeric tower: an int is welcome where a float is asked for, as every type checker has it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
