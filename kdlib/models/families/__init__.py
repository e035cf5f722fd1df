"""The record of each family, without PyTorch; to add a family, write its module and name it in the list below.

A record says where a network and its backends are found; the network itself lives in :mod:`kdlib.models`.
"""

from kdlib.models.families import glance, grid, iat, msafn, zero_dce

RECORDS = (zero_dce.FAMILY, glance.FAMILY, grid.FAMILY, iat.FAMILY, iat.STUDENT, msafn.FAMILY, msafn.STUDENT)
